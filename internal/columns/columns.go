// Package columns aligns the columns of a table for a terminal. Unlike text/tabwriter, it supports text and number columns in one
// table, and colours don't change the alignment.
package columns

import (
	"strings"
	"unicode/utf8"
)

const gap = "  "

// Align returns a line for each row, with two spaces between columns. Text columns are aligned to the left. The columns from the
// index numbers on are aligned to the right; with 0 there are none. paint returns the output for a cell, such as its text in a
// colour; if it is nil, the text is written.
func Align(rows [][]string, numbers int, paint func(row, column int, text string) string) []string {
	widths := map[int]int{}
	for _, row := range rows {
		for i, text := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(text))
		}
	}
	lines := make([]string, len(rows))
	for r, row := range rows {
		var line strings.Builder
		for i, text := range row {
			if i > 0 {
				line.WriteString(gap)
			}
			space := strings.Repeat(" ", widths[i]-utf8.RuneCountInString(text))
			if paint != nil {
				text = paint(r, i, text)
			}
			if numbers > 0 && i >= numbers {
				line.WriteString(space + text)
			} else {
				line.WriteString(text + space)
			}
		}
		lines[r] = strings.TrimRight(line.String(), " ")
	}
	return lines
}
