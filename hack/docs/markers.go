package docs

import (
	"fmt"
	"strings"
)

const (
	begin    = "<!-- generated: "
	beginEnd = " -->\n"
	end      = "<!-- end -->"
)

// fill writes each table between its markers. A marker without a table or without an end is an error.
func fill(page string, tables map[string]string) (string, error) {
	var filled strings.Builder
	for {
		before, rest, found := strings.Cut(page, begin)
		filled.WriteString(before)
		if !found {
			return filled.String(), nil
		}
		name, rest, found := strings.Cut(rest, beginEnd)
		table, known := tables[name]
		if !found || !known {
			return "", fmt.Errorf("no table %q", name)
		}
		old, after, found := strings.Cut(rest, end)
		if !found || strings.Contains(old, begin) {
			return "", fmt.Errorf("table %q has no %s", name, end)
		}
		filled.WriteString(begin + name + beginEnd + table + end)
		page = after
	}
}
