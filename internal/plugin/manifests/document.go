package manifests

import (
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
	errs := make([]error, len(file.documents))
	inParallel(len(file.documents), func(i int) {
		if d := file.documents[i]; !blank(d.body) {
			errs[i] = d.parse()
		}
	})
	var diagnostics []Diagnostic
	for i, err := range errs {
		if err != nil {
			diagnostics = append(diagnostics, Diagnostic{File: name, Line: lineIn(err, file.documents[i].line), Message: err.Error()})
		}
	}
	return file, diagnostics
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

// ownLine is where a parser names a line. What it quotes of a document has no line breaks.
var ownLine = regexp.MustCompile(`(?m)(^ *line |yaml: line | at line )(\d+)(:|$)`)

// inFile says a parser's error about the body with the lines of the file.
func (d *document) inFile(err error) string {
	return ownLine.ReplaceAllStringFunc(err.Error(), func(text string) string {
		parts := ownLine.FindStringSubmatch(text)
		line, err := strconv.Atoi(parts[2])
		if err != nil {
			return text
		}
		return parts[1] + strconv.Itoa(d.line-1+line) + parts[3]
	})
}

// parse reads the document and finds its pods.
func (d *document) parse() (err error) {
	root := &yaml.Node{}
	if err = yaml.Unmarshal(d.body, root); err == nil {
		d.json, err = kyaml.YAMLToJSON(d.body)
	}
	if err != nil {
		return fmt.Errorf("read document: %s", oneLine.Replace(strings.TrimPrefix(d.inFile(err), "yaml: ")))
	}
	if err := d.duplicate(root); err != nil {
		return fmt.Errorf("read document: %w", err)
	}
	d.root = root
	var errs []error
	d.find(d.json, nil, &errs)
	return errors.Join(errs...)
}

// duplicate says that a mapping has a key twice, which the parsers don't.
func (d *document) duplicate(node *yaml.Node) error {
	if node.Kind == yaml.MappingNode {
		lines := make(map[string]int, len(node.Content)/2)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Kind != yaml.ScalarNode {
				continue
			}
			if first := lines[key.Value]; first > 0 {
				return fmt.Errorf("line %d: mapping key %q already defined at line %d", d.line-1+key.Line, key.Value, d.line-1+first)
			}
			lines[key.Value] = key.Line
		}
	}
	for _, child := range node.Content {
		if err := d.duplicate(child); err != nil {
			return err
		}
	}
	return nil
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
