// Package columns aligns the columns of a table for a terminal. It does what text/tabwriter doesn't: words and numbers may stand
// in one table, and colours take no room.
package columns

import (
	"strings"
	"unicode/utf8"
)

const gap = "  "

// Align returns a line for each row, with two spaces between columns. Columns hold words, which are aligned to the
// left; those from the index numbers on hold numbers, which are aligned to the right. 0: there are none. paint returns
// what is written for a cell, such as its text in a colour; nil writes the text.
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
