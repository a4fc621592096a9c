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
	decoder := json.NewDecoder(bytes.NewReader(value))
	decoder.UseNumber()
	node, err := nextNode(decoder)
	if err != nil {
		return nil, fmt.Errorf("decode value: %w", err)
	}
	return node, nil
}

// nextNode is the decoder's next value as a tree, nil at the end of a list or an object.
func nextNode(decoder *json.Decoder) (*yaml.Node, error) {
	token, err := decoder.Token()
	if err != nil {
		return nil, err
	}
	node := &yaml.Node{Kind: yaml.ScalarNode}
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
			child, err := nextNode(decoder)
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
