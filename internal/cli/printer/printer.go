// Package printer writes the plugin's output to a terminal: lines and tables, optionally with colours.
//
// Most of the text is untrusted: it comes from pods, Consul, the API server and manifests. So every text is escaped, and only
// here: a call of Line prints one line, and its only control characters are the printer's own colours.
package printer

import (
	"cmp"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/agentlet/agentlet/internal/columns"
)

// Colour is the colour of a cell.
type Colour int

// The colours. The zero value is the terminal's default.
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

// Cell is a text in one colour: a part of a line, or a field of a table.
type Cell struct {
	Text   string
	Colour Colour
}

// Text returns a cell without colour.
func Text(text string) Cell { return Cell{Text: text} }

// Printer prints lines. Create it with New.
type Printer struct {
	out     io.Writer
	colours bool
	err     error
}

// New returns a printer to out. Use Colours to decide whether to use colours.
func New(out io.Writer, colours bool) *Printer { return &Printer{out: out, colours: colours} }

// Err returns the first write error. Nothing is written after it.
func (p *Printer) Err() error {
	if p.err != nil {
		return fmt.Errorf("write output: %w", p.err)
	}
	return nil
}

// Line prints its cells as one line.
func (p *Printer) Line(cells ...Cell) {
	var line strings.Builder
	for _, cell := range cells {
		line.WriteString(p.paint(cell, escaped(cell)))
	}
	p.write(line.String())
}

// Error prints an error as one line that begins with its kind, "error" or "warning". Line breaks in the error become spaces.
func (p *Printer) Error(kind string, err error) {
	p.Line(Text(kind + ": " + strings.Join(strings.Fields(err.Error()), " ")))
}

// Table prints rows with aligned columns, each line indented. An empty cell is shown as "-".
func (p *Printer) Table(indent string, rows [][]Cell) {
	texts := make([][]string, len(rows))
	for r, row := range rows {
		for _, cell := range row {
			texts[r] = append(texts[r], cmp.Or(escaped(cell), "-"))
		}
	}
	paint := func(row, column int, text string) string { return p.paint(rows[row][column], text) }
	for _, line := range columns.Align(texts, 0, paint) {
		p.write(indent + line)
	}
}

func (p *Printer) write(line string) {
	if p.err == nil {
		_, p.err = io.WriteString(p.out, line+"\n")
	}
}

func (p *Printer) paint(cell Cell, text string) string {
	if !p.colours || cell.Colour == Plain {
		return text
	}
	return cell.Colour.code() + text + "\x1b[0m"
}

// maxCell limits how many characters of a text are shown: more than any legitimate text has.
const maxCell = 2000

func escaped(cell Cell) string { return Clip(Escape(cell.Text), maxCell) }

// Clip cuts a text after this many characters, and marks the cut.
func Clip(text string, most int) string {
	if len(text) <= most {
		return text
	}
	seen := 0
	for i := range text {
		if seen == most {
			return text[:i] + "…"
		}
		seen++
	}
	return text
}

// Escape replaces every character that is not printable by its escape sequence in Go: \n, \x1b, \u202e. These are, for example,
// control characters, line breaks, invisible characters and those that change the direction of text.
func Escape(text string) string {
	unprintable := func(r rune) bool { return !strconv.IsPrint(r) }
	if utf8.ValidString(text) && !strings.ContainsFunc(text, unprintable) {
		return text
	}
	var out []byte
	for len(text) > 0 {
		r, size := utf8.DecodeRuneInString(text)
		switch {
		case r == utf8.RuneError && size == 1:
			out = fmt.Appendf(out, `\x%02x`, text[0])
		case unprintable(r):
			quoted := strconv.QuoteRune(r)
			out = append(out, quoted[1:len(quoted)-1]...)
		default:
			out = append(out, text[:size]...)
		}
		text = text[size:]
	}
	return string(out)
}

// Colours reports whether to use colours: out is a terminal, and NO_COLOR is not set.
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

// Header is a row of titles.
func Header(titles ...string) []Cell {
	row := make([]Cell, len(titles))
	for i, title := range titles {
		row[i] = Cell{title, Faint}
	}
	return row
}

// Count formats a number of things: "1 warning", "2 warnings".
func Count(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
