// Package dialect translates the pod annotations of other systems that register pods in Consul into those of the contract.
// It does so once, at admission, so that all other code knows only the contract. It is pure: annotations in; annotations,
// warnings and errors out.
//
// Annotations of the contract take precedence. If they name the pod's services, no dialect is read, so that nothing changes
// when the old annotations are removed at last. Otherwise a key of the contract wins over the translation of the same key.
package dialect

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// Dialect is another system whose pod annotations can be translated.
type Dialect string

// The dialects.
const (
	KatalogSync Dialect = "katalog-sync"
	ConsulK8s   Dialect = "consul-k8s"
)

// All returns every dialect. The caller owns the slice.
func All() []Dialect { return []Dialect{KatalogSync, ConsulK8s} }

// Named turns names into dialects, known or not.
func Named(names []string) []Dialect {
	var dialects []Dialect
	for _, name := range names {
		dialects = append(dialects, Dialect(name))
	}
	return dialects
}

// SkipReason says why a pod with a dialect's annotations is skipped.
type SkipReason string

// The reasons to skip a pod.
const (
	// OptedOut: the pod opts out by the dialect's annotation.
	OptedOut SkipReason = "OptedOut"
	// Meshed: the pod is in the system's own mesh, which registers it.
	Meshed SkipReason = "Meshed"
)

// Translation of a pod's annotations. The zero Translation is that of a pod without annotations of a dialect.
type Translation struct {
	// Annotations to add to the pod, which has none of these keys. Nil where the pod is skipped.
	Annotations map[string]string
	// Errors are those of annotations without a counterpart. All others are found when the translated pod is parsed.
	Errors field.ErrorList
	// Warnings are about annotations that have no effect, or need a person's attention.
	Warnings []registration.Warning
	// Origins of Annotations, so that messages about the translated pod name the original annotations.
	Origins registration.Origins
	// Left is the reason for which a pod that requests a registration in a dialect is skipped; else empty.
	Left SkipReason

	sources []source
}

// translator of one dialect.
type translator struct {
	// asks reports whether annotations request a registration.
	asks func(annotations map[string]string) bool
	// translate is called with annotations that request one.
	translate func(annotations map[string]string) Translation
	// lead is the annotation that requests one, or the usual one of several; all annotations begin with prefix.
	lead, prefix string
	keys         []Key
	// gate is a condition that pods of the system may have as a readiness gate; empty: none.
	gate string
}

var translators = map[Dialect]*translator{KatalogSync: &katalogSync, ConsulK8s: &consulK8s}

// Translate reads a pod's annotations in the configured dialects, and translates the first one in which the pod requests a
// registration. It doesn't change the annotations.
func Translate(annotations map[string]string, on []Dialect) Translation {
	if ours := lead(annotations); ours != "" {
		return Translation{Warnings: notRead(annotations, on, ours)}
	}
	var left Translation
	for i, d := range on {
		s := translators[d]
		if s == nil || !s.asks(annotations) {
			continue
		}
		t := s.translate(annotations)
		if t.Left == "" {
			t.Warnings = append(t.Warnings, notRead(annotations, on[i+1:], s.lead)...)
			return t
		}
		if left.Left == "" {
			left = t
		}
	}
	if left.Left == "" {
		left.Warnings = ineffective(annotations, on)
	}
	return left
}

// Unread is the dialect in which a pod asks for a registration that asks for none in the contract's words, with a warning that
// it is not on; ok is false where there is none. Ask for a pod that was left alone.
func Unread(annotations map[string]string) (w registration.Warning, ok bool) {
	if lead(annotations) != "" {
		return w, false
	}
	for _, d := range All() {
		t := translators[d]
		if !t.asks(annotations) {
			continue
		}
		first := t.lead
		for key := range annotations {
			if strings.HasPrefix(key, t.prefix) && (key < first || !has(annotations, first)) {
				first = key
			}
		}
		return warning(first, "annotations %s… are not read without --dialect %s", t.prefix, d), true
	}
	return w, false
}

// lead is the contract's key by which annotations name their services; empty where they don't.
func lead(annotations map[string]string) string {
	for _, key := range [...]string{contract.ServiceNames, contract.Services} {
		if _, ok := annotations[key]; ok {
			return key
		}
	}
	return ""
}

// notRead warns of each further dialect in which the annotations request a registration, and which is not read.
func notRead(annotations map[string]string, on []Dialect, counts string) (warnings []registration.Warning) {
	for _, d := range on {
		if s := translators[d]; s != nil && s.asks(annotations) && s.translate(annotations).Left == "" {
			warnings = append(warnings, warning(s.lead, "annotations %s… are not read: %s says what this pod registers", s.prefix, counts))
		}
	}
	return warnings
}

// ineffective warns of a system's annotations on a pod that doesn't request a registration. It leaves out those of consul-k8s,
// because consul-k8s itself may read them.
func ineffective(annotations map[string]string, on []Dialect) []registration.Warning {
	if !slices.Contains(on, KatalogSync) {
		return nil
	}
	first := ""
	for key := range annotations {
		if strings.HasPrefix(key, katalogSync.prefix) && (first == "" || key < first) {
			first = key
		}
	}
	if first == "" {
		return nil
	}
	return []registration.Warning{warning(first, "annotations %s… have no effect without %s", katalogSync.prefix, katalogSync.lead)}
}

// Gates returns the conditions that pods of the configured dialects' systems may have as readiness gates. Nothing sets them
// once such a system is gone.
func Gates(on []Dialect) (gates []string) {
	for _, d := range on {
		if s := translators[d]; s != nil && s.gate != "" {
			gates = append(gates, s.gate)
		}
	}
	return gates
}

// Key describes an annotation of another system.
type Key struct {
	// Name is the full key. A part in capitals stands for any.
	Name string
	// Ours is its counterpart: a key of the contract, or a part of one; empty where there is none.
	Ours string
	// Form of its values where that is not the contract's.
	Form string
	// Doc says what differs, or what replaces it; empty where it means the same.
	Doc string
}

// Keys returns a dialect's annotations in the order of the docs' table. The caller owns the slice.
func Keys(d Dialect) []Key {
	if s := translators[d]; s != nil {
		return slices.Clone(s.keys)
	}
	return nil
}
