package registration

import (
	"errors"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// podKeys are the contract's keys that are read from a pod, by full name.
var podKeys = func() map[string]*contract.Key {
	keys := map[string]*contract.Key{}
	for _, k := range contract.Keys() {
		if strings.HasPrefix(k.Where, "pod ") {
			keys[k.Name] = &k
		}
	}
	return keys
}()

// errForm is the error that the form expected explains by itself.
var errForm = errors.New("not of the form expected")

// reader looks values up and gathers what is wrong with them.
type reader struct {
	pod      *corev1.Pod
	defaults Defaults
	origins  Origins
	// hints: an error on an unknown key names the nearest known one, to find which takes as long as all the rest.
	hints bool
	errs  field.ErrorList
	// listed are the names in service-names, if that is a list.
	listed []string
	// undotted are the paths of keys that were refused for the want of a dot.
	undotted []string
	// names replaces the placeholders of what is known of the pod; nil: not made yet.
	names *strings.Replacer
	// unreplaced are warnings of what looks like a placeholder and is none.
	unreplaced []Warning
	// defaulted are the services whose port is the default.
	defaulted []string
	// tags that were read, before any was dropped that came twice.
	tags []askedTag
}

// value is a value in force for a key of the contract, and where it was found.
type value struct {
	text string
	// found is the key under which the value was found: KEY.NAME or KEY.
	found  string
	source source
	spec   *contract.Key
}

// source is who says a value.
type source int

const (
	ofPod source = iota
	ofNamespace
	ofInstallation
	ofContract
)

// note says where a value comes from that the pod doesn't carry, for the end of a message.
func (v value) note() string { return v.noteAs("this value") }

// noteAs is note of a value that the message calls by a name.
func (v value) noteAs(name string) string {
	switch v.source {
	case ofNamespace:
		return " (" + name + " is the default of the pod's namespace)"
	case ofInstallation:
		return " (" + name + " is the installation's default)"
	case ofPod, ofContract:
	}
	return ""
}

// value looks a key up for one service, or for the whole pod where service is empty.
func (r *reader) value(key, service string) (v value, ok bool) {
	v = value{found: key, spec: podKeys[key]}
	if service != "" && v.spec.PerService {
		if v.text, ok = r.pod.Annotations[key+"."+service]; ok {
			v.found = key + "." + service
			return v, true
		}
	}
	if v.text, ok = r.pod.Annotations[key]; ok {
		return v, true
	}
	if v.text, v.source, ok = r.defaults.lookup(key); ok {
		return v, true
	}
	v.text, v.source = v.spec.Default, ofContract
	return v, v.text != ""
}

// invalid adds a bad value's error.
func (r *reader) invalid(v value, err error) {
	form := v.spec.Form
	if from := r.origins[v.found]; from.Form != "" {
		form = from.Form
	}
	r.add(field.Invalid(annotation(v.found), Excerpt(v.text), expectation(form, err)+v.note()))
}

// add adds an error unless the same one is there: several services may read the same value. Beyond maxErrors the last
// place says that there are more.
func (r *reader) add(err *field.Error) {
	if len(r.errs) > maxErrors {
		return
	}
	for _, e := range r.errs {
		if e.Type == err.Type && e.Field == err.Field && e.Detail == err.Detail && e.BadValue == err.BadValue {
			return
		}
	}
	if len(r.errs) == maxErrors {
		err = field.Forbidden(field.NewPath("metadata", "annotations"), "there are more errors than these")
	}
	r.errs = append(r.errs, err)
}

// annotation is the path of a pod annotation.
func annotation(key string) *field.Path { return field.NewPath("metadata", "annotations").Key(key) }

// label is the path of a pod label.
func label(key string) *field.Path { return field.NewPath("metadata", "labels").Key(key) }

// namePath is where the name of a pod's service, by its number, is said.
func namePath(pod *corev1.Pod, i int) *field.Path {
	if _, structured := pod.Annotations[contract.Services]; structured {
		return annotation(contract.Services).Index(i).Child("name")
	}
	return annotation(contract.ServiceNames)
}

// expectation says which form a value must have, and what is wrong with it where the form doesn't say it.
func expectation(form string, err error) string {
	if errors.Is(err, errForm) {
		return "must be " + form
	}
	return "must be " + form + ": " + err.Error()
}
