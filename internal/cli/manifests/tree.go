package manifests

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// shared reports whether a part of the tree may stand in several places.
func shared(node *yaml.Node) bool {
	return node.Anchor != "" || node.Kind == yaml.AliasNode || slices.ContainsFunc(node.Content, shared)
}

// compact reports whether lists in mappings begin at the column of their key, as the first such list does.
func compact(root *yaml.Node) bool {
	found := false
	var look func(node *yaml.Node) bool
	look = func(node *yaml.Node) bool {
		for i, child := range node.Content {
			if node.Kind == yaml.MappingNode && i%2 == 1 && child.Kind == yaml.SequenceNode && child.Style&yaml.FlowStyle == 0 &&
				child.Column > 0 && child.Anchor == "" { // else it is the anchor's column
				found = child.Column == node.Content[i-1].Column
				return true
			}
			if look(child) {
				return true
			}
		}
		return false
	}
	return !look(root) || found
}

// blockNode is a JSON value as a tree in block style, with its keys in their order.
func blockNode(value []byte) (*yaml.Node, error) {
	node, err := newJSONReader(value).next()
	if err != nil {
		return nil, fmt.Errorf("decode value: %w", err)
	}
	node.Line = 0 // it is of no text
	return node, nil
}

// jsonTree is the tree of a text that begins with a JSON value.
func jsonTree(text []byte) (*yaml.Node, *readError) {
	node, err := newJSONReader(text).next()
	if err != nil {
		return nil, jsonError(text)
	}
	return node, nil
}

// jsonReader makes trees of JSON, with lines.
type jsonReader struct {
	*json.Decoder
	text []byte
	// line of the text's byte at.
	at, line int
}

func newJSONReader(text []byte) *jsonReader {
	r := &jsonReader{Decoder: json.NewDecoder(bytes.NewReader(text)), text: text, line: 1}
	r.UseNumber()
	return r
}

// next is the next value as a tree, nil at the end of a list or an object.
func (r *jsonReader) next() (*yaml.Node, error) {
	token, err := r.Token()
	if err != nil {
		return nil, err
	}
	end := int(r.InputOffset()) // a token has no line breaks
	r.line += bytes.Count(r.text[r.at:end], []byte("\n"))
	r.at = end
	node := &yaml.Node{Kind: yaml.ScalarNode, Line: r.line}
	switch token := token.(type) {
	case json.Delim:
		switch token {
		case '{':
			node.Kind, node.Tag = yaml.MappingNode, "!!map"
		case '[':
			node.Kind, node.Tag = yaml.SequenceNode, "!!seq"
		default:
			return nil, nil
		}
		for {
			child, err := r.next()
			if err != nil {
				return nil, err
			}
			if child == nil {
				return node, nil
			}
			node.Content = append(node.Content, child)
		}
	case string:
		node.SetString(token)
	case json.Number:
		node.Tag, node.Value = "!!int", token.String()
		if strings.ContainsAny(node.Value, ".eE") {
			node.Tag = "!!float"
		}
	case bool:
		node.Tag, node.Value = "!!bool", strconv.FormatBool(token)
	default:
		node.Tag, node.Value = "!!null", "null"
	}
	return node, nil
}

// addAt does a JSON patch's "add" to a tree. It reports whether the tree allows it: a path that crosses an alias would lead to
// where its anchor is.
func addAt(node *yaml.Node, path []string, value *yaml.Node) bool {
	last := len(path) == 1
	switch node.Kind {
	case yaml.DocumentNode:
		return len(node.Content) > 0 && addAt(node.Content[0], path, value)
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value != path[0] {
				continue
			}
			if last {
				if old := node.Content[i+1]; old.Kind == yaml.ScalarNode && value.Kind == yaml.ScalarNode {
					value.Style, value.LineComment = old.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle), old.LineComment
				}
				node.Content[i+1] = value
				return true
			}
			return addAt(node.Content[i+1], path[1:], value)
		}
		if last {
			key := &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str", Value: path[0]}
			node.Content = append(node.Content, key, value)
		}
		return last
	case yaml.SequenceNode:
		at := len(node.Content)
		if path[0] != "-" {
			var err error
			if at, err = strconv.Atoi(path[0]); err != nil || at < 0 || at > len(node.Content) {
				return false
			}
		}
		if last {
			node.Content = slices.Insert(node.Content, at, value)
			return true
		}
		return at < len(node.Content) && addAt(node.Content[at], path[1:], value)
	default:
		return false
	}
}
