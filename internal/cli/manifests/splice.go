package manifests

import (
	"bytes"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// splicer puts what was added to a document's tree into its text, so that all the rest stays as it was written: blank lines,
// comments, quotes and indents. Nodes that were added have no line. It looks at columns and indents only, and not at all that
// YAML allows: its caller compares what the text says then with what it should.
type splicer struct {
	text []byte
	// starts of the text's lines, and one more at its end.
	starts  []int
	compact bool
	writer  *blockWriter
	added   []insertion
	failed  bool
}

// insertion is a text to be put at a place, instead of what stands there up to its end.
type insertion struct {
	at, end int
	text    []byte
}

// splice returns the text with the additions; ok is false where they have no place of their own.
func splice(text []byte, root *yaml.Node, writer *blockWriter) (out []byte, ok bool) {
	s := &splicer{text: text, starts: []int{0}, compact: compact(root), writer: writer}
	for line := range bytes.Lines(text) {
		s.starts = append(s.starts, s.starts[len(s.starts)-1]+len(line))
	}
	s.look(content(root))
	if s.failed {
		return nil, false
	}
	slices.SortStableFunc(s.added, func(a, b insertion) int { return a.at - b.at })
	from := 0
	for _, i := range s.added {
		out = append(append(out, text[from:i.at]...), i.text...)
		from = i.end
	}
	return append(out, text[from:]...), true
}

// look finds the additions below a node, the inner ones first: at one place they come first.
func (s *splicer) look(node *yaml.Node) {
	step := 1
	if node.Kind == yaml.MappingNode {
		step = 2
	}
	for i := step - 1; i < len(node.Content); i += step {
		switch child := node.Content[i]; {
		case child.Line > 0:
			s.look(child)
		case step == 2 && node.Content[i-1].Line > 0:
			s.replace(node, i)
		}
	}
	for from := 0; from < len(node.Content); {
		to := from
		for to < len(node.Content) && node.Content[to].Line == 0 {
			to += step
		}
		switch {
		case to == from:
			from += step
			continue
		case node.Style&yaml.FlowStyle != 0:
			s.addInFlow(node, from, to)
		default:
			s.addLines(node, from, to)
		}
		from = to
	}
}

// addLines adds children of a block, from and to these numbers, as lines.
func (s *splicer) addLines(node *yaml.Node, from, to int) {
	line, column := node.Line-1, s.column(node) // the line of the first one, as an index
	if from > 0 {
		before := node.Content[from-1]
		if before.Line == 0 && before.Kind == yaml.ScalarNode && node.Kind == yaml.MappingNode {
			before = node.Content[from-2] // the key of a text that was replaced, which has one line
		}
		line = s.lastLine(before, column) + 1
	} else {
		if strings.TrimLeft(string(s.text[s.starts[line]:s.offset(node)]), " ") != "" {
			s.failed = true
			return
		}
		for line > 0 && s.isComment(line-1) { // which is about what follows
			line--
		}
	}
	part := &yaml.Node{Kind: node.Kind, Content: node.Content[from:to]}
	encoded, ok := s.writer.encode(part, s.compact)
	if !ok {
		s.failed = true
		return
	}
	at, out := s.starts[min(line, len(s.starts)-1)], s.indented(encoded, column)
	if at > 0 && s.text[at-1] != '\n' { // the text's last line has no end
		out = append([]byte(s.newline()), bytes.TrimSuffix(out, []byte(s.newline()))...)
	}
	s.insert(at, out)
}

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

func (s *splicer) insert(at int, text []byte) { s.added = append(s.added, insertion{at, at, text}) }

// What may stand behind a key on its line. The groups are what goes when another value comes.
var (
	// nothing: no value, or one that is empty.
	nothing = regexp.MustCompile(`^[\w./-]+:[ \t]*?([ \t](?:null|~|\[\]|\{\}))?[ \t]*(?:#.*)?\r?\n`)
	// scalar: a text or a number.
	scalar = regexp.MustCompile(`^[\w./-]+:[ \t]+("[^"\\\n]*"|'[^'\n]*'|[^\s"'#\n][^#\n]*?)[ \t]*(?:#.*)?(?:\r?\n|$)`)
	// flowScalar: one between brackets, where a comma ends it.
	flowScalar = regexp.MustCompile(`^[\w./-]+:[ \t]+("[^"\\\n]*"|'[^'\n]*'|[\w./-]+)[ \t]*(?:(?:#.*)?(?:\r?\n|$)|[,}])`)
	// block: nothing more, as the value begins on the next line.
	block = regexp.MustCompile(`^[\w./-]+:[ \t]*(?:#.*)?\r?\n`)
	// flow: up to the bracket of a mapping.
	flow = regexp.MustCompile(`^[\w./-]+:[ \t]+\{`)
	// rest: nothing but a comment, behind a value.
	rest = regexp.MustCompile(`^[ \t]*(?:#.*)?\r?\n`)
)

// replace writes the value with this number in the place of another one.
func (s *splicer) replace(node *yaml.Node, i int) {
	key, value := node.Content[i-1], node.Content[i]
	inFlow := node.Style&yaml.FlowStyle != 0
	var ok bool
	switch {
	case value.Kind == yaml.ScalarNode:
		ok = s.replaceScalar(key, value, inFlow)
	case inFlow:
		ok = s.replaceInFlow(key, value)
	default:
		ok = s.replaceBlock(key, value)
	}
	s.failed = s.failed || !ok
}

// replaceScalar writes a text or a number in the place of one on its key's line.
func (s *splicer) replaceScalar(key, value *yaml.Node, inFlow bool) (ok bool) {
	at, shape := s.offset(key), scalar
	if inFlow {
		shape = flowScalar
	}
	found := shape.FindSubmatchIndex(s.text[at:])
	encoded, ok := s.writer.encode(&yaml.Node{Kind: value.Kind, Tag: value.Tag, Value: value.Value, Style: value.Style}, s.compact)
	if encoded = bytes.TrimSuffix(encoded, []byte("\n")); found == nil || !ok || bytes.ContainsRune(encoded, '\n') {
		return false
	}
	s.added = append(s.added, insertion{at + found[2], at + found[3], encoded})
	return true
}

// replaceInFlow writes a mapping in the place of one in brackets that are within others.
func (s *splicer) replaceInFlow(key, value *yaml.Node) (ok bool) {
	begin, end, ok := s.brackets(key)
	encoded, encodes := encodeYAML(&yaml.Node{Kind: value.Kind, Style: yaml.FlowStyle, Content: value.Content}, s.compact)
	if !ok || !encodes {
		return false
	}
	s.added = append(s.added, insertion{begin, end, bytes.TrimSpace(encoded)})
	return true
}

// replaceBlock writes a list or mapping in lines below its key, in the place of another value.
func (s *splicer) replaceBlock(key, value *yaml.Node) (ok bool) {
	bare := &yaml.Node{Kind: key.Kind, Tag: key.Tag, Value: key.Value} // its comments stay where they are
	encoded, ok := s.writer.encode(&yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{bare, value}}, s.compact)
	head, lines, _ := bytes.Cut(encoded, []byte("\n"))
	from, to, below, found := s.valueOf(key)
	if !ok || !found || !bytes.HasSuffix(head, []byte(":")) {
		return false
	}
	s.insert(below, s.indented(lines, key.Column))
	s.added = append(s.added, insertion{from, to, nil})
	return true
}

// valueOf is where the value of a key in a block stands, and where the lines below the key begin. ok is false for a text, a
// number and a list in brackets.
func (s *splicer) valueOf(key *yaml.Node) (from, to, below int, ok bool) {
	at := s.offset(key)
	text := s.text[at:]
	below, to = at+len(block.Find(text)), s.blockEnd(key)
	if below > at && to > below {
		return below, to, below, true
	}
	if found := nothing.FindSubmatchIndex(text); found != nil {
		below = at + found[1]
		if found[2] < 0 {
			return below, below, below, true
		}
		return at + found[2], at + found[3], below, true
	}
	from, to, ok = s.brackets(key)
	line := rest.Find(s.text[to:])
	return from, to, to + len(line), ok && line != nil
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

// indented are lines of a block that begins at a column.
func (s *splicer) indented(lines []byte, column int) (out []byte) {
	indent := strings.Repeat(" ", max(0, column-1))
	for text := range strings.Lines(string(lines)) {
		if text = strings.TrimSuffix(text, "\n"); text != "" {
			text = indent + text
		}
		out = append(append(out, text...), s.newline()...)
	}
	return out
}

// addInFlow adds children between brackets.
func (s *splicer) addInFlow(node *yaml.Node, from, to int) {
	open := s.offset(node)
	end, ok := s.flowEnd(open)
	part := &yaml.Node{Kind: node.Kind, Style: yaml.FlowStyle, Content: node.Content[from:to]}
	encoded, encodes := encodeYAML(part, s.compact)
	encoded = bytes.TrimSpace(encoded)
	if !ok || !encodes || len(encoded) < 2 {
		s.failed = true
		return
	}
	encoded = encoded[1 : len(encoded)-1]
	switch {
	case from == 0 && to == len(node.Content):
		s.insert(open+1, encoded)
	case from == 0:
		s.insert(open+1, append(encoded, ", "...))
	case to == len(node.Content):
		before := bytes.TrimRight(s.text[:end-1], " \t\r\n")
		comma := ", "
		if bytes.HasSuffix(before, []byte(",")) {
			comma = " "
		}
		s.insert(len(before), append([]byte(comma), encoded...))
	default:
		s.failed = true
	}
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
