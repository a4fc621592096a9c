package manifests

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"

	"go.yaml.in/yaml/v3"
	kyaml "sigs.k8s.io/yaml"
)

// read reads the document's body: its tree, and the JSON that the API server would get. Of a document that holds nothing both
// are nil.
func (c *chunk) read() (root *yaml.Node, value []byte, wrong *readError) {
	switch {
	case c.wrong != nil && !c.orYAML:
		return nil, nil, c.wrong
	case c.isJSON:
		value = bytes.TrimSpace(c.body)
		root, wrong = jsonTree(c.body)
	default:
		root, value, wrong = c.readYAML()
		if wrong != nil && c.wrong != nil && !bytes.HasPrefix([]byte(wrong.message), []byte(unrendered)) {
			wrong = c.wrong
		}
	}
	if wrong != nil || root == nil || bytes.Equal(value, []byte("null")) {
		return nil, nil, wrong
	}
	if wrong = duplicate(root); wrong != nil {
		return nil, nil, wrong
	}
	return root, value, nil
}

// readYAML reads one YAML document: its tree for the lines, and its value as kubectl does, with each line ended as there. A
// second document is an error: kubectl passes over it without a word.
func (c *chunk) readYAML() (root *yaml.Node, value []byte, wrong *readError) {
	text := c.yamlText()
	root = &yaml.Node{}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	err := decoder.Decode(root)
	if errors.Is(err, io.EOF) {
		root, err = nil, nil
	}
	if err == nil {
		value, err = c.yamlValue(text)
	}
	if err != nil {
		return nil, nil, syntaxError(text, root, err)
	}
	if root == nil {
		if !bytes.Equal(value, []byte("null")) {
			wrong = &readError{line: 1, message: "there is only a comment here, but kubectl reads a text"}
		}
		return nil, nil, wrong
	}
	next := &yaml.Node{}
	if err = decoder.Decode(next); errors.Is(err, io.EOF) {
		return root, value, nil
	}
	line := max(next.Line, 1)
	if err != nil {
		named, _ := yamlError(err)
		line = min(named, bytes.Count(text, []byte("\n"))) + 1 // the parser's lines begin at 0
	}
	return nil, nil, &readError{line: line, message: fmt.Sprintf("kubectl reads no second document without a line %s before it", separator)}
}

// yamlText is the body with each line ended as kubectl ends it.
func (c *chunk) yamlText() []byte {
	text := bytes.ReplaceAll(c.body, []byte("\r\n"), []byte("\n"))
	if len(text) > 0 && !bytes.HasSuffix(text, []byte("\n")) {
		text = append(slices.Clip(text), '\n')
	}
	return text
}

// yamlValue is what kubectl reads in that text, as JSON.
func (c *chunk) yamlValue(text []byte) ([]byte, error) {
	if c.withSeparator {
		text = slices.Concat(bytes.TrimRight(c.separator, "\r\n"), []byte("\n"), text)
	}
	value, err := kyaml.YAMLToJSON(text)
	return bytes.TrimSpace(value), err
}

// unrendered begins what is said of a template.
const unrendered = "a template that is not rendered"

// action is where a line of a Helm template holds an action in place of YAML: alone, as an item or as a value. Within a text, as
// in name: web-{{ .Values.name }}, and in quotes it is none of YAML's business.
var action = regexp.MustCompile(`(?m)^[ \t]*(- +)*([^\s#"'][^\s"']*:[ \t]+)?(\{\{.*?(\}\}|$))`)

// syntaxError is an error of the YAML libraries about a text, with its own line. The tree is there if the first of the two could
// read the text.
func syntaxError(text []byte, root *yaml.Node, err error) *readError {
	named, message := yamlError(err)
	line := max(1, errorLine(text, message), min(named, 1+bytes.Count(text, []byte("\n")))) // an error of aliases names none
	wrong := &readError{line: line, message: message}
	if key := compositeKey(root); key != nil {
		wrong = &readError{line: key.Line, message: "a key must be a text"}
	}
	lines := bytes.SplitAfter(text, []byte("\n"))
	for at := max(wrong.line-1, 1); at <= min(wrong.line+1, len(lines)); at++ { // what an action leaves behind may show beside it
		if found := action.FindSubmatch(lines[at-1]); found != nil {
			return &readError{line: at, message: fmt.Sprintf(
				"%s: %s is Helm's; give the output of helm template", unrendered, bytes.TrimSpace(found[3]))}
		}
	}
	return wrong
}

// compositeKey is the first key that is a mapping or a list, nil where there is none.
func compositeKey(node *yaml.Node) *yaml.Node {
	if node == nil {
		return nil
	}
	for i, child := range node.Content {
		if node.Kind == yaml.MappingNode && i%2 == 0 && child.Kind != yaml.ScalarNode && child.Kind != yaml.AliasNode {
			return child
		}
		if key := compositeKey(child); key != nil {
			return key
		}
	}
	return nil
}

// errorLine finds the line of an error, which the library's own words often miss: it names the start of what the error is in, or
// the line before. No line below the one in which the parser gave up has it. Upwards from there it is the first one with which
// the text before it is no YAML any more, in the same words.
func errorLine(text []byte, message string) int {
	lines := bytes.SplitAfter(text, []byte("\n"))
	reader := &lineReader{lines: lines}
	if yaml.NewDecoder(reader).Decode(&yaml.Node{}) == nil {
		return 0 // the other library's error
	}
	const furthest = 500 // lines, each of which takes a reading of all before it
	last := max(reader.given, 1)
	fails := func(n int) (string, bool) {
		err := yaml.Unmarshal(bytes.Join(lines[:n], nil), &yaml.Node{})
		if err == nil {
			return "", false
		}
		_, says := yamlError(err)
		return says, true
	}
	found := last
	for n := last; n >= max(1, last-furthest); n-- {
		says, failed := fails(n)
		if !failed {
			break
		}
		if says == message {
			found = n
		}
	}
	return found
}

// lineReader gives one line at each reading, to see how far a parser has come.
type lineReader struct {
	lines [][]byte
	given int
	rest  []byte
}

func (r *lineReader) Read(p []byte) (int, error) {
	for len(r.rest) == 0 {
		if r.given == len(r.lines) {
			return 0, io.EOF
		}
		r.rest = r.lines[r.given]
		r.given++
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// duplicate finds a key that a mapping has twice, which the parsers let pass.
func duplicate(node *yaml.Node) *readError {
	if node.Kind == yaml.MappingNode {
		lines := make(map[string]int, len(node.Content)/2)
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := node.Content[i]
			if key.Kind != yaml.ScalarNode {
				continue
			}
			if first := lines[key.Value]; first > 0 {
				return &readError{line: key.Line, message: fmt.Sprintf("the key %q is there already", key.Value), earlier: first}
			}
			lines[key.Value] = key.Line
		}
	}
	for _, child := range node.Content {
		if wrong := duplicate(child); wrong != nil {
			return wrong
		}
	}
	return nil
}
