package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilerrors "k8s.io/apimachinery/pkg/util/errors"
	"k8s.io/apimachinery/pkg/util/validation/field"
	kjson "sigs.k8s.io/json"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector/workload"
)

// File is what was read from one place.
type File struct {
	// Name as notes show it.
	Name      string
	documents []*document
}

// document is one document of a file.
type document struct {
	chunk
	// root is the parsed document, nil where it holds nothing. Lines in it are the body's.
	root *yaml.Node
	// json is the document as the API server would get it.
	json    []byte
	objects []Object
	pods    []Pod
}

// Object is an object in a file.
type Object struct {
	// APIVersion, Kind, Namespace and Name of the object. The namespace may be empty.
	APIVersion, Kind, Namespace, Name string
	// Line of the object in its file.
	Line int

	labels, annotations map[string]string
	misplaced           []registration.Warning
	// holdsPod: its pod, or the template of one, was looked at.
	holdsPod bool
	// path of the object in its document, in steps; none where it is the document.
	path []string
}

func (o *Object) isNamespace() bool { return o.APIVersion == "v1" && o.Kind == "Namespace" }

// String is the object as messages name it, such as "Deployment shop/web".
func (o *Object) String() string {
	name := o.Name
	if name != "" && o.Namespace != "" {
		name = o.Namespace + "/" + name
	}
	return strings.TrimSpace(o.Kind + " " + name)
}

// Pod is a pod, or the template of one, in a file.
type Pod struct {
	// Object that it is, or that holds it.
	Object
	// Pod is the pod, or the template's metadata and specification.
	Pod *corev1.Pod
	// path of the pod in its document, in steps; none where the document is the pod.
	path []string
}

// Diagnostic is an error or a warning, with its place.
type Diagnostic struct {
	File    string
	Line    int
	Object  string
	Message string
}

func byLine(a, b Diagnostic) int { return a.Line - b.Line }

func (n Diagnostic) String() string {
	text := fmt.Sprintf("%s:%d: ", n.File, n.Line)
	if n.Object != "" {
		text += n.Object + ": "
	}
	return text + n.Message
}

// Parse reads a stream of YAML or JSON documents. A document that can't be read is an error, and is left as it is.
func Parse(name string, stream []byte) (*File, []Diagnostic) {
	file := &File{Name: name}
	for _, c := range split(stream) {
		file.documents = append(file.documents, &document{chunk: c})
	}
	wrong := make([][]Diagnostic, len(file.documents))
	inParallel(len(file.documents), func(i int) {
		wrong[i] = file.documents[i].parse()
	})
	diagnostics := slices.Concat(wrong...)
	for i := range diagnostics {
		diagnostics[i].File = name
	}
	return file, diagnostics
}

// parse reads the document and finds its pods. It returns what can't be read, without the file's name.
func (d *document) parse() []Diagnostic {
	root, value, wrong := d.read()
	if wrong != nil {
		message := "read document: " + wrong.message
		if wrong.earlier > 0 {
			message += fmt.Sprintf(", at line %d", d.line-1+wrong.earlier)
		}
		return []Diagnostic{{Line: d.line - 1 + wrong.line, Message: message}}
	}
	if root == nil {
		return nil
	}
	d.root, d.json = root, value
	found := d.find(d.json, nil, "", "")
	slices.SortStableFunc(found, byLine)
	return found
}

// object is the part of any object that is read here.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string            `json:"name"`
		GenerateName string            `json:"generateName"`
		Namespace    string            `json:"namespace"`
		Labels       map[string]string `json:"labels"`
		Annotations  map[string]string `json:"annotations"`
	} `json:"metadata"`
}

// find gathers the objects that raw holds at path, and returns what can't be read of them. As in kubectl, what has items is a
// list, and items that say no API version and no kind have those of their list, without its List.
func (d *document) find(raw []byte, path []string, apiVersion, kind string) (wrong []Diagnostic) {
	here := func(object, message string) []Diagnostic {
		return []Diagnostic{{Line: d.lineOf(path, ""), Object: object, Message: message}}
	}
	var members map[string]json.RawMessage
	if kjson.UnmarshalCaseSensitivePreserveInts(raw, &members) != nil {
		return here("", "read document: a Kubernetes object is a mapping")
	}
	var o object
	err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &o) // with an error, too, what can be read is
	if o.Kind == "" && o.APIVersion == "" {
		o.Kind, o.APIVersion = kind, apiVersion
	}
	if o.Kind == "" {
		return here("", "read document: a Kubernetes object has a kind")
	}
	if _, err := schema.ParseGroupVersion(o.APIVersion); err != nil {
		return here("", "read document: apiVersion: "+err.Error())
	}
	found := Object{
		APIVersion: o.APIVersion, Kind: o.Kind, Namespace: o.Metadata.Namespace, Name: o.Metadata.Name, Line: d.lineOf(path, ""),
		labels: o.Metadata.Labels, annotations: o.Metadata.Annotations, path: path,
	}
	if found.Name == "" {
		found.Name = o.Metadata.GenerateName
	}
	if err != nil {
		if wrong = d.mistyped(path, raw, reflect.TypeFor[object](), found.String()); len(wrong) == 0 {
			wrong = here(found.String(), err.Error())
		}
	}
	switch listed, isList := members["items"]; {
	case isList && len(path) == 0:
		return append(wrong, d.findIn(listed, &found)...)
	case isList && bytes.HasPrefix(listed, []byte("[")):
		return append(wrong, here(found.String(), "kubectl reads no list in a list")...)
	}
	for _, problem := range d.findPod(raw, &found) {
		if !slices.Contains(wrong, problem) { // of the metadata both read something
			wrong = append(wrong, problem)
		}
	}
	d.objects = append(d.objects, found)
	return wrong
}

// findIn gathers the objects of a list.
func (d *document) findIn(listed []byte, list *Object) (wrong []Diagnostic) {
	const key = "items"
	var items []json.RawMessage
	if err := json.Unmarshal(listed, &items); err != nil {
		return []Diagnostic{{Line: d.lineOf([]string{key}, ""), Object: list.String(), Message: key + ": must be a list"}}
	}
	kind := strings.TrimSuffix(list.Kind, "List")
	for i, item := range items {
		wrong = append(wrong, d.find(item, []string{key, strconv.Itoa(i)}, list.APIVersion, kind)...)
	}
	return wrong
}

// findPod reads the pod or the template of an object, if it has one, and looks for what has no effect on the object.
func (d *document) findPod(raw []byte, of *Object) (wrong []Diagnostic) {
	var holder workload.Object
	err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &holder)
	holder.APIVersion, holder.Kind = of.APIVersion, of.Kind // which may be those of its list
	of.misplaced = holder.Misplaced()
	steps, ok := holder.Path()
	if of.holdsPod = ok; !ok {
		return nil
	}
	if err != nil {
		if wrong = d.mistyped(of.path, raw, reflect.TypeFor[workload.Object](), of.String()); len(wrong) == 0 {
			wrong = []Diagnostic{{Line: of.Line, Object: of.String(), Message: err.Error()}}
		}
	}
	template := raw
	if len(steps) > 0 {
		if template, err = holder.TemplateAt(steps); err != nil {
			return append(wrong, Diagnostic{Line: of.Line, Object: of.String(), Message: err.Error()})
		}
	}
	path := append(slices.Clip(of.path), steps...)
	pod, problems := d.readPod(template, path, of.String())
	if len(problems) == 0 {
		d.pods = append(d.pods, Pod{Object: *of, Pod: pod, path: path})
	}
	return append(wrong, problems...)
}

// readPod reads a pod or a template at a path, or says everything by which it is none.
func (d *document) readPod(template []byte, path []string, object string) (pod *corev1.Pod, wrong []Diagnostic) {
	var fields workload.PodFields
	err := kjson.UnmarshalCaseSensitivePreserveInts(template, &fields) // with an error, too, what can be read is
	if err != nil {
		if wrong = d.mistyped(path, template, reflect.TypeFor[workload.PodFields](), object); len(wrong) == 0 {
			wrong = []Diagnostic{{Line: d.lineOf(path, ""), Object: object, Message: err.Error()}}
		}
	}
	if pod, err = fields.Pod(); err == nil {
		return pod, wrong
	}
	errs := []error{err}
	if several := utilerrors.Aggregate(nil); errors.As(err, &several) {
		errs = several.Errors()
	}
	for _, err := range errs {
		line := d.lineOf(path, "")
		if one := (*field.Error)(nil); errors.As(err, &one) {
			line, err = d.lineOf(path, one.Field), workload.AtPath(path, one)
		}
		wrong = append(wrong, Diagnostic{Line: line, Object: object, Message: err.Error()})
	}
	return nil, wrong
}
