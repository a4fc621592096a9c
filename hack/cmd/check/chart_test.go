package main

import (
	"strings"
	"testing"
)

func TestReadStrictly(t *testing.T) {
	for name, test := range map[string]struct{ stream, want string }{
		"nothing":       {"", ""},
		"two documents": {"a: 1\n---\na: 2\n", ""},
		"a key twice":   {"a: 1\n---\nlabels:\n  a: 1\n  a: 1\n", `mapping key "a" already defined`},
		"no YAML":       {"a: 1\n---\n: :\n\t", "read the rendered chart"},
	} {
		t.Run(name, func(t *testing.T) {
			err := readStrictly([]byte(test.stream))
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
