package registration

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// named replaces the placeholders in a tag or a value of meta, as far as the pod says what they stand for: at admission it may
// have no name, and has no node. What is at a path that looks like a placeholder and is none is a warning for whoever wrote it.
func (r *reader) named(path *field.Path, what, text string) string {
	if !strings.ContainsAny(text, "${") {
		return text
	}
	if r.hints {
		r.noteUnreplaced(path, what, text)
	}
	if r.names == nil {
		r.names = r.replacer()
	}
	return r.names.Replace(text)
}

func (r *reader) replacer() *strings.Replacer {
	var pairs []string
	for _, place := range [...]struct{ placeholder, name string }{
		{contract.PlacePodName, r.pod.Name},
		{contract.PlacePodNamespace, r.pod.Namespace},
		{contract.PlaceNodeName, r.pod.Spec.NodeName},
	} {
		if place.name != "" {
			pairs = append(pairs, place.placeholder, place.name)
		}
	}
	return strings.NewReplacer(pairs...)
}

// unreplaced finds what other systems replace: ${NAME}, templates, and our own names in a shell's or the kubelet's form. Groups
// of regular expressions, such as ${1}, are left alone: routers have them in their tags.
var unreplaced = regexp.MustCompile(`\$\{[^}]*[^}0-9][^}]*\}|\{\{|\$\(?(` + strings.Join(placeNames(), "|") + `)\b\)?`)

func placeNames() []string {
	return []string{contract.EnvPodNamespace, contract.EnvPodName, contract.EnvNodeName}
}

// placeholders are replaced by the pod's own names, as soon as these are known.
var placeholders = []string{contract.PlacePodName, contract.PlacePodNamespace, contract.PlaceNodeName}

// noteUnreplaced notes a warning of the first thing in a text that nothing replaces.
func (r *reader) noteUnreplaced(path *field.Path, what, text string) {
	for _, found := range unreplaced.FindAllString(text, maxItems) {
		if slices.Contains(placeholders, found) {
			continue
		}
		w := Warning{path.String(), fmt.Sprintf("%s %q: nothing replaces %s; there are %s",
			Truncate(what, maxShown), Truncate(text, maxShown), Truncate(found, maxShown), strings.Join(placeholders, ", "))}
		if len(r.unreplaced) <= maxWarnings && !slices.Contains(r.unreplaced, w) {
			r.unreplaced = append(r.unreplaced, w)
		}
		return
	}
}

// maxShown is as much of each text as fits into a warning, of which the API server shows 256 characters.
const maxShown = 50
