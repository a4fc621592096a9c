package doctest

import (
	"bytes"
	"cmp"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	extast "github.com/yuin/goldmark/extension/ast"
	"github.com/yuin/goldmark/text"
	"sigs.k8s.io/yaml"
)

// Limits of what a reader is asked to read.
const (
	maxSentence = 25 // words
	// MaxWords is of README.md and docs together, counted as `wc -w` does: with tables and code.
	MaxWords = 20_000
)

// Finding is something in a page that has to change.
type Finding struct {
	Page string
	Line int
	// Text is what stands there, and Want what should.
	Text, Want string
}

func (f Finding) String() string {
	return fmt.Sprintf("%s:%d: %q: want %s", f.Page, f.Line, f.Text, f.Want)
}

// Prose is what CheckProse found.
type Prose struct {
	Findings []Finding
	// Words is the number of words of each page of README.md and docs.
	Words map[string]int
	Total int
}

// CheckProse checks the links of all pages, and the sentences and words of those for users.
func CheckProse(root string) (*Prose, error) {
	pages, err := Pages(root)
	if err != nil {
		return nil, err
	}
	listed, err := listedWords(betterWords)
	if err != nil {
		return nil, err
	}
	prose := &Prose{Findings: Dead(root, pages), Words: map[string]int{}}
	for _, page := range pages {
		folder, _, nested := strings.Cut(page.Path, "/")
		if nested && !slices.Contains([]string{"docs", "charts", "examples"}, folder) {
			continue
		}
		source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(page.Path)))
		if err != nil {
			return nil, fmt.Errorf("read page: %w", err)
		}
		prose.Findings = append(prose.Findings, proseOf(page.Path, source, listed)...)
		if page.Path == "README.md" || folder == "docs" {
			prose.Words[page.Path] = len(bytes.Fields(source))
			prose.Total += prose.Words[page.Path]
		}
	}
	slices.SortStableFunc(prose.Findings, func(a, b Finding) int {
		return cmp.Or(strings.Compare(a.Page, b.Page), a.Line-b.Line, strings.Compare(a.Want, b.Want))
	})
	return prose, nil
}

// listedWord is a word, or an expression, that the field has a better one for.
type listedWord struct {
	match *regexp.Regexp
	want  string
}

//go:embed words.yaml
var betterWords []byte

// listedWords parses a map from regular expressions to better words. An expression matches whole words in either case.
func listedWords(data []byte) ([]listedWord, error) {
	better := map[string]string{}
	if err := yaml.UnmarshalStrict(data, &better); err != nil {
		return nil, fmt.Errorf("decode words.yaml: %w", err)
	}
	listed := make([]listedWord, 0, len(better))
	for expression, want := range better {
		match, err := regexp.Compile(`(?i)\b(?:` + expression + `)\b`)
		if err != nil {
			return nil, fmt.Errorf("words.yaml: %s: want a regular expression: %w", expression, err)
		}
		if want == "" {
			return nil, fmt.Errorf("words.yaml: %s: want a better word, not none", expression)
		}
		listed = append(listed, listedWord{match, want})
	}
	return listed, nil
}

// generated matches what `make generate` writes into a page.
var generated = regexp.MustCompile(`(?s)<!-- (?:generated: |campaign ).*?<!-- end -->`)

// proseOf returns the findings in a page's own text: not in code, nor in what is generated. Tables may have long sentences.
func proseOf(name string, source []byte, listed []listedWord) (findings []Finding) {
	skip := generated.FindAllIndex(source, -1)
	tree := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	_ = ast.Walk(tree, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		cell := node.Kind() == extast.KindTableCell
		if !entering || !cell && !slices.Contains([]ast.NodeKind{ast.KindParagraph, ast.KindTextBlock, ast.KindHeading}, node.Kind()) {
			return ast.WalkContinue, nil
		}
		p := passage{page: name, source: source}
		if lines := node.Lines(); lines != nil && lines.Len() > 0 {
			p.start = lines.At(0).Start
		}
		p.read(node)
		if len(p.text) == 0 || slices.ContainsFunc(skip, func(s []int) bool { return s[0] <= p.at[0] && p.at[0] < s[1] }) {
			return ast.WalkSkipChildren, nil
		}
		words := p.words()
		if !cell {
			findings = append(findings, p.longSentences(words)...)
		}
		findings = append(findings, p.slips(words)...)
		findings = append(findings, p.listed(listed)...)
		return ast.WalkSkipChildren, nil
	})
	return findings
}

// passage is the text of a paragraph, a heading, a list's item or a table's cell, without markup.
type passage struct {
	page   string
	source []byte
	start  int // offset in the source
	text   []byte
	at     []int // of each byte of the text, its offset in the source
}

// inlineCode stands in a passage for inline code, whatever its length.
const inlineCode = "\uFFFC"

func (p *passage) read(node ast.Node) {
	for child := node.FirstChild(); child != nil; child = child.NextSibling() {
		switch child := child.(type) {
		case *ast.Text:
			p.add(child.Segment.Value(p.source), child.Segment.Start)
			if child.SoftLineBreak() || child.HardLineBreak() {
				p.add([]byte(" "), child.Segment.Stop-1)
			}
		case *ast.CodeSpan:
			if first, ok := child.FirstChild().(*ast.Text); ok {
				p.addCode(first.Segment.Start - 1)
			}
		case *ast.AutoLink:
			p.addCode(p.start)
		case *ast.Image:
		default:
			p.read(child)
		}
	}
}

func (p *passage) add(text []byte, offset int) {
	for i := range text {
		p.text, p.at = append(p.text, text[i]), append(p.at, offset+i)
	}
}

func (p *passage) addCode(offset int) {
	for _, b := range []byte(inlineCode) {
		p.text, p.at = append(p.text, b), append(p.at, offset)
	}
}

// find returns a finding about the text from one index up to another.
func (p *passage) find(from, to int, want string, args ...any) Finding {
	const shown = 12 // words
	words := strings.Fields(string(p.source[p.at[from] : p.at[to-1]+1]))
	if len(words) > shown {
		words = append(words[:shown], "…")
	}
	line := 1 + bytes.Count(p.source[:p.at[from]], []byte("\n"))
	return Finding{p.page, line, strings.Join(words, " "), fmt.Sprintf(want, args...)}
}

// word is a piece of a passage between spaces, with its indexes there.
type word struct {
	text     string
	from, to int
}

// bare returns the word without punctuation around it.
func (w word) bare() string { return strings.Trim(w.text, `.,;:!?…()[]"'“”‘’*_`) }

func (p *passage) words() (words []word) {
	from := -1
	for i, r := range string(p.text) + " " {
		switch space := unicode.IsSpace(r); {
		case !space && from < 0:
			from = i
		case space && from >= 0:
			words = append(words, word{string(p.text[from:i]), from, i})
			from = -1
		}
	}
	return words
}

var (
	ends          = regexp.MustCompile(`[.!?]["'”’)*_]*$`)
	abbreviations = []string{"e.g.", "i.e.", "etc.", "vs.", "cf."}
	counts        = regexp.MustCompile(`[\pL\pN` + inlineCode + `]`)
)

func (p *passage) longSentences(words []word) (findings []Finding) {
	first, length := 0, 0
	for i, w := range words {
		if counts.MatchString(w.text) {
			length++
		}
		if i+1 < len(words) && (!ends.MatchString(w.text) || slices.Contains(abbreviations, strings.TrimLeft(w.text, "("))) {
			continue
		}
		if length > maxSentence {
			findings = append(findings, p.find(words[first].from, w.to, "at most %d words in a sentence, not %d", maxSentence, length))
		}
		first, length = i+1, 0
	}
	return findings
}

var (
	lone    = regexp.MustCompile(`^[b-z]$`)
	number  = regexp.MustCompile(`[\pN½]$|^[NMX]$`) // before a unit
	letters = regexp.MustCompile(`^\pL+$`)
)

// slips returns words that stand twice, and letters that stand alone.
func (p *passage) slips(words []word) (findings []Finding) {
	for i, w := range words {
		before := word{}
		if i > 0 {
			before = words[i-1]
		}
		if lone.MatchString(w.bare()) && !number.MatchString(before.text) && len(words) > 1 {
			findings = append(findings, p.find(words[max(i-2, 0)].from, words[min(i+2, len(words)-1)].to, "no letter %s alone", w.bare()))
		}
		placeholder := w.bare() == strings.ToUpper(w.bare()) && w.bare() != before.text // node NODE
		if letters.MatchString(w.bare()) && strings.EqualFold(before.text, w.bare()) && !placeholder {
			findings = append(findings, p.find(before.from, w.to, "%s once", w.bare()))
		}
	}
	return findings
}

func (p *passage) listed(listed []listedWord) (findings []Finding) {
	for _, l := range listed {
		for _, found := range l.match.FindAllIndex(p.text, -1) {
			findings = append(findings, p.find(found[0], found[1], "%s", l.want))
		}
	}
	return findings
}
