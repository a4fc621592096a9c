// Package table writes tables for people, with colour where it is wanted. Colours don't count for the width of a column,
// as they do with text/tabwriter.
package table

import (
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// Colour of a cell.
type Colour int

// The colours; the zero value is the terminal's own.
const (
	Plain Colour = iota
	Green
	Yellow
	Red
	Bold
	Faint
)

func (c Colour) code() string {
	return [...]string{Plain: "", Green: "\x1b[32m", Yellow: "\x1b[33m", Red: "\x1b[31m", Bold: "\x1b[1m", Faint: "\x1b[2m"}[c]
}

// Cell is one field of a table.
type Cell struct {
	Text   string
	Colour Colour
}

// Text is a cell without colour.
func Text(text string) Cell { return Cell{Text: text} }

// Paint is the text in its colour, if colours are wanted.
func (c Cell) Paint(colours bool) string {
	if !colours || c.Colour == Plain {
		return c.Text
	}
	return c.Colour.code() + c.Text + "\x1b[0m"
}

// Colours reports whether colours may be written: out is a terminal, and the person doesn't refuse them by NO_COLOR.
func Colours(out io.Writer, getenv func(string) string) bool {
	return getenv("NO_COLOR") == "" && getenv("TERM") != "dumb" && IsTerminal(out)
}

// IsTerminal reports whether out is a terminal.
func IsTerminal(out io.Writer) bool {
	file, ok := out.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Write writes rows with their columns aligned, two spaces between them and each line indented. An empty cell is shown
// as "-". The last column is not padded.
func Write(out io.Writer, indent string, colours bool, rows [][]Cell) error {
	widths := map[int]int{}
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(shown(cell).Text))
		}
	}
	for _, row := range rows {
		var line strings.Builder
		line.WriteString(indent)
		for i, cell := range row {
			cell = shown(cell)
			line.WriteString(cell.Paint(colours))
			if i < len(row)-1 {
				line.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell.Text)+2))
			}
		}
		if _, err := fmt.Fprintln(out, strings.TrimRight(line.String(), " ")); err != nil {
			return fmt.Errorf("write table: %w", err)
		}
	}
	return nil
}

func shown(cell Cell) Cell {
	if cell.Text == "" {
		cell.Text = "-"
	}
	return cell
}

// Header is a row of titles.
func Header(titles ...string) []Cell {
	row := make([]Cell, len(titles))
	for i, title := range titles {
		row[i] = Cell{title, Faint}
	}
	return row
}

// Count is a number of things: "1 warning", "2 warnings".
func Count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
