package manifests

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// inserter writes what was added to a document's tree into its text, as lines between those that are there. It leaves every
// other byte as it is: blank lines, comments, anchors, quotes and line ends.
type inserter struct {
	root  *yaml.Node
	lines [][]byte
	// ending of a line.
	ending  string
	inserts []insert
}

// insert is text before a line, by its number from 0.
type insert struct {
	before int
	text   []byte
}

// insertAdded returns the text with what was added to its tree: the nodes without a line number. It fails where lines can't
// hold them: in a list or mapping in flow style, and in the place of another value.
func insertAdded(text []byte, root *yaml.Node) ([]byte, error) {
	in := &inserter{root: root, lines: bytes.SplitAfter(text, []byte("\n")), ending: "\n"}
	if last := len(in.lines) - 1; len(in.lines[last]) == 0 {
		in.lines = in.lines[:last]
	}
	if len(in.lines) > 0 && bytes.HasSuffix(in.lines[0], []byte("\r\n")) {
		in.ending = "\r\n"
	}
	if err := in.visit(root, len(in.lines)); err != nil {
		return nil, err
	}
	slices.SortStableFunc(in.inserts, func(a, b insert) int { return a.before - b.before })
	var out bytes.Buffer
	for i, line := range in.lines {
		in.write(&out, i)
		out.Write(line)
	}
	in.write(&out, len(in.lines))
	return out.Bytes(), nil
}

// write the inserts before a line.
func (in *inserter) write(out *bytes.Buffer, line int) {
	for len(in.inserts) > 0 && in.inserts[0].before == line {
		if out.Len() > 0 && !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
			out.WriteString(in.ending) // the last line of a text need not have one
		}
		out.Write(in.inserts[0].text)
		in.inserts = in.inserts[1:]
	}
}

func added(node *yaml.Node) bool { return node.Line == 0 }

// visit gathers the inserts in a node that was there, its children's first. end is the number of the line, from 0, that begins
// what follows the node.
func (in *inserter) visit(node *yaml.Node, end int) error {
	size := 1 // of a child: a key and its value
	switch node.Kind {
	case yaml.MappingNode:
		size = 2
	case yaml.DocumentNode, yaml.SequenceNode:
	case yaml.ScalarNode, yaml.AliasNode:
		return nil
	}
	for i := 0; i < len(node.Content); {
		child := node.Content[i : i+size]
		if !added(child[0]) {
			value, next := child[size-1], end
			if i+size < len(node.Content) && !added(node.Content[i+size]) {
				next = node.Content[i+size].Line - 1
			}
			if added(value) {
				return fmt.Errorf("line %d: the value is another one", child[0].Line)
			}
			if err := in.visit(value, next); err != nil {
				return err
			}
			i += size
			continue
		}
		run := i
		for i < len(node.Content) && added(node.Content[i]) {
			i += size
		}
		next := end
		if i < len(node.Content) {
			next = node.Content[i].Line - 1
		}
		if err := in.add(node, run, i, next); err != nil {
			return err
		}
	}
	return nil
}

// add inserts the children from begin to end of a list or mapping. next is the line, from 0, that begins what follows them.
func (in *inserter) add(node *yaml.Node, begin, end, next int) error {
	old := slices.IndexFunc(node.Content, func(child *yaml.Node) bool { return !added(child) })
	if node.Style&yaml.FlowStyle != 0 || old < 0 {
		return fmt.Errorf("line %d: no line can be added", node.Line)
	}
	first := node.Content[old]
	indent := first.Column - 1
	if node.Kind == yaml.SequenceNode {
		indent = indentation(in.lines[first.Line-1]) // of the dash
	}
	part := &yaml.Node{Kind: node.Kind, Tag: node.Tag, Content: node.Content[begin:end]}
	text, err := in.render(part, indent)
	if err != nil {
		return err
	}
	in.inserts = append(in.inserts, insert{in.endOf(next, indent), text})
	return nil
}

// endOf is the line before which to insert what is indented by so much: after the last line of what stands before next.
// Blank lines and comments that belong to what follows stay with it.
func (in *inserter) endOf(next, indent int) int {
	most := indent - 1 // of such comments
	if next < len(in.lines) {
		most = max(most, indentation(in.lines[next]))
	}
	for ; next > 0; next-- {
		line := bytes.TrimSpace(in.lines[next-1])
		if len(line) > 0 && !bytes.Equal(line, []byte("...")) && (line[0] != '#' || indentation(in.lines[next-1]) > most) {
			break
		}
	}
	return next
}

func indentation(line []byte) int { return len(line) - len(bytes.TrimLeft(line, " ")) }

// render is the text of a list or mapping with each line indented.
func (in *inserter) render(node *yaml.Node, indent int) ([]byte, error) {
	text, err := encodeYAML(node, compact(in.root))
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSuffix(line, "\n"); line != "" {
			out.WriteString(strings.Repeat(" ", indent) + line)
		}
		out.WriteString(in.ending)
	}
	return out.Bytes(), nil
}

// encodeYAML writes a tree as YAML. compact: lists in mappings begin at the column of their key.
func encodeYAML(node *yaml.Node, compact bool) ([]byte, error) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if compact {
		encoder.CompactSeqIndent()
	}
	if err := encoder.Encode(node); err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("encode YAML: %w", err)
	}
	return out.Bytes(), nil
}
