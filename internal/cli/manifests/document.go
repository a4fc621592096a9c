package manifests

import (
	"encoding/json"
	"fmt"
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
	// root is the parsed document, nil where it holds nothing. Lines in it are the body's.
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

// Diagnostic is an error or a warning, with its place.
type Diagnostic struct {
	File    string
	Line    int
	Object  string
	Message string
}

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
		if d := file.documents[i]; !blank(d.body) {
			wrong[i] = d.parse()
		}
	})
	diagnostics := slices.Concat(wrong...)
	for i := range diagnostics {
		diagnostics[i].File = name
	}
	return file, diagnostics
}

// parse reads the document and finds its pods. It returns what can't be read, without the file's name.
func (d *document) parse() []Diagnostic {
	root := &yaml.Node{}
	err := yaml.Unmarshal(d.body, root)
	if err == nil {
		d.json, err = kyaml.YAMLToJSON(d.body)
	}
	if err != nil {
		line, text := yamlError(err, d.line)
		return []Diagnostic{{Line: line, Message: "read document: " + text}}
	}
	if key, first := duplicate(root); key != nil {
		line := d.line - 1 + key.Line
		return []Diagnostic{{Line: line, Message: fmt.Sprintf(
			"read document: line %d: mapping key %q already defined at line %d", line, key.Value, d.line-1+first)}}
	}
	d.root = root
	return d.find(d.json, nil)
}

// duplicate finds a key that a mapping has twice, which the parsers let pass, and the line where it is first; nil: none.
func duplicate(node *yaml.Node) (key *yaml.Node, first int) {
	if node.Kind == yaml.MappingNode {
		lines := make(map[string]int, len(node.Content)/2)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Kind != yaml.ScalarNode {
				continue
			}
			if first := lines[key.Value]; first > 0 {
				return key, first
			}
			lines[key.Value] = key.Line
		}
	}
	for _, child := range node.Content {
		if key, first := duplicate(child); key != nil {
			return key, first
		}
	}
	return nil, 0
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

// find gathers the pods of the object that raw holds at path, and returns what can't be read of it. What is no object, or of a
// kind without pods, has none.
func (d *document) find(raw []byte, path []string) (wrong []Diagnostic) {
	var o object
	if json.Unmarshal(raw, &o) != nil {
		return nil
	}
	if strings.HasSuffix(o.Kind, "List") {
		for i, item := range o.Items {
			wrong = append(wrong, d.find(item, append(slices.Clip(path), "items", strconv.Itoa(i)))...)
		}
		return wrong
	}
	steps, known := workload.Path(o.APIVersion, o.Kind)
	if !known {
		return nil
	}
	var pod *corev1.Pod
	template, err := workload.Template(raw, steps)
	if err == nil {
		pod, err = workload.Pod(template)
	}
	line := d.lineOf(path, "")
	if err != nil {
		return []Diagnostic{{Line: line, Message: fmt.Sprintf("read %s %s at line %d: %v", o.Kind, o.Metadata.Name, line, err)}}
	}
	name := o.Metadata.Name
	if name == "" {
		name = o.Metadata.GenerateName
	}
	d.pods = append(d.pods, Pod{
		Kind: o.Kind, Namespace: o.Metadata.Namespace, Name: name, Line: line, Pod: pod,
		path: append(slices.Clip(path), steps...),
	})
	return nil
}
