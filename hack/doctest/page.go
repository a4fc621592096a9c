package doctest

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"

	"github.com/agentlet/agentlet/hack/docs"
)

// Page is a parsed Markdown file.
type Page struct {
	// Path is the path in the repository, with slashes.
	Path   string
	Blocks []Block
	// Links are the targets of links and pictures. Code is the inline code.
	Links, Code []Piece
	// Anchors are the anchors that links may name after a #.
	Anchors map[string]bool
}

// Piece is a short text of a page, and its line.
type Piece struct {
	Text string
	Line int
}

// Block is a fenced block of a page.
type Block struct {
	Page string
	Line int // of the first line inside the fence
	// Language is the first word after the fence, Tag the others.
	Language, Tag string
	Text          string
}

// Place returns the block's page and line.
func (b Block) Place() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// Kind returns language and tag.
func (b Block) Kind() string { return strings.TrimSpace(b.Language + " " + b.Tag) }

// Pages reads the documentation of the repository whose folder is root.
func Pages(root string) ([]*Page, error) {
	files := []string{"README.md", "e2e/README.md", "e2e/faults.md", "charts/agentlet/README.md"}
	list := func(file string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || filepath.Ext(file) != ".md" {
			return err
		}
		relative, err := filepath.Rel(root, file)
		files = append(files, filepath.ToSlash(relative))
		return err
	}
	for _, folder := range []string{"docs", "examples"} {
		if err := filepath.WalkDir(filepath.Join(root, folder), list); err != nil {
			return nil, fmt.Errorf("list pages: %w", err)
		}
	}
	for _, file := range []string{"CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md"} {
		if _, err := os.Stat(filepath.Join(root, file)); err == nil {
			files = append(files, file)
		}
	}
	var pages []*Page
	for _, file := range files {
		source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(file)))
		if err != nil {
			return nil, fmt.Errorf("read page: %w", err)
		}
		page, err := Parse(file, source)
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		pages = append(pages, page)
	}
	return pages, nil
}

// Parse parses a page as GitHub does. An indented block is an error, because it has no language.
func Parse(name string, source []byte) (*Page, error) {
	page := &Page{Path: name, Anchors: map[string]bool{}}
	line := func(offset int) int { return 1 + bytes.Count(source[:offset], []byte("\n")) }
	last := 0 // the last known offset, for nodes without a position
	tree := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	err := ast.Walk(tree, func(node ast.Node, entering bool) (ast.WalkStatus, error) {
		if !entering {
			return ast.WalkContinue, nil
		}
		if node.Type() == ast.TypeBlock && node.Lines().Len() > 0 {
			last = node.Lines().At(0).Start
		}
		switch node := node.(type) {
		case *ast.FencedCodeBlock:
			block := Block{Page: name, Line: line(last), Text: string(node.Lines().Value(source))}
			if node.Info != nil {
				block.Language, block.Tag, _ = strings.Cut(string(node.Info.Value(source)), " ")
			}
			page.Blocks = append(page.Blocks, block)
		case *ast.CodeBlock:
			return ast.WalkStop, fmt.Errorf("line %d: an indented block; want a fence with a tag", line(last))
		case *ast.Heading:
			docs.AddAnchor(page.Anchors, plain(node, source))
		case *ast.Link:
			page.Links = append(page.Links, Piece{string(node.Destination), line(last)})
		case *ast.Image:
			page.Links = append(page.Links, Piece{string(node.Destination), line(last)})
		case *ast.CodeSpan:
			page.Code = append(page.Code, Piece{strings.ReplaceAll(plain(node, source), "\n", " "), line(last)})
		case *ast.HTMLBlock:
			page.pictures(string(node.Lines().Value(source)), line(last))
		}
		return ast.WalkContinue, nil
	})
	return page, err
}

// plain returns a node's text without markup.
func plain(node ast.Node, source []byte) string {
	var out strings.Builder
	for child := node.FirstChild(); child != nil; child = child.NextSibling() {
		if words, ok := child.(*ast.Text); ok {
			out.Write(words.Segment.Value(source))
			if words.SoftLineBreak() {
				out.WriteByte('\n')
			}
			continue
		}
		out.WriteString(plain(child, source))
	}
	return out.String()
}

// pictures adds the targets of the attributes src and srcset in raw HTML.
func (p *Page) pictures(html string, line int) {
	for _, attribute := range []string{`src="`, `srcset="`} {
		for _, after := range strings.Split(html, attribute)[1:] {
			target, _, _ := strings.Cut(after, `"`)
			p.Links = append(p.Links, Piece{target, line})
		}
	}
}

// Dead returns the links without a target in the repository. Links to other hosts are not checked.
func Dead(root string, pages []*Page) (dead []Finding) {
	for _, page := range pages {
		for _, link := range page.Links {
			if want := follow(root, pages, page, link.Text); want != "" {
				dead = append(dead, Finding{page.Path, link.Line, link.Text, want})
			}
		}
	}
	return dead
}

// follow returns what a link should lead to, if it leads nowhere.
func follow(root string, pages []*Page, from *Page, link string) string {
	if strings.Contains(link, "://") {
		return ""
	}
	file, anchor, _ := strings.Cut(link, "#")
	target := from.Path
	if file != "" {
		target = path.Join(path.Dir(from.Path), file)
	}
	if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(target))); err != nil {
		return "a link to a file that exists"
	}
	if anchor == "" {
		return ""
	}
	i := slices.IndexFunc(pages, func(p *Page) bool { return p.Path == target })
	if i < 0 || !pages[i].Anchors[anchor] {
		return "a link to a heading that exists"
	}
	return ""
}
