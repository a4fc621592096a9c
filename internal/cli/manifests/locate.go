package manifests

import (
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// lineOf is the line, in the file, of a field of the object or pod at path. The field is a path as the API machinery
// writes it, such as "spec.containers[0].name" or "metadata.annotations[agentlet.dev/services][1].port"; of a field that
// isn't there it is the line of the nearest one that should hold it.
func (d *document) lineOf(path []string, field string) int {
	line := walk(d.root, append(slices.Clone(path), steps(field)...))
	return d.line - 1 + max(line, 1)
}

// at is the node at a path; nil where there is none.
func at(node *yaml.Node, path []string) *yaml.Node {
	node = content(node)
	for _, step := range path {
		if node == nil {
			return nil
		}
		_, value := child(node, step)
		node = content(value)
	}
	return node
}

// steps cuts a field's path into keys and indexes.
func steps(field string) (found []string) {
	for field != "" {
		if rest, ok := strings.CutPrefix(field, "["); ok {
			var step string
			step, field, _ = strings.Cut(rest, "]")
			found = append(found, step)
			continue
		}
		field = strings.TrimPrefix(field, ".")
		end := strings.IndexAny(field, ".[")
		if end < 0 {
			end = len(field)
		}
		if end > 0 {
			found = append(found, field[:end])
		}
		field = field[end:]
	}
	return found
}

// fieldName is a path in steps as the API machinery writes it.
func fieldName(path []string) string {
	var name strings.Builder
	for _, step := range path {
		switch _, err := strconv.Atoi(step); {
		case err == nil, strings.ContainsAny(step, "./"):
			name.WriteString("[" + step + "]")
		default:
			if name.Len() > 0 {
				name.WriteByte('.')
			}
			name.WriteString(step)
		}
	}
	return name.String()
}

// walk follows steps from a node as far as they go, and returns the line that they lead to; 0 where there is none.
func walk(node *yaml.Node, steps []string) (line int) {
	if node = content(node); node == nil {
		return 0
	}
	line = node.Line
	for i, step := range steps {
		if node.Kind == yaml.ScalarNode {
			return max(line, inText(node, steps[i:]))
		}
		key, value := child(node, step)
		if value == nil {
			return line
		}
		line = key.Line
		if node = content(value); node == nil {
			return line
		}
	}
	return line
}

// content is the node that a document or an alias stands for.
func content(node *yaml.Node) *yaml.Node {
	for node != nil {
		switch node.Kind {
		case yaml.DocumentNode:
			if len(node.Content) == 0 {
				return nil
			}
			node = node.Content[0]
		case yaml.AliasNode:
			node = node.Alias
		case yaml.MappingNode, yaml.SequenceNode, yaml.ScalarNode:
			return node
		}
	}
	return nil
}

// child is the value that a step leads to, and the node whose line is that of the step; nil where there is none.
func child(node *yaml.Node, step string) (key, value *yaml.Node) {
	switch node.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(node.Content); i += 2 {
			if node.Content[i].Value == step {
				return node.Content[i], node.Content[i+1]
			}
		}
		for i := 0; i+1 < len(node.Content); i += 2 {
			if merged := content(node.Content[i+1]); node.Content[i].Tag == "!!merge" && merged != nil {
				if key, value = child(merged, step); value != nil {
					return key, value
				}
			}
		}
	case yaml.SequenceNode:
		if i, err := strconv.Atoi(step); err == nil && i >= 0 && i < len(node.Content) {
			return node.Content[i], node.Content[i]
		}
	default:
	}
	return nil, nil
}

// inText follows steps into a text that is YAML itself, as that of the annotation services is. In a block of text its
// lines are those of the file.
func inText(node *yaml.Node, steps []string) int {
	if node.Style&(yaml.LiteralStyle|yaml.FoldedStyle) == 0 {
		return node.Line
	}
	inner := &yaml.Node{}
	if yaml.Unmarshal([]byte(node.Value), inner) != nil {
		return node.Line
	}
	return node.Line + walk(inner, steps)
}
