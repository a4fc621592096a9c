package dialect

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// source is where a part of the translation comes from.
type source struct {
	// field is the path in the translated pod.
	field string
	// key and value are the foreign annotation's, which need not be there.
	key, value string
	there      bool
}

// source notes where a field of the translated pod comes from.
func (t *Translation) source(path *field.Path, key string, annotations map[string]string) {
	value, there := annotations[key]
	t.sources = append(t.sources, source{path.String(), key, value, there})
}

// add translates one key, unless the pod has ours already.
func (t *Translation) add(annotations map[string]string, ours, value, key string) {
	if has(annotations, ours) {
		return
	}
	if t.Annotations == nil {
		t.Annotations = map[string]string{}
	}
	t.Annotations[ours] = value
	t.source(annotation(ours), key, annotations)
}

func (t *Translation) warn(format string, args ...any) {
	t.Warnings = append(t.Warnings, fmt.Sprintf(format, args...))
}

// MapErrors says errors that were found in the translated pod as errors in the annotations that it was translated
// from: those are what the pod's author has written, and can correct.
func (t *Translation) MapErrors(errs field.ErrorList) field.ErrorList {
	if len(t.sources) == 0 {
		return errs
	}
	words := t.replacer()
	said := make(field.ErrorList, 0, len(errs))
	for _, err := range errs {
		theirs := *err
		if s := t.sourceOf(err.Field); s != nil && (s.there || err.Type != field.ErrorTypeInvalid) {
			theirs.Field = annotation(s.key).String()
			if err.Type == field.ErrorTypeInvalid {
				theirs.BadValue = registration.Excerpt(s.value)
			}
		}
		theirs.Detail = words.Replace(err.Detail)
		if strings.Contains(theirs.Field, katalogPrefix) {
			theirs.Detail = strings.Replace(theirs.Detail, `, \, for a comma`, "", 1) // which katalog-sync doesn't know
		}
		said = append(said, &theirs)
	}
	return said
}

// WarningsInTheirWords names in warnings about the translated pod the annotations that it was translated from.
func (t *Translation) WarningsInTheirWords(warnings []string) []string {
	if len(t.sources) == 0 || len(warnings) == 0 {
		return warnings
	}
	words := t.replacer()
	said := make([]string, 0, len(warnings))
	for _, warning := range warnings {
		said = append(said, words.Replace(warning))
	}
	return said
}

// sourceOf finds the source of a field or of what it is a part of; nil for a field of the pod's own.
func (t *Translation) sourceOf(path string) (best *source) {
	for i := range t.sources {
		s := &t.sources[i]
		rest, found := strings.CutPrefix(path, s.field)
		if found && (rest == "" || rest[0] == '.' || rest[0] == '[') && (best == nil || len(s.field) > len(best.field)) {
			best = s
		}
	}
	return best
}

// replacer puts their keys into a text in the place of ours.
func (t *Translation) replacer() *strings.Replacer {
	type pair struct{ ours, theirs string }
	var pairs []pair
	for i := range t.sources {
		for ours := range t.Annotations {
			if t.sources[i].field == annotation(ours).String() {
				pairs = append(pairs, pair{ours, t.sources[i].key})
			}
		}
	}
	// A key may be the beginning of another one.
	slices.SortFunc(pairs, func(a, b pair) int { return cmp.Or(len(b.ours)-len(a.ours), strings.Compare(a.ours, b.ours)) })
	var words []string
	for _, p := range pairs {
		words = append(words, p.ours, p.theirs)
	}
	return strings.NewReplacer(words...)
}

func has(annotations map[string]string, key string) bool {
	_, ok := annotations[key]
	return ok
}

// annotation is the path of a pod annotation.
func annotation(key string) *field.Path { return field.NewPath("metadata", "annotations").Key(key) }

// maxWarnings are as many as are told of one kind.
const maxWarnings = 20

func atMost(warnings []string) []string {
	if len(warnings) <= maxWarnings {
		return warnings
	}
	return append(warnings[:maxWarnings:maxWarnings], fmt.Sprintf("%d more annotations %s… have no effect", len(warnings)-maxWarnings, katalogPrefix))
}
