package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	kyaml "sigs.k8s.io/yaml"

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
	// root is the parsed document, nil where it holds nothing. Lines in it are the file's.
	root *yaml.Node
	// json is the document as the API server would get it.
	json []byte
	pods []Pod
}

// Pod is a pod, or the template of one, in a file.
type Pod struct {
	// Kind, Namespace and Name of the object that holds it. The namespace may be empty.
	Kind, Namespace, Name string
	// Line of the object in its file.
	Line int
	// Pod is the pod, or the template's metadata and specification.
	Pod *corev1.Pod
	// path of the pod in its document, in steps; none where the document is the pod.
	path []string
}

// Object is the pod's object as messages name it, such as "Deployment shop/web".
func (p *Pod) Object() string {
	name := p.Name
	if p.Namespace != "" {
		name = p.Namespace + "/" + name
	}
	return p.Kind + " " + name
}

// Note is a mistake or a warning, with its place.
type Note struct {
	File    string
	Line    int
	Object  string
	Message string
}

func (n Note) String() string {
	text := fmt.Sprintf("%s:%d: ", n.File, n.Line)
	if n.Object != "" {
		text += n.Object + ": "
	}
	return text + n.Message
}

// Parse reads a stream of YAML or JSON documents. A document that can't be read is a mistake, and is left as it is.
func Parse(name string, stream []byte) (*File, []Note) {
	file := &File{Name: name}
	var mistakes []Note
	for _, c := range split(stream) {
		d := &document{chunk: c}
		file.documents = append(file.documents, d)
		if blank(c.body) {
			continue
		}
		if err := d.parse(); err != nil {
			mistakes = append(mistakes, Note{File: name, Line: lineIn(err, c.line), Message: err.Error()})
		}
	}
	return file, mistakes
}

// oneLine puts a parser's list of errors on one line.
var oneLine = strings.NewReplacer("\n ", "", "\n", " ")

var lineNumber = regexp.MustCompile(`\bline (\d+)`)

// lineIn is the line that a parser's error names, or else fallback.
func lineIn(err error, fallback int) int {
	if found := lineNumber.FindStringSubmatch(err.Error()); found != nil {
		if line, err := strconv.Atoi(found[1]); err == nil {
			return line
		}
	}
	return fallback
}

// parse reads the document and finds its pods.
func (d *document) parse() (err error) {
	// With as many empty lines before it, the parsers count as in the file.
	text := append(bytes.Repeat([]byte("\n"), d.line-1), d.body...)
	root := &yaml.Node{}
	var strict any // finds keys that are there twice, which the other parsers don't
	for _, read := range []func() error{
		func() error { return yaml.Unmarshal(text, root) },
		func() error { return root.Decode(&strict) },
		func() (err error) { d.json, err = kyaml.YAMLToJSON(text); return err },
	} {
		if err := read(); err != nil {
			return fmt.Errorf("read document: %s", oneLine.Replace(strings.TrimPrefix(err.Error(), "yaml: ")))
		}
	}
	d.root = root
	var errs []error
	d.find(d.json, nil, &errs)
	return errors.Join(errs...)
}

// object is the part of any object that is read here.
type object struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
	Metadata   struct {
		Name         string `json:"name"`
		GenerateName string `json:"generateName"`
		Namespace    string `json:"namespace"`
	} `json:"metadata"`
	Items []json.RawMessage `json:"items"`
}

// find gathers the pods of the object that raw holds at path. What is no object, or of a kind without pods, has none.
func (d *document) find(raw []byte, path []string, errs *[]error) {
	var o object
	if json.Unmarshal(raw, &o) != nil {
		return
	}
	if strings.HasSuffix(o.Kind, "List") {
		for i, item := range o.Items {
			d.find(item, append(slices.Clip(path), "items", strconv.Itoa(i)), errs)
		}
		return
	}
	steps, known := workload.Path(o.APIVersion, o.Kind)
	if !known {
		return
	}
	var pod *corev1.Pod
	template, err := workload.Template(raw, steps)
	if err == nil {
		pod, err = workload.Pod(template)
	}
	line := d.lineOf(path, "")
	if err != nil {
		*errs = append(*errs, fmt.Errorf("read %s %s at line %d: %w", o.Kind, o.Metadata.Name, line, err))
		return
	}
	name := o.Metadata.Name
	if name == "" {
		name = o.Metadata.GenerateName
	}
	d.pods = append(d.pods, Pod{
		Kind: o.Kind, Namespace: o.Metadata.Namespace, Name: name, Line: line, Pod: pod,
		path: append(slices.Clip(path), steps...),
	})
}
