package manifests

import (
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"
)

// TestBlocksAreThoseOfTheEncoder compares trees of any JSON with what the YAML library makes of them.
func TestBlocksAreThoseOfTheEncoder(t *testing.T) {
	texts := []string{
		"", "a", "web-1", "true", "y", "No", "null", "~", "010", "1e3", "12e4567890123456", "0123456789012345", "0x1f", "1:30", "2026-01-01", ".inf", "<<",
		" a", "a ", "# a", "a # b", "a: b", "- a", "-", "?", ":", "&a", "*a", "!a", "|", ">", "%a", "@a", "`a", "[a", "{a", "a,b", "'a'", `"a"`, `a\b`,
		"a\tb", "a\nb", "\n", "\x00", "\u00a0", "\u0085", "\u2028", "\u2029", "a\r", "\ufeff", "é", "😀", "a<b>&c", strings.Repeat("k", maxKey), strings.Repeat("k", maxKey+1),
		strings.Repeat("word ", 60),
	}
	random := rand.New(rand.NewPCG(1, 2))
	var value func(depth int) any
	value = func(depth int) any {
		switch kind := random.IntN(8); {
		case kind == 0:
			return nil
		case kind == 1:
			return random.IntN(2) == 0
		case kind == 2:
			return random.NormFloat64()
		case kind == 3 || depth == 0:
			return texts[random.IntN(len(texts))]
		case kind < 6:
			list := make([]any, random.IntN(4))
			for i := range list {
				list[i] = value(depth - 1)
			}
			return list
		default:
			object := map[string]any{}
			for range random.IntN(4) {
				object[texts[random.IntN(len(texts))]] = value(depth - 1)
			}
			return object
		}
	}
	var writer blockWriter
	for range 3_000 {
		raw, err := json.Marshal(value(4))
		if err != nil {
			t.Fatal(err)
		}
		node, err := blockNode(raw)
		if err != nil {
			t.Fatal(err)
		}
		compact := random.IntN(2) == 0
		want, encodes := encodeYAML(node, compact)
		got, ok := writer.encode(node, compact)
		if diff := cmp.Diff(string(want), string(got)); diff != "" || ok != encodes {
			t.Fatalf("%s, compact %v: %v (-library +here):\n%s", raw, compact, ok, diff)
		}
	}
}

// TestStylesAreLeftToTheEncoder has trees of a text in which a key is written in its own way.
func TestStylesAreLeftToTheEncoder(t *testing.T) {
	var writer blockWriter
	for _, text := range []string{"'a': b\n", "a: {b: c}\n", "a: &x b\n", "a: b # c\n", "# a\nb: c\n", "a: &x b\nc: *x\n", "? [a]\n: b\n"} {
		var root yaml.Node
		if err := yaml.Unmarshal([]byte(text), &root); err != nil {
			t.Fatal(err)
		}
		if got, ok := writer.encode(root.Content[0], true); !ok || string(got) != text {
			t.Errorf("%q became %q, %v", text, got, ok)
		}
	}
}
