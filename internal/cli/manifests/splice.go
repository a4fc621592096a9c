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
		if before.Line == 0 && node.Kind == yaml.MappingNode {
			before = node.Content[from-2] // the key of a value that was replaced, with what stood below it
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
