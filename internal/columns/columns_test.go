package columns

import (
	"slices"
	"testing"
)

func TestAlign(t *testing.T) {
	for name, test := range map[string]struct {
		rows    [][]string
		numbers int
		paint   func(row, column int, text string) string
		want    []string
	}{
		"nothing": {nil, 0, nil, []string{}},
		"words": {
			[][]string{{"name", "state"}, {"a-long-name", "é", "x"}, {"b", "", "last "}},
			0, nil,
			[]string{"name         state", "a-long-name  é      x", "b                   last"},
		},
		"numbers": {
			[][]string{{"name", "times"}, {"a-long-name", "7"}, {"b", "1234567"}},
			1, nil,
			[]string{"name           times", "a-long-name        7", "b            1234567"},
		},
		"colours": {
			[][]string{{"a", "1"}, {"bc", "23"}},
			1, func(row, column int, text string) string {
				if row == column {
					return "\x1b[1m" + text + "\x1b[0m"
				}
				return text
			},
			[]string{"\x1b[1ma\x1b[0m    1", "bc  \x1b[1m23\x1b[0m"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if got := Align(test.rows, test.numbers, test.paint); !slices.Equal(got, test.want) {
				t.Errorf("%q, want %q", got, test.want)
			}
		})
	}
}
