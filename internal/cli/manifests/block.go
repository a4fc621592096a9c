package manifests

import (
	"bytes"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// blockWriter writes trees as encodeYAML does, byte for byte, several times faster. By itself it writes those of lists, mappings
// and texts of one line, in blocks, as what is added is. How a text is quoted it has from encodeYAML, once for each text: nearly
// all that is added to one document is added to each. It is safe for concurrent use.
type blockWriter struct {
	scalars sync.Map // scalarKey to string
}

type scalarKey struct{ tag, value string }

// A key stands before its value's colon up to this length, and if it has no line break.
const (
	maxKey = 128
	breaks = "\r\n\u0085\u2028\u2029"
)

// encode is encodeYAML.
func (w *blockWriter) encode(node *yaml.Node, compact bool) ([]byte, bool) {
	var out bytes.Buffer
	if w.write(&out, node, 0, compact) {
		return out.Bytes(), true
	}
	return encodeYAML(node, compact)
}

// write writes a node that begins where the output ends, and all further lines of which are indented; ok is false where it
// doesn't know how.
func (w *blockWriter) write(out *bytes.Buffer, node *yaml.Node, indent int, compact bool) (ok bool) {
	if node.Style != 0 || node.Anchor != "" || node.HeadComment != "" || node.LineComment != "" || node.FootComment != "" {
		return false
	}
	switch {
	case node.Kind == yaml.ScalarNode:
		text, ok := w.scalar(node)
		out.WriteString(text + "\n")
		return ok
	case node.Kind == yaml.MappingNode && len(node.Content) == 0:
		out.WriteString("{}\n")
	case node.Kind == yaml.SequenceNode && len(node.Content) == 0:
		out.WriteString("[]\n")
	case node.Kind == yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			w.pad(out, indent, i == 0)
			if !w.member(out, node.Content[i], node.Content[i+1], indent, compact) {
				return false
			}
		}
	case node.Kind == yaml.SequenceNode:
		for i, item := range node.Content {
			w.pad(out, indent, i == 0)
			out.WriteString("- ")
			if !w.write(out, item, indent+2, compact) {
				return false
			}
		}
	default:
		return false
	}
	return true
}

// member writes a key, and its value behind it or on the lines below.
func (w *blockWriter) member(out *bytes.Buffer, key, value *yaml.Node, indent int, compact bool) (ok bool) {
	if key.Kind != yaml.ScalarNode || len(key.Value) > maxKey || strings.ContainsAny(key.Value, breaks) ||
		!w.write(out, key, 0, compact) {
		return false
	}
	out.Truncate(out.Len() - 1)
	out.WriteByte(':')
	if len(value.Content) == 0 {
		out.WriteByte(' ')
		return w.write(out, value, indent, compact)
	}
	if value.Kind != yaml.SequenceNode || !compact {
		indent += 2
	}
	out.WriteByte('\n')
	w.pad(out, indent, false)
	return w.write(out, value, indent, compact)
}

func (w *blockWriter) pad(out *bytes.Buffer, indent int, first bool) {
	if !first {
		out.WriteString(strings.Repeat(" ", indent))
	}
}

// scalar is a text or a number as YAML.
func (w *blockWriter) scalar(node *yaml.Node) (text string, ok bool) {
	key := scalarKey{node.Tag, node.Value}
	if known, there := w.scalars.Load(key); there {
		return known.(string), true
	}
	encoded, ok := encodeYAML(&yaml.Node{Kind: yaml.ScalarNode, Tag: node.Tag, Value: node.Value}, true)
	text, alone := strings.CutSuffix(string(encoded), "\n")
	if !ok || !alone || strings.Contains(text, "\n") {
		return "", false
	}
	w.scalars.Store(key, text)
	return text, true
}

// encodeYAML writes a tree in the style of a document.
func encodeYAML(node *yaml.Node, compact bool) ([]byte, bool) {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if compact {
		encoder.CompactSeqIndent()
	}
	if encoder.Encode(node) != nil || encoder.Close() != nil {
		return nil, false
	}
	return out.Bytes(), true
}
