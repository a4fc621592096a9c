package chaos

import (
	"fmt"
	"strings"
	"time"
)

// Markdown returns the table of e2e/faults.md: which faults a campaign causes, and which requests may fail.
func Markdown() string {
	var b strings.Builder
	row := func(cells ...string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	row("fault or change", "lasts", "requests that may fail", "while pods are ended, too", "because")
	b.WriteString("|---|---|---|---|---|\n")
	for _, fault := range faults {
		lasts, ending := "", fault.May
		if fault.Lasts() {
			lasts = fmt.Sprintf("%s to %s", seconds(fault.Min), seconds(fault.Max))
		}
		if fault.MayEnding.Share > 0 {
			ending = fault.MayEnding
		}
		row(fault.Name, lasts, fault.May.String(), ending.String(), fault.Because)
	}
	for _, change := range changes {
		row(change.Name, "", change.May.String(), change.May.String(), change.Because)
	}
	return b.String()
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.0f s", d.Seconds()) }
