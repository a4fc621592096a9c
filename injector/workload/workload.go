// Package workload knows where objects hold the pod, or the template of their pods.
package workload

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// templates are the paths of the pod template in the kinds that have one. The API version distinguishes them from kinds of
// other groups with the same name.
var templates = map[string][]string{
	"v1/Pod":                   {},
	"v1/PodTemplate":           {"template"},
	"v1/ReplicationController": {"spec", "template"},
	"apps/v1/Deployment":       {"spec", "template"},
	"apps/v1/StatefulSet":      {"spec", "template"},
	"apps/v1/DaemonSet":        {"spec", "template"},
	"apps/v1/ReplicaSet":       {"spec", "template"},
	"batch/v1/Job":             {"spec", "template"},
	"batch/v1/CronJob":         {"spec", "jobTemplate", "spec", "template"},
}

// Path returns the steps from an object of one of Kubernetes' kinds to its pod or template, which are none where the object is
// the pod; ok is false for every other kind. The caller does not change it.
func Path(apiVersion, kind string) (path []string, ok bool) {
	path, ok = templates[apiVersion+"/"+kind]
	return path, ok
}

// places are where objects of other kinds, such as a Rollout, may have a template.
var places = [...][]string{{"spec", "template"}, {"spec", "jobTemplate", "spec", "template"}, {"template"}}

// Places returns the fields in which an object of any kind may have its template, as people write them.
func Places() (fields []string) {
	for _, place := range places {
		fields = append(fields, strings.Join(place, "."))
	}
	return fields
}

// Path is that of the object's kind, where it is one of Kubernetes'. Of another kind it leads to the first place with a list of
// containers; ok is false where there is none.
func (o *Object) Path() (path []string, ok bool) {
	if path, ok = Path(o.APIVersion, o.Kind); ok {
		return path, true
	}
	for _, path := range places {
		if raw, err := o.TemplateAt(path); err == nil && holdsContainers(raw) {
			return path, true
		}
	}
	return nil, false
}

func holdsContainers(template []byte) bool {
	var pod struct {
		Spec struct {
			Containers []unread `json:"containers"`
		} `json:"spec"`
	}
	return kjson.UnmarshalCaseSensitivePreserveInts(template, &pod) == nil && pod.Spec.Containers != nil
}

// unread is anything.
type unread struct{}

// UnmarshalJSON takes anything.
func (*unread) UnmarshalJSON([]byte) error { return nil }

// Object is the JSON of an object that may hold a template, as far as it is read.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		GenerateName      string            `json:"generateName"`
		Labels            map[string]string `json:"labels"`
		Annotations       map[string]string `json:"annotations"`
		DeletionTimestamp *unread           `json:"deletionTimestamp"`
		OwnerReferences   []struct {
			Controller bool `json:"controller"`
		} `json:"ownerReferences"`
	} `json:"metadata"`
	template
	Spec struct {
		template
		JobTemplate struct {
			Spec struct{ template } `json:"spec"`
		} `json:"jobTemplate"`
	} `json:"spec"`
}

type template struct {
	Template json.RawMessage `json:"template"`
}

// Terminating reports whether the object is being deleted.
func (o *Object) Terminating() bool { return o.Metadata.DeletionTimestamp != nil }

// Controlled reports whether another object controls this one.
func (o *Object) Controlled() bool {
	for _, owner := range o.Metadata.OwnerReferences {
		if owner.Controller {
			return true
		}
	}
	return false
}

// Misplaced returns warnings of annotations and labels on the object that agentlet reads from pods, unless its template has
// them, too. On a pod they are in place.
func (o *Object) Misplaced() []registration.Warning {
	path, ok := o.Path()
	if ok && len(path) == 0 || o.Kind == "Namespace" || len(o.Metadata.Annotations)+len(o.Metadata.Labels) == 0 {
		return nil
	}
	right, template := "the annotations of pods", podMeta{}
	if ok {
		right = strings.Join(append(slices.Clone(path), "metadata", "annotations"), ".")
		if raw, err := o.TemplateAt(path); err == nil {
			_ = kjson.UnmarshalCaseSensitivePreserveInts(raw, &template) // what is wrong with it is said when it is read
		}
	}
	return registration.Misplaced("on a "+o.Kind, right, o.Metadata.Labels, o.Metadata.Annotations, template.Metadata.Annotations)
}

// podMeta is what a template says of its pods beside what they are.
type podMeta struct {
	Metadata struct {
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// TemplateAt returns what the object holds at a path of a template.
func (o *Object) TemplateAt(path []string) (raw []byte, err error) {
	switch len(path) {
	case 1:
		raw = o.Template
	case 2:
		raw = o.Spec.Template
	case 4:
		raw = o.Spec.JobTemplate.Spec.Template
	}
	if raw == nil {
		return nil, fmt.Errorf("it has no %s", strings.Join(path, "."))
	}
	return raw, nil
}

// Template returns the value at a path of an object's JSON.
func Template(object []byte, path []string) ([]byte, error) {
	if len(path) == 0 {
		return object, nil
	}
	var o Object
	if err := kjson.UnmarshalCaseSensitivePreserveInts(object, &o); err != nil {
		return nil, err
	}
	return o.TemplateAt(path)
}

// Pod decodes a pod, or a template as if it were a pod, with the fields that the injector reads (PodFields).
func Pod(template []byte) (*corev1.Pod, error) {
	var fields PodFields
	if err := kjson.UnmarshalCaseSensitivePreserveInts(template, &fields); err != nil {
		return nil, err
	}
	return fields.Pod()
}

// AtPath moves an error of a pod into the object that holds the pod at this path.
func AtPath(path []string, err *field.Error) *field.Error {
	if _, elsewhere := registration.InNamespace(err.Field); elsewhere || len(path) == 0 {
		return err
	}
	moved := *err
	moved.Field = at(path).String() + "." + err.Field
	return &moved
}

// at converts steps into a field path; nil where there are none.
func at(steps []string) (path *field.Path) {
	for _, step := range steps {
		if i, err := strconv.Atoi(step); err == nil {
			path = path.Index(i)
		} else {
			path = path.Child(step)
		}
	}
	return path
}
