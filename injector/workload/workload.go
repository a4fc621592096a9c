// Package workload finds the pod, or the pod template, in objects of Kubernetes' own kinds.
package workload

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"
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

// Path returns the steps from an object of this kind to its pod or template; none where the object is the pod. ok is false for
// a kind without one. The path is read-only.
func Path(apiVersion, kind string) (path []string, ok bool) {
	path, ok = templates[apiVersion+"/"+kind]
	return path, ok
}

// Object has the fields that are read of an object that may hold a template.
type Object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		GenerateName      string    `json:"generateName"`
		DeletionTimestamp *presence `json:"deletionTimestamp"`
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

// presence of any value except null.
type presence struct{}

// UnmarshalJSON accepts any value.
func (*presence) UnmarshalJSON([]byte) error { return nil }

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

// TemplateAt returns the template at a path.
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

// namespaceField begins the fields of the injector's errors that are about the namespace and not the pod.
const namespaceField = "namespace."

// AtPath moves an error of a pod into the object that holds the pod at this path.
func AtPath(path []string, err *field.Error) *field.Error {
	if len(path) == 0 || strings.HasPrefix(err.Field, namespaceField) {
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
