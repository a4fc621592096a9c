package registration

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Wanted reports whether the pod asks for a registration: it carries service-names or services.
func Wanted(pod *corev1.Pod) bool {
	_, names := pod.Annotations[contract.ServiceNames]
	_, structured := pod.Annotations[contract.Services]
	return names || structured
}

// Parse reads a pod's labels, annotations and declared ports. It returns every error at once, each with the key, the
// value and the form expected; with errors the registration is nil. A pod that is not Wanted is an error here: ask first.
// What it takes is bounded (limits.go), for any input.
//
// It is for the agentlet, which reads its pod at each update and has nobody to advise. Lint is for whoever writes the pod.
func Parse(pod *corev1.Pod, defaults Defaults) (*Registration, field.ErrorList) {
	r := &reader{pod: pod, defaults: defaults}
	reg := r.registration()
	if len(r.errs) > 0 {
		return nil, r.errs
	}
	return reg, nil
}

// registration is what the pod asks for, as far as it can be read; nil where too much of it would have to be.
func (r *reader) registration() *Registration {
	if err := tooLong(r.pod); err != nil {
		r.add(err)
		return nil
	}
	reg := &Registration{Settings: r.allSettings()}
	_, structured := r.pod.Annotations[contract.Services]
	switch {
	case !Wanted(r.pod):
		r.add(field.Required(annotation(contract.ServiceNames), "or "+contract.Services))
	case structured:
		r.refuseFlatKeys()
		reg.Services = r.structuredServices()
	default:
		reg.Services = r.flatServices()
	}
	r.checkMesh(reg)
	r.place(reg)
	r.fromLabels(reg.Services)
	reg.asked, reg.DefaultPort = r.tags, r.defaulted
	if reg.Settings.Readiness != contract.ReadinessKubelet {
		reg.Probes, reg.Unprobed = r.readProbes(reg.Settings.Exclude)
	}
	return reg
}

// ValidateDefaults says what is wrong with an installation's defaults: a key that the contract does not know or that
// only makes sense on a pod, and every value that no pod could have. Paths start at path.
func ValidateDefaults(path *field.Path, defaults Defaults) field.ErrorList {
	var errs field.ErrorList
	for _, short := range slices.Sorted(maps.Keys(defaults)) {
		key := contract.Prefix + short
		spec, known := podKeys[key]
		if !known {
			errs = append(errs, field.Invalid(path.Key(short), Excerpt(defaults[short]), "unknown key"+didYouMean(short, shortKeys())))
			continue
		}
		if !Defaultable(key) {
			errs = append(errs, field.Forbidden(path.Key(short), "is a pod's own to say"))
		} else if err := tryValue(key, defaults[short]); err != nil {
			errs = append(errs, field.Invalid(path.Key(short), Excerpt(defaults[short]), expectation(spec.Form, err)))
		}
	}
	return append(errs, settingsConflicts(path, defaults)...)
}

// Defaultable reports whether an installation may have a default for a pod's annotation, which is given by its full key.
func Defaultable(key string) bool {
	_, known := podKeys[key]
	return known && key != contract.InjectLabel && key != contract.ServiceNames && key != contract.Services &&
		key != contract.LocalAPI &&
		key != contract.ConnectInject
}

// tryValue parses one key's value without a pod.
func tryValue(key, text string) error {
	for _, s := range settings {
		if s.key == key {
			return s.set(&Settings{}, text)
		}
	}
	var err error
	switch key {
	case contract.ServicePort:
		if !isPortName(text) {
			_, err = parsePort(text)
		}
	case contract.ServiceTags:
		_, err = parseTags(text)
	case contract.ServiceMeta:
		_, err = parseMeta(text)
	case contract.ServiceHealth:
		_, err = parseHealth(text)
	case contract.TagsFromLabels:
		_, err = parseTagLabels(text)
	case contract.MetaFromLabels:
		_, err = parseMetaLabels(text)
	}
	return err
}

// settingsConflicts are the errors that only several defaults make together.
func settingsConflicts(path *field.Path, defaults Defaults) field.ErrorList {
	r := &reader{pod: &corev1.Pod{}, defaults: defaults}
	s, bad := r.readSettings()
	if bad {
		return nil // said already, key by key
	}
	var errs field.ErrorList
	for _, c := range conflicts(&s, nil) {
		errs = append(errs, field.Invalid(path.Key(contract.Short(c.key)), Excerpt(defaults[contract.Short(c.key)]), c.why))
	}
	return errs
}

// refuseFlatKeys adds an error for each service-* key beside the structured form.
func (r *reader) refuseFlatKeys() {
	var flat []string
	for key := range r.pod.Annotations {
		if isFlatKey(key) {
			flat = append(flat, key)
		}
	}
	slices.Sort(flat)
	for _, key := range flat {
		r.add(field.Forbidden(annotation(key), "not together with "+r.origins.name(contract.Services)+", which says all of it"))
	}
}

// AgentletPort returns the agentlet's port, also where the pod's other annotations are wrong; ok is false where this
// one is. note is what a message about it has to add where the pod doesn't carry it.
func AgentletPort(pod *corev1.Pod, defaults Defaults) (port int, note string, ok bool) {
	r := &reader{pod: pod, defaults: defaults}
	v, _ := r.value(contract.AgentletPort, "")
	port, err := parseAgentletPort(v.text)
	return port, v.note(), err == nil
}
