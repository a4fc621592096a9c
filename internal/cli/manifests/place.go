package manifests

import (
	"bytes"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Where things stand in a manifest's text, which a splicer needs to know. Offsets count bytes from the text's beginning.

// column of a block: an anchor's node begins at the anchor.
func (s *splicer) column(node *yaml.Node) int {
	i := slices.IndexFunc(node.Content, func(child *yaml.Node) bool { return child.Line > 0 })
	switch {
	case i < 0 || node.Anchor == "":
		return node.Column
	case node.Kind == yaml.MappingNode:
		return node.Content[i].Column
	}
	dash := s.offset(node.Content[i])
	line := s.starts[node.Content[i].Line-1]
	for dash > line && s.text[dash] != '-' {
		dash--
	}
	return dash - line + 1
}

// brackets is where the mapping in brackets behind a key stands.
func (s *splicer) brackets(key *yaml.Node) (from, to int, ok bool) {
	at := s.offset(key)
	found := flow.FindIndex(s.text[at:])
	if found == nil {
		return 0, 0, false
	}
	from = at + found[1] - 1
	to, ok = s.flowEnd(from)
	return from, to, ok
}

// blockEnd is where the lines end that are below a key's and indented by more; blank lines and comments at the end are not
// among them.
func (s *splicer) blockEnd(key *yaml.Node) (end int) {
	line := min(key.Line, len(s.starts)-1)
	end = s.starts[line]
	for ; line < len(s.starts)-1; line++ {
		if s.isComment(line) {
			continue
		}
		text := s.text[s.starts[line]:s.starts[line+1]]
		if len(text)-len(bytes.TrimLeft(text, " ")) < key.Column {
			break
		}
		end = s.starts[line+1]
	}
	return end
}

// lastLine is the index of the last line of a node in a block that begins at a column.
func (s *splicer) lastLine(node *yaml.Node, column int) int {
	if node.Line == 0 {
		s.failed = true // between additions
		return 0
	}
	line := node.Line - 1
	switch {
	case node.Kind == yaml.AliasNode:
		return line
	case node.Kind != yaml.ScalarNode && node.Style&yaml.FlowStyle == 0 && len(node.Content) > 0:
		last := len(node.Content) - 1
		for last > 0 && node.Content[last].Line == 0 {
			last--
		}
		line = s.lastLine(node.Content[last], node.Column)
		if node.Kind == yaml.MappingNode && last > 0 { // whose value may be nothing
			line = max(line, node.Content[last-1].Line-1)
		}
		return line
	case node.Kind != yaml.ScalarNode, node.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		end, ok := s.flowEnd(s.offset(node))
		s.failed = s.failed || !ok
		return s.lineAt(end)
	}
	// A text goes on in all lines that are indented by more.
	last := line
	for next := line + 1; next < len(s.starts)-1; next++ {
		text := s.text[s.starts[next]:s.starts[next+1]]
		if len(bytes.TrimSpace(text)) == 0 {
			continue
		}
		if len(text)-len(bytes.TrimLeft(text, " ")) < column {
			break
		}
		last = next
	}
	return last
}

// flowEnd is behind the closing bracket or quote of what is opened at a place.
func (s *splicer) flowEnd(at int) (end int, ok bool) {
	depth := 0
	for i := at; i < len(s.text); i++ {
		switch c := s.text[i]; c {
		case '[', '{':
			depth++
		case ']', '}':
			depth--
		case '"', '\'':
			if i > at && !strings.ContainsRune(" \t\n[{,:", rune(s.text[i-1])) {
				continue // within a word
			}
			for i++; i < len(s.text); i++ {
				doubled := c == '\'' && i+1 < len(s.text) && s.text[i+1] == c
				if s.text[i] == c && !doubled {
					break
				}
				if s.text[i] == c || c == '"' && s.text[i] == '\\' {
					i++
				}
			}
		case '#':
			if i > at && strings.ContainsRune(" \t\n", rune(s.text[i-1])) {
				i += bytes.IndexByte(append(s.text[i:len(s.text):len(s.text)], '\n'), '\n')
			}
		}
		if depth == 0 {
			return min(i+1, len(s.text)), i < len(s.text)
		}
	}
	return at, false
}

// offset is where a node begins.
func (s *splicer) offset(node *yaml.Node) int {
	at := s.starts[min(node.Line, len(s.starts))-1]
	column := 1
	for i := range string(s.text[at:]) { // columns are characters
		if column == node.Column {
			return at + i
		}
		column++
	}
	return len(s.text)
}

// lineAt is the index of the line that the byte before a place is in.
func (s *splicer) lineAt(at int) int {
	i, _ := slices.BinarySearch(s.starts, at)
	return max(0, i-1)
}

// isComment reports whether a line holds a comment or nothing.
func (s *splicer) isComment(line int) bool {
	text := bytes.TrimSpace(s.text[s.starts[line]:s.starts[line+1]])
	return len(text) == 0 || text[0] == '#'
}

// newline is the end of the text's lines.
func (s *splicer) newline() string {
	if bytes.Contains(s.text, []byte("\r\n")) {
		return "\r\n"
	}
	return "\n"
}
