package manifests

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"

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
			if node.Kind == yaml.MappingNode && i%2 == 1 && child.Kind == yaml.SequenceNode && child.Style&yaml.FlowStyle == 0 && child.Column > 0 {
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

// blockNode is a value as a tree in block style, with its keys in the order of its JSON.
func blockNode(value any) (*yaml.Node, error) {
	text, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode value: %w", err)
	}
	document := &yaml.Node{}
	if err := yaml.Unmarshal(text, document); err != nil { // JSON is YAML in flow style
		return nil, fmt.Errorf("decode value: %w", err)
	}
	var plain func(node *yaml.Node)
	plain = func(node *yaml.Node) {
		node.Style, node.Line, node.Column = 0, 0, 0
		for _, child := range node.Content {
			plain(child)
		}
	}
	plain(document)
	return document.Content[0], nil
}

// addAt does a JSON patch's "add" to a tree without aliases.
func addAt(node *yaml.Node, path []string, value *yaml.Node) bool {
	node = content(node)
	if node == nil {
		return false
	}
	last := len(path) == 1
	switch node.Kind {
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
