package chaos

import "time"

// Run is a campaign to be run.
type Run struct {
	Seed     uint64
	Duration time.Duration
	// Why it is kept.
	Why string
}

// Kept are the campaigns of make soak: a long one, and seeds that failed once, for as long as it takes to get there.
func Kept() []Run {
	return []Run{
		{Seed: 1, Duration: 15 * time.Minute, Why: "the long one"},
	}
}
