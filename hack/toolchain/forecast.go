package toolchain

import (
	"fmt"
	"strings"
	"time"

	"github.com/agentlet/agentlet/hack/figures"
)

// forecast is how far a `go build` is, as told by the names that it prints: that of each package whose compilation begins, but
// none of those that its cache holds.
type forecast struct {
	// sizes of the sources of the packages that were not in the cache; nil as long as that is not known.
	sizes map[string]int64
	named map[string]bool
	// loaded is how many modules were downloaded.
	loaded int
	// began is when the first package was named: the time before goes into loading modules.
	began time.Time
}

// hear takes a line that the build printed, and reports whether it was about its progress.
func (f *forecast) hear(line string, now time.Time) bool {
	if strings.HasPrefix(line, "go: downloading ") {
		f.loaded++
		return true
	}
	if line == "" || strings.ContainsAny(line, " \t") { // an error, or the heading of errors
		return false
	}
	if f.named == nil {
		f.named, f.began = map[string]bool{}, now
	}
	f.named[line] = true
	return true
}

// tell says how far the build is: "512 of 1,890 packages, about 6 min left".
func (f *forecast) tell(now time.Time) string {
	if len(f.named) == 0 {
		if f.loaded > 0 {
			return "modules downloaded: " + figures.Thousands(f.loaded)
		}
		if f.sizes != nil && len(f.sizes) == 0 {
			return "linking"
		}
		return "looking for what has to be compiled"
	}
	if f.sizes == nil {
		return "packages compiled: " + figures.Thousands(len(f.named))
	}
	// What was compiled before the cache was asked is not in sizes.
	all, total, done := len(f.named), int64(0), int64(0)
	for name, size := range f.sizes {
		total += size
		if f.named[name] {
			done += size
		} else {
			all++
		}
	}
	if len(f.named) == all {
		return "linking"
	}
	text := figures.Thousands(len(f.named)) + " of " + figures.Thousands(all) + " packages"
	if left, ok := timeLeft(done, total, now.Sub(f.began)); ok {
		text += ", about " + left + " left"
	}
	return text
}

// An estimate is given from then on: before, one large package more or less would double it.
const (
	estimateAfter = 15 * time.Second
	estimateFrom  = 0.04
)

// timeLeft estimates from the size of the sources that were compiled so far. The packages' number says less: the largest take a
// hundred times as long as most.
func timeLeft(done, total int64, elapsed time.Duration) (string, bool) {
	if elapsed < estimateAfter || done <= 0 || float64(done) < estimateFrom*float64(total) {
		return "", false
	}
	left := time.Duration(float64(elapsed) * float64(total-done) / float64(done))
	if left > 90*time.Second {
		return fmt.Sprintf("%.0f min", left.Minutes()), true
	}
	return fmt.Sprintf("%d s", max(10, int(left.Seconds())/10*10)), true
}
