// Package printer writes what the plugin says to a terminal: lines and tables, with colour where it is wanted.
//
// Most of the text comes from others: from pods, Consul, the API server and manifests. So every text is escaped here, and
// here alone: a call of Line prints one line, and nothing in it but the printer's own colours is a control character.
package printer

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/agentlet/agentlet/internal/columns"
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

// Cell is a text in one colour: a part of a line, or a field of a table.
type Cell struct {
	Text   string
	Colour Colour
}

// Text is a cell without colour.
func Text(text string) Cell { return Cell{Text: text} }

// Printer prints lines. Its zero value is of no use.
type Printer struct {
	out     io.Writer
	colours bool
	err     error
}

// New returns a printer to out. See Colours for whether there should be any.
func New(out io.Writer, colours bool) *Printer { return &Printer{out: out, colours: colours} }

// Err is the first error of writing; nothing is written after it.
func (p *Printer) Err() error {
	if p.err != nil {
		return fmt.Errorf("write output: %w", p.err)
	}
	return nil
}

// Line prints its cells, one after the other, as one line.
func (p *Printer) Line(cells ...Cell) {
	var line strings.Builder
	for _, cell := range cells {
		line.WriteString(p.paint(cell, escaped(cell)))
	}
	p.write(line.String())
}

// Error prints an error as one line that begins with its kind, "error" or "warning". Line breaks, which libraries put into
// their errors, become spaces.
func (p *Printer) Error(kind string, err error) {
	p.Line(Text(kind + ": " + strings.Join(strings.Fields(err.Error()), " ")))
}

// Table prints rows with their columns aligned and each line indented. An empty cell is shown as "-".
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

// maxCell is how many characters are shown of a text: more than any that is meant to be read.
const maxCell = 2000

func escaped(cell Cell) string { return Clip(Escape(cell.Text), maxCell) }

// Clip cuts a text after so many characters, and shows that it did.
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

// Escape replaces everything in a text that does not print, such as control characters, line breaks, and what is invisible
// or changes the direction of text, by its escape sequence in Go: \n, \x1b, \u202e.
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

// JSON writes a value as indented JSON, for programs. A program reads exactly the data; what a terminal would obey is in
// JSON's own escape sequences.
func JSON(out io.Writer, value any) error {
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return fmt.Errorf("encode output: %w", err)
	}
	var safe []byte
	for _, r := range text.String() {
		switch {
		case r == '\n', strconv.IsPrint(r): // line breaks are the encoder's own: those in texts are escaped already
			safe = utf8.AppendRune(safe, r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			safe = fmt.Appendf(safe, `\u%04x\u%04x`, high, low)
		default:
			safe = fmt.Appendf(safe, `\u%04x`, r)
		}
	}
	if _, err := out.Write(safe); err != nil {
		return fmt.Errorf("write output: %w", err)
	}
	return nil
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
