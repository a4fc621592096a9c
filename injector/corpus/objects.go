package corpus

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	kyaml "k8s.io/apimachinery/pkg/util/yaml"

	"github.com/agentlet/agentlet/injector/workload"
)

// Object is an object in a stream.
type Object struct{ unstructured.Unstructured }

// Objects reads a stream as kubectl does, lists taken apart. Items of a typed list get the kind that it is of.
func Objects(stream string) (objects []Object, err error) {
	decoder := kyaml.NewYAMLOrJSONDecoder(strings.NewReader(stream), 4096)
	for {
		var value map[string]any
		if err := decoder.Decode(&value); errors.Is(err, io.EOF) {
			return objects, nil
		} else if err != nil {
			return nil, err
		}
		if len(value) == 0 {
			continue // comments alone
		}
		raw, err := json.Marshal(value)
		if err != nil {
			return nil, err
		}
		found, _, err := unstructured.UnstructuredJSONScheme.Decode(raw, nil, nil)
		if err != nil {
			return nil, err
		}
		switch found := found.(type) {
		case *unstructured.Unstructured:
			objects = append(objects, Object{*found})
		case *unstructured.UnstructuredList:
			for i := range found.Items {
				objects = append(objects, Object{found.Items[i]})
			}
		default:
			return nil, fmt.Errorf("%T", found)
		}
	}
}

// JSON is the object as the API server would get it.
func (o *Object) JSON() ([]byte, error) { return json.Marshal(o.Object) }

// Path returns the steps to the object's pod or template; ok is false where it has none.
func (o *Object) Path() (path []string, ok bool, err error) {
	raw, err := o.JSON()
	if err != nil {
		return nil, false, err
	}
	var holder workload.Object
	if err := json.Unmarshal(raw, &holder); err != nil {
		return nil, false, err
	}
	path, ok = holder.Path()
	return path, ok, nil
}

// Pod returns the object itself where it is a pod (own), or else a pod of its template. It is nil where the object has neither.
func (o *Object) Pod() (pod *Object, own bool, err error) {
	path, ok, err := o.Path()
	if err != nil || !ok {
		return nil, false, err
	}
	if len(path) == 0 {
		return o, true, nil
	}
	template, found, err := unstructured.NestedMap(o.Object, path...)
	if err != nil || !found {
		return nil, false, errors.Join(err, fmt.Errorf("no template at %v", path))
	}
	made := Object{unstructured.Unstructured{Object: template}}
	made.SetAPIVersion("v1")
	made.SetKind("Pod")
	return &made, false, nil
}
