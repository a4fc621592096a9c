package printer

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Version is the version of the reports for programs. Fields may be added to it; a field that goes, or that gets another meaning,
// makes a new version.
const Version = "cli." + contract.Prefix + "v1"

// Type says what a report for programs is, as Kubernetes' own objects do. Each report embeds it.
type Type struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// NewType returns the type of this kind in this version.
func NewType(kind string) Type { return Type{APIVersion: Version, Kind: kind} }

// JSON writes a value as indented JSON, for programs. They read exactly the data; control characters for terminals are escaped as
// in JSON.
func JSON(out io.Writer, value any) error {
	text, err := encode(value)
	if err != nil {
		return err
	}
	text = escapeRunes(text, func(escaped []byte, r rune) []byte {
		if r > 0xffff {
			high, low := utf16.EncodeRune(r)
			return fmt.Appendf(escaped, `\u%04x\u%04x`, high, low)
		}
		return fmt.Appendf(escaped, `\u%04x`, r)
	})
	return write(out, text)
}

// YAML writes what JSON writes, as YAML: with the keys in the same order, and control characters escaped as in YAML.
func YAML(out io.Writer, value any) error {
	text, err := encode(value)
	if err != nil {
		return err
	}
	inYAML := func(escaped []byte, r rune) []byte { return fmt.Appendf(escaped, `\U%08x`, r) }
	var tree yaml.Node
	if err := yaml.Unmarshal(escapeRunes(text, inYAML), &tree); err != nil { // JSON is YAML
		return fmt.Errorf("encode output: %w", err)
	}
	restyle(&tree)
	var block bytes.Buffer
	encoder := yaml.NewEncoder(&block)
	encoder.SetIndent(2)
	if err := encoder.Encode(&tree); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	return write(out, escapeRunes(block.Bytes(), inYAML))
}

// restyle turns JSON's brackets and quotes into YAML's blocks. Quotes stay where a text needs escapes, which nothing else has,
// and where YAML 1.1, as kubectl's libraries read it, takes the text for something else.
func restyle(node *yaml.Node) {
	switch {
	case node.Kind != yaml.ScalarNode:
		if len(node.Content) > 0 {
			node.Style = 0
		}
	case Escape(node.Value) == node.Value && !ambiguous.MatchString(node.Value):
		node.Style = 0
	}
	for _, child := range node.Content {
		restyle(child)
	}
}

// ambiguous texts are a boolean or a number in YAML 1.1: on, 1:20. What is one in YAML 1.2, too, the encoder quotes itself.
var ambiguous = regexp.MustCompile(`^(?i:y|n|yes|no|on|off)$|^[-+.0-9]`)

func encode(value any) ([]byte, error) {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, fmt.Errorf("encode output: %w", err)
	}
	return text.Bytes(), nil
}

// escapeRunes escapes what does not print. The line breaks are the encoders' own; those in texts are escaped already.
func escapeRunes(text []byte, escape func(escaped []byte, r rune) []byte) (safe []byte) {
	for _, r := range string(text) {
		if r == '\n' || strconv.IsPrint(r) {
			safe = utf8.AppendRune(safe, r)
		} else {
			safe = escape(safe, r)
		}
	}
	return safe
}

func write(out io.Writer, text []byte) error {
	if _, err := out.Write(text); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
}
