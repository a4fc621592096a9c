package demo

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/agentlet/agentlet/e2e/observe"
)

// count returns how many lives have passed a station.
func count(lives []observe.Life, station observe.Station) (n int) {
	for _, life := range lives {
		if _, passed := life.At[station]; passed {
			n++
		}
	}
	return n
}

// address matches the parts of an error that differ between two failures of one kind.
var address = regexp.MustCompile(`^Get "[^"]*": | ?\b\d+\.\d+\.\d+\.\d+:\d+(->)?`)

// failures returns a line for each kind of failure, with its number.
func failures(errs map[string]int) []string {
	kinds := map[string]int{}
	for text, n := range errs {
		kinds[strings.Join(strings.Fields(address.ReplaceAllString(text, "")), " ")] += n
	}
	lines := make([]string, 0, len(kinds))
	for _, text := range slices.Sorted(maps.Keys(kinds)) {
		lines = append(lines, fmt.Sprintf("  failed: %d × %s", kinds[text], text))
	}
	return lines
}

// disorders returns the violations of the promised order: a pod is Ready only when the catalog has it, and gets SIGTERM only
// after the catalog has removed it.
func disorders(fresh, old []observe.Life) (errs []error) {
	for _, life := range fresh {
		if took, ok := life.Between(observe.InCatalog, observe.Ready); !ok || took < 0 {
			errs = append(errs, fmt.Errorf("%s was Ready before the catalog had it", life.Pod))
		}
	}
	for _, life := range old {
		if took, ok := life.Between(observe.OutOfCatalog, observe.Terminated); !ok || took < 0 {
			errs = append(errs, fmt.Errorf("%s was told to end before the catalog had dropped it", life.Pod))
		}
	}
	return errs
}

// passages returns the lines about a station that a pod has just passed. The agents are polled, while the catalog's changes
// arrive at once; if the catalog has an instance, its agent had it before.
func passages(life observe.Life, station observe.Station) []string {
	_, registered := life.At[observe.Registered]
	_, inCatalog := life.At[observe.InCatalog]
	switch {
	case station == observe.InCatalog && !registered:
		return []string{passage(sound(life), observe.Registered), passage(life, station)}
	case station == observe.Registered && inCatalog:
		return nil
	}
	return []string{passage(life, station)}
}

// passage returns a line about a station that a pod has just passed, with the time since its admission or deletion.
func passage(life observe.Life, station observe.Station) string {
	from := observe.Admitted
	if _, dying := life.At[observe.Deleted]; dying {
		from = observe.Deleted
	}
	name := life.Pod
	if name == "" {
		name = life.UID // Consul showed it before the API server reported its name
	}
	line := fmt.Sprintf("%s  %-18s", name, station)
	if took, ok := life.Between(from, station); ok {
		line += fmt.Sprintf("  +%d ms", took.Milliseconds())
	}
	return line
}
