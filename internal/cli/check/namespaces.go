package check

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// globs parse the annotations of what a namespace's pods may register.
var globs = []struct {
	key   string
	parse func(text, source string) (registration.Globs, error)
}{
	{contract.AllowedServices, registration.ParseServiceGlobs},
	{contract.AllowedTags, registration.ParseTagGlobs},
}

// annotations finds annotations of opted-in namespaces that are wrong. Nobody is told of them when a namespace is annotated,
// because the API server doesn't call the webhook for namespaces.
func (r *run) annotations(context.Context) {
	defaults, opted, wrong := r.defaults(), 0, 0
	for _, name := range slices.Sorted(maps.Keys(r.facts.namespaces)) {
		if r.Namespace != "" && r.Namespace != name || !r.optedIn(name) {
			continue
		}
		opted++
		before, annotations := len(r.findings), r.namespaceAnnotations(name)
		for _, g := range globs {
			text, there := annotations[g.key]
			if !there {
				continue
			}
			if _, err := g.parse(text, g.key); err != nil {
				r.add(Fail, "namespaces", "namespace/"+name,
					fmt.Sprintf("pods with an agentlet are refused: annotation %s: %q: %v", g.key, registration.Excerpt(text), err),
					"correct the annotation: kubectl annotate --overwrite namespace "+name+" "+g.key+"=GLOBS")
			}
		}
		for _, w := range registration.LintNamespace(annotations, defaults) {
			_, key, _ := strings.Cut(w.Field, "[")
			r.add(Warn, "namespaces", "namespace/"+name, w.Message,
				"correct it, or take it away: kubectl annotate namespace "+name+" "+strings.TrimSuffix(key, "]")+"-")
		}
		if len(r.findings) > before {
			wrong++
		}
	}
	if wrong == 0 && len(r.facts.namespaces) > 0 {
		r.add(OK, "namespaces", "", "no wrong annotation on "+printer.Count(opted, "opted-in namespace"), "")
	}
}
