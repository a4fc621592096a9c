package registration

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// UnknownKeys returns a warning for each agentlet.dev/ annotation and label that has no effect on a pod, sorted, with
// the nearest known key where one is near. It returns at most maxWarnings of them, and how many are left out: those are not
// compared with what is known, which takes as long as all the rest of a pod.
func UnknownKeys(pod *corev1.Pod) []Warning {
	var annotations, labels []string
	ours := func(key string) bool {
		return strings.HasPrefix(key, contract.Prefix) && len(key) <= maxKey // of longer ones the API server will say so
	}
	for key := range pod.Annotations {
		if ours(key) {
			if _, _, known := contract.Lookup(key); !known {
				annotations = append(annotations, key)
			}
		}
	}
	for key := range pod.Labels {
		if ours(key) && key != contract.InjectLabel {
			labels = append(labels, key)
		}
	}
	slices.Sort(annotations)
	slices.Sort(labels)
	var warnings []Warning
	for _, key := range annotations[:min(len(annotations), maxWarnings)] {
		warnings = append(warnings, Warning{annotation(key).String(), fmt.Sprintf("annotation %s %s", key, noEffect(key))})
	}
	for _, key := range labels[:min(len(labels), maxWarnings-len(warnings))] {
		why := "has no effect: agentlet reads it from the annotations"
		if _, _, known := contract.Lookup(key); !known {
			why = noEffect(key)
		}
		warnings = append(warnings, Warning{label(key).String(), fmt.Sprintf("label %s %s", key, why)})
	}
	if left := len(annotations) + len(labels) - len(warnings); left > 0 {
		warnings = append(warnings, leftOut(left))
	}
	return append(warnings, injectWarnings(pod)...)
}

// Misplaced returns a warning where an object that is no pod has annotations or labels of pods, which have no effect there.
// where says it, as in "on a Service"; right is where they have one, and pod are those that the pods have. Of what looks like
// none of ours nothing is said: others may use the prefix, too.
func Misplaced(where, right string, labels, annotations, pod map[string]string) (warnings []Warning) {
	for _, from := range []struct {
		what   string
		path   func(key string) *field.Path
		values map[string]string
	}{
		{"annotation", annotation, annotations},
		{"label", label, labels},
	} {
		var keys []string
		for key := range from.values {
			if _, there := pod[key]; !there && strings.HasPrefix(key, contract.Prefix) && len(key) <= maxKey {
				keys = append(keys, key)
			}
		}
		slices.Sort(keys)
		keys = slices.DeleteFunc(keys[:min(len(keys), maxWarnings)], func(key string) bool {
			name, _, _ := strings.Cut(contract.Short(key), ".")
			return nearest(name, shortKeys()) == ""
		})
		if len(keys) > 0 {
			message := fmt.Sprintf("%s %s: no effect %s; agentlet reads it from %s", from.what, strings.Join(keys, ", "), where, right)
			warnings = append(warnings, Warning{from.path(keys[0]).String(), message})
		}
	}
	return warnings
}

// injectWarnings are for a value of inject that reads like an answer and is none.
func injectWarnings(pod *corev1.Pod) (warnings []Warning) {
	for _, where := range []struct {
		what   string
		path   func(key string) *field.Path
		values map[string]string
	}{
		{"annotation", annotation, pod.Annotations},
		{"label", label, pod.Labels},
	} {
		value, there := where.values[contract.InjectLabel]
		why := ""
		switch {
		case !there, contract.OptsOut(value):
		case !contract.OptsIn(value):
			why = fmt.Sprintf("has no effect; only %q opts a pod out", contract.InjectDisabled)
		case !Wanted(pod):
			why = fmt.Sprintf("registers nothing: annotation %s is missing", contract.ServiceNames)
		}
		if why != "" {
			path := where.path(contract.InjectLabel).String()
			warnings = append(warnings, Warning{path, fmt.Sprintf("%s %s: %q %s", where.what, contract.InjectLabel, Excerpt(value), why)})
		}
	}
	return warnings
}

// noEffect says why an unknown key has none.
func noEffect(key string) string {
	for _, k := range contract.Keys() {
		if k.Name == key {
			return "has no effect: it is a " + k.Where
		}
	}
	name, service, _ := strings.Cut(contract.Short(key), ".")
	if service != "" {
		service = "." + service
	}
	suggestion := nearest(name, func(yield func(string) bool) {
		for known := range shortKeys() {
			if (service == "" || podKeys[contract.Prefix+known].PerService) && !yield(known) {
				return
			}
		}
	})
	if suggestion == "" {
		return "is not known to agentlet"
	}
	return fmt.Sprintf("is not known to agentlet; did you mean %s%s%s?", contract.Prefix, suggestion, service)
}

// sortedKeys are the keys that a pod may have, without the prefix.
var sortedKeys = func() (short []string) {
	for _, key := range slices.Sorted(maps.Keys(podKeys)) {
		short = append(short, contract.Short(key))
	}
	return short
}()

// shortKeys yields them in their order.
func shortKeys() iter.Seq[string] { return slices.Values(sortedKeys) }

// didYouMean is the end of a message that names the candidate nearest to name, or nothing.
func didYouMean(name string, candidates iter.Seq[string]) string {
	if n := nearest(name, candidates); n != "" {
		return fmt.Sprintf("; did you mean %q?", n)
	}
	return ""
}

// nearest returns the candidate with the least edit distance to name, the first of equals, or nothing where even that
// one is no likely slip: more than a third of it would have to change.
func nearest(name string, candidates iter.Seq[string]) string {
	const longest = 64 // nothing longer is near to anything, and the effort is the product of the lengths
	if len(name) > longest {
		return ""
	}
	best, least := "", len(name)+1
	for candidate := range candidates {
		if len(candidate) > longest {
			continue
		}
		if d := distance(strings.ToLower(name), strings.ToLower(candidate)); d < least && d <= max(1, len(candidate)/3) {
			best, least = candidate, d
		}
	}
	return best
}

// distance is the number of single-byte insertions, deletions, changes and swaps of neighbours that turn a into b.
func distance(a, b string) int {
	before, last, row := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			change := 1
			if a[i-1] == b[j-1] {
				change = 0
			}
			row[j] = min(last[j]+1, row[j-1]+1, last[j-1]+change)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], before[j-2]+1)
			}
		}
		before, last, row = last, row, before
	}
	return last[len(b)]
}
