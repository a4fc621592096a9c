package dialect

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// source is the foreign annotation that a part of the translation comes from.
type source struct {
	// field is the path in the translated pod.
	field string
	// key and value of the foreign annotation, which the pod need not have.
	key, value string
	there      bool
}

// source records where a field of the translated pod comes from.
func (t *Translation) source(path *field.Path, key string, annotations map[string]string) {
	value, there := annotations[key]
	t.sources = append(t.sources, source{path.String(), key, value, there})
}

// add an annotation of the contract, unless the pod has it already.
func (t *Translation) add(annotations map[string]string, ours, value string, from registration.Origin) {
	if has(annotations, ours) {
		return
	}
	if t.Annotations == nil {
		t.Annotations, t.Origins = map[string]string{}, registration.Origins{}
	}
	t.Annotations[ours], t.Origins[ours] = value, from
	t.source(annotation(ours), from.Key, annotations)
}

// warn about the foreign annotation with this key.
func (t *Translation) warn(key, format string, args ...any) {
	t.Warnings = append(t.Warnings, warning(key, format, args...))
}

func warning(key, format string, args ...any) registration.Warning {
	return registration.Warning{Field: annotation(key).String(), Message: fmt.Sprintf(format, args...)}
}

// MapErrors moves errors of the translated pod to the annotations that it was translated from, because the pod's author has
// written those. The errors' details name them already, by Origins.
func (t *Translation) MapErrors(errs field.ErrorList) field.ErrorList {
	if len(t.sources) == 0 {
		return errs
	}
	mapped := make(field.ErrorList, 0, len(errs))
	for _, err := range errs {
		if s := t.sourceOf(err.Field); s != nil && (s.there || err.Type != field.ErrorTypeInvalid) {
			theirs := *err
			theirs.Field = annotation(s.key).String()
			if err.Type == field.ErrorTypeInvalid {
				theirs.BadValue = registration.Excerpt(s.value)
			}
			err = &theirs
		}
		mapped = append(mapped, err)
	}
	return mapped
}

// MapWarnings does the same to warnings.
func (t *Translation) MapWarnings(warnings []registration.Warning) []registration.Warning {
	if len(t.sources) == 0 {
		return warnings
	}
	mapped := make([]registration.Warning, 0, len(warnings))
	for _, w := range warnings {
		if s := t.sourceOf(w.Field); s != nil && s.there {
			w.Field = annotation(s.key).String()
		}
		mapped = append(mapped, w)
	}
	return mapped
}

// sourceOf finds the source of a field, or of the field that contains it; nil for a field that was not translated.
func (t *Translation) sourceOf(path string) (best *source) {
	for i := range t.sources {
		s := &t.sources[i]
		rest, found := strings.CutPrefix(path, s.field)
		if found && (rest == "" || rest[0] == '.' || rest[0] == '[') && (best == nil || len(s.field) >= len(best.field)) {
			best = s
		}
	}
	return best
}

func has(annotations map[string]string, key string) bool {
	_, ok := annotations[key]
	return ok
}

// annotation is the path of a pod annotation.
func annotation(key string) *field.Path { return field.NewPath("metadata", "annotations").Key(key) }

// maxWarnings bounds the warnings of one kind.
const maxWarnings = 20

func atMost(warnings []registration.Warning) []registration.Warning {
	if len(warnings) <= maxWarnings {
		return warnings
	}
	return append(warnings[:maxWarnings:maxWarnings], registration.Warning{
		Message: fmt.Sprintf("%d more annotations %s… have no effect", len(warnings)-maxWarnings, katalogPrefix),
	})
}
