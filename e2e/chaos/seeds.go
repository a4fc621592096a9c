package chaos

import (
	"fmt"
	"time"
)

// Run describes a campaign.
type Run struct {
	Seed     uint64
	Duration time.Duration
	// Round, if not nil, replaces the walk: a round of the seed's walk that failed once. It stays the same when faults are added,
	// although the walk of the seed changes.
	Round []Step
	// Why is the reason why the run is kept.
	Why string
}

// Name returns the run's name, for files and tests.
func (r Run) Name() string {
	if r.Round != nil {
		return fmt.Sprintf("round-of-seed-%d", r.Seed)
	}
	return fmt.Sprintf("seed-%d", r.Seed)
}

// Again returns the command that repeats the run.
func (r Run) Again() string {
	if r.Round != nil {
		return "make e2e RUN=TestChaos/" + r.Name()
	}
	return fmt.Sprintf("make chaos DURATION=%s SEED=%d", r.Duration, r.Seed)
}

// Begin returns the run's steps on a cluster with this number of nodes. The cluster has the common things, and more.
func (r Run) Begin(nodes int, more ...Thing) Steps {
	if r.Round != nil {
		return &script{steps: r.Round}
	}
	return NewWalk(r.Seed, nodes, more...)
}

// script takes the steps of one round, and then only quiet moments.
type script struct {
	steps  []Step
	number int
}

func (s *script) Next() Step {
	step := Step{Kind: Quiet}
	if s.number < len(s.steps) {
		step = s.steps[s.number]
	}
	s.number++
	step.Number, step.Round = s.number, 1
	return step
}

// Kept returns the campaigns of `make soak`: a long one, and rounds that once found an error.
func Kept() []Run {
	return []Run{
		{Seed: 1, Duration: 15 * time.Minute, Why: "the long one"},
		{
			Seed: 1, Why: "/status kept a failed look at the catalog for ever, which nothing tried again", Round: []Step{
				{Kind: During, Name: "rollout", Pick: 1},
				{Kind: Begin, Name: "Consul agent away, having left", Node: 0, Pause: time.Second, For: 10 * second},
				{Kind: End, Name: "Consul agent away, having left", Node: 0, For: 10 * second},
			},
		},
		{
			Seed: 2, Why: "/status kept a registration without an answer for ever, which the agent had taken", Round: []Step{
				{Kind: Begin, Name: "Consul's quorum lost", For: 40 * second},
				{Kind: During, Name: "annotations changed", Pause: 5 * second, Pick: 3},
				{Kind: End, Name: "Consul's quorum lost", For: 40 * second},
			},
		},
		{
			Seed: 5, Why: "more than three quarters of the instances were of ended pods, and the allowance was a share of them", Round: []Step{
				{Kind: Begin, Name: "Consul's leader frozen", For: 9 * second},
				{Kind: During, Name: "scaling", Pick: 0},
				{Kind: During, Name: "deletion", Pick: 1},
				{Kind: End, Name: "Consul's leader frozen", For: 9 * second},
				{Kind: Begin, Name: "Consul's quorum lost", For: 58 * second},
				{Kind: During, Name: "deletion", Pause: 5 * second, Pick: 2},
				{Kind: End, Name: "Consul's quorum lost", For: 58 * second},
			},
		},
	}
}
