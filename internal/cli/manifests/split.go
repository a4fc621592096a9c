package manifests

import (
	"bytes"
	"regexp"
)

// separatorLine is a line that begins a document. At the start of a line "---" can be nothing else: even a block of
// text is indented by at least one space.
var separatorLine = regexp.MustCompile(`^---(\s|$)`)

// chunk is one document of a stream as it was read: the separator's line, which the first document need not have, and
// what follows it.
type chunk struct {
	separator, body []byte
	// line of the body's first line in its file, from 1.
	line int
}

// split cuts a stream into its documents. Put together again, the chunks are the stream.
func split(stream []byte) (chunks []chunk) {
	current, line := chunk{line: 1}, 1
	for _, text := range bytes.SplitAfter(stream, []byte("\n")) {
		if separatorLine.Match(text) {
			if line > 1 {
				chunks = append(chunks, current)
			}
			current = chunk{separator: text, line: line + 1}
			if content := bytes.TrimSpace(text[3:]); len(content) > 0 && content[0] != '#' {
				current = chunk{body: text, line: line} // the document begins on the separator's line
			}
		} else {
			current.body = append(current.body, text...)
		}
		line++
	}
	return append(chunks, current)
}

// blank reports whether a document holds nothing but comments and directives.
func blank(body []byte) bool {
	for line := range bytes.Lines(body) {
		line = bytes.TrimSpace(line)
		if len(line) > 0 && line[0] != '#' && line[0] != '%' && !bytes.Equal(line, []byte("...")) {
			return false
		}
	}
	return true
}
