package manifests

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode"
	"unicode/utf8"
)

// chunk is one document of a stream as it was read: the separator's line, which the first document need not have, and
// what follows it. Put together again, the chunks are the stream.
type chunk struct {
	separator, body []byte
	// line of the body's first line in its file, from 1.
	line int
	// isJSON: the body is read as JSON, else as YAML.
	isJSON bool
	// withSeparator: kubectl has read nothing before the separator, and takes it for a part of the document.
	withSeparator bool
	// wrong is why kubectl doesn't read the chunk. Where orYAML is set it does, if the body is YAML.
	wrong  *readError
	orYAML bool
}

// readError is why a document can't be read.
type readError struct {
	// line from the body's first one, which is 1.
	line    int
	message string
	// earlier is the line of what the message says is there already; 0 for nothing.
	earlier int
}

// jsonWindow is how far kubectl looks for the brace by which a stream is JSON.
const jsonWindow = 4096

// split cuts a stream into its documents where kubectl does (YAMLOrJSONDecoder of k8s.io/apimachinery): a stream that begins
// with a brace is JSON objects one after the other. If one of the first two is no JSON, then from there on it is YAML.
func split(stream []byte) []chunk {
	if !startsWithBrace(stream[:min(len(stream), jsonWindow)]) {
		return splitYAML(stream, 1)
	}
	chunks, rest, line := splitJSON(stream)
	if len(rest) == 0 {
		return chunks
	}
	wrong := jsonError(rest)
	blanks, ok := beforeYAML(rest)
	if len(chunks) > 1 || !ok {
		return append(chunks, chunk{body: rest, line: line, wrong: wrong})
	}
	if len(chunks) > 0 {
		last := &chunks[len(chunks)-1]
		last.body = last.body[:len(last.body)+blanks]
	} else if blanks > 0 {
		chunks = append(chunks, chunk{body: rest[:blanks], line: line})
	}
	newlines := bytes.Count(rest[:blanks], []byte("\n"))
	more := splitYAML(rest[blanks:], line+newlines)
	if startsWithBrace(more[0].body) && more[0].wrong == nil {
		wrong.line = max(1, wrong.line-newlines)
		more[0].wrong, more[0].orYAML = wrong, true
	}
	return append(chunks, more...)
}

func startsWithBrace(text []byte) bool {
	return bytes.HasPrefix(bytes.TrimLeftFunc(text, unicode.IsSpace), []byte("{"))
}

// splitJSON cuts JSON values off a stream as long as there are any. A body is a value with the blanks around it. The rest, and
// its line, are what is no JSON.
func splitJSON(stream []byte) (chunks []chunk, rest []byte, line int) {
	decoder := json.NewDecoder(bytes.NewReader(stream))
	rest, line = stream, 1
	for {
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			if errors.Is(err, io.EOF) { // what is left are blanks, behind at least one value
				last := &chunks[len(chunks)-1]
				last.body, rest = last.body[:len(last.body)+len(rest)], nil
			}
			return chunks, rest, line
		}
		end := int(decoder.InputOffset()) - (len(stream) - len(rest))
		chunks = append(chunks, chunk{body: rest[:end], line: line, isJSON: true})
		line += bytes.Count(rest[:end], []byte("\n"))
		rest = rest[end:]
	}
}

// jsonError is what the JSON decoder finds wrong with the first value of a text.
func jsonError(text []byte) *readError {
	var value json.RawMessage
	decoder := json.NewDecoder(bytes.NewReader(text))
	err := decoder.Decode(&value)
	at := len(text)
	if syntax := (*json.SyntaxError)(nil); errors.As(err, &syntax) {
		at = min(int(syntax.Offset), at)
	}
	if err == nil || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errors.New("unexpected end")
	}
	at = len(bytes.TrimRightFunc(text[:at], unicode.IsSpace))
	return &readError{line: 1 + bytes.Count(text[:at], []byte("\n")), message: err.Error()}
}

// beforeYAML is how many blanks kubectl takes away before it reads on as YAML; ok is false where it gives up.
func beforeYAML(text []byte) (blanks int, ok bool) {
	for {
		if len(text)-blanks < utf8.UTFMax {
			return 0, false
		}
		r, size := utf8.DecodeRune(text[blanks:])
		switch {
		case r == utf8.RuneError:
			return 0, false
		case !unicode.IsSpace(r):
			return blanks, true
		}
		blanks += size
		if r == '\n' {
			return blanks, true
		}
	}
}

// separator begins a document where it begins a line. It can be nothing else there: even a block of text is indented.
const separator = "---"

// splitYAML cuts a text that begins at a line of its file.
func splitYAML(text []byte, line int) (chunks []chunk) {
	current, first := chunk{line: line}, true
	for text := range bytes.Lines(text) {
		if bytes.HasPrefix(text, []byte(separator)) {
			if !first {
				chunks = append(chunks, current)
			}
			begins := len(current.body) == 0 && !current.withSeparator
			current = chunk{separator: text, line: line + 1, withSeparator: begins}
			if after := bytes.TrimSpace(text[len(separator):]); len(after) > 0 && after[0] != '#' {
				current = chunk{body: text, line: line, wrong: &readError{line: 1, message: fmt.Sprintf(
					"kubectl reads nothing but a comment after %s: write what follows on a line of its own", separator)}}
			}
		} else {
			current.body = append(current.body, text...)
		}
		line, first = line+1, false
	}
	return append(chunks, current)
}
