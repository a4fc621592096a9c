package registration

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// namespaceField begins the paths of what is wrong with the namespace and not with the pod.
const namespaceField = "namespace"

// NamespaceAnnotation is the path of an annotation of the pod's namespace.
func NamespaceAnnotation(key string) *field.Path {
	return field.NewPath(namespaceField, "metadata", "annotations").Key(key)
}

// InNamespace cuts off what makes a path that of the pod's namespace; ok is false for a path in the pod.
func InNamespace(path string) (rest string, ok bool) {
	return strings.CutPrefix(path, namespaceField+".")
}

func namespaceWarning(key, why string) Warning {
	return Warning{Field: NamespaceAnnotation(key).String(), Message: "annotation " + key + ": " + why}
}

// LintNamespace returns a warning for each agentlet.dev/ annotation of a namespace that has no effect: a default that no pod
// could have, a key that is read from pods alone, an unknown key. It is for whoever annotates the namespace. defaults are the
// installation's.
func LintNamespace(annotations map[string]string, defaults Defaults) []Warning {
	_, warnings := defaults.WithNamespace(annotations)
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		if !strings.HasPrefix(key, contract.Prefix) || len(key) > maxKey {
			continue
		}
		if _, known := contract.LookupNamespace(key); !known {
			warnings = append(warnings, namespaceWarning(key, noEffectOnNamespace(key)))
		}
	}
	return atMost(warnings)
}

// noEffectOnNamespace says why an annotation that is not read from namespaces has no effect there.
func noEffectOnNamespace(key string) string {
	if key == contract.InjectLabel {
		return "has no effect: a namespace is opted in by a label"
	}
	if _, _, known := contract.Lookup(key); known {
		return "has no effect on a namespace: agentlet reads it from the annotations of pods"
	}
	suggestion := nearest(contract.Short(key), func(yield func(string) bool) {
		for _, k := range contract.Keys() {
			if _, known := contract.LookupNamespace(k.Name); known && !yield(contract.Short(k.Name)) {
				return
			}
		}
	})
	if suggestion == "" {
		return "is not known to agentlet"
	}
	return fmt.Sprintf("is not known to agentlet; did you mean %s%s?", contract.Prefix, suggestion)
}
