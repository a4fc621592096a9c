package doctest

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

const root = "../.."

// all returns the parsed documentation.
func all(t *testing.T) []*Page {
	t.Helper()
	pages, err := Pages(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(pages) < 10 {
		t.Fatalf("%d pages were found", len(pages))
	}
	return pages
}

func TestNoLinkIsDead(t *testing.T) {
	links := 0
	pages := all(t)
	for _, page := range pages {
		links += len(page.Links)
	}
	if links < 30 {
		t.Errorf("%d links were found", links)
	}
	for _, dead := range Dead(root, pages) {
		t.Error(dead)
	}
}

func TestEveryPageIsReachedFromTheREADME(t *testing.T) {
	pages := all(t)
	reached := map[string]bool{"README.md": true}
	for range pages {
		for _, page := range pages {
			for _, link := range page.Links {
				if file, _, _ := strings.Cut(link.Text, "#"); reached[page.Path] && file != "" {
					reached[filepath.ToSlash(filepath.Join(filepath.Dir(page.Path), file))] = true
				}
			}
		}
	}
	for _, page := range pages {
		if !reached[page.Path] {
			t.Errorf("no link leads to %s", page.Path)
		}
	}
}

func TestDeadLinksAreFound(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{
		"a.md": "# One: `two` & 3\n# One\n# One\n[x](#one-two--3) [x](#one-1) [x](b.md#b) [x](b.md) [x](https://x.example/y)\n\n" +
			"[x](#one-2)\n[x](c.md)\n![x](b.md#c)\n\n<picture>\n<source srcset=\"d.svg\">\n<img src=\"b.md\">\n</picture>\n",
		"b.md": "B\n=\n```\n# c\n```\n",
	} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var pages []*Page
	for _, name := range []string{"a.md", "b.md"} {
		source, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil {
			t.Fatal(err)
		}
		page, err := Parse(name, source)
		if err != nil {
			t.Fatal(err)
		}
		pages = append(pages, page)
	}
	const file, heading = "a link to a file that exists", "a link to a heading that exists"
	want := []Finding{{"a.md", 6, "#one-2", heading}, {"a.md", 6, "c.md", file}, {"a.md", 6, "b.md#c", heading}, {"a.md", 10, "d.svg", file}}
	if got := Dead(folder, pages); !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestBlocksAreFoundWhereverTheyStand(t *testing.T) {
	page, err := Parse("p.md", []byte("```yaml pod denied\na: 1\n```\n1. x\n   ```sh check\n   ls\n   ```\n\n```\n```\n`make\nhelp`\n"))
	if err != nil {
		t.Fatal(err)
	}
	want := []Block{
		{"p.md", 2, "yaml", "pod denied", "a: 1\n"}, {"p.md", 6, "sh", "check", "ls\n"}, {"p.md", 6, "", "", ""},
	}
	if !reflect.DeepEqual(page.Blocks, want) {
		t.Errorf("got %+v, want %+v", page.Blocks, want)
	}
	if len(page.Code) != 1 || page.Code[0].Text != "make help" {
		t.Errorf("inline code: %+v", page.Code)
	}
	if _, err := Parse("p.md", []byte("text\n\n    indented\n")); err == nil {
		t.Error("an indented block is accepted")
	}
}

func TestCommandsOfShell(t *testing.T) {
	got, err := Commands("a -b 'c d' \\\n  --e=\"f $G\" # no\nX=$(h i | j) | xargs -r k -l\ncat >m <<END\nn $(o)\nEND\n")
	want := [][]string{{"a", "-b", "c d", "--e=f X"}, {"h", "i"}, {"j"}, {"xargs", "-r", "k", "-l"}, {"k", "-l"}, {"cat"}, {"o"}}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %q, %v; want %q", got, err, want)
	}
	if _, err := Commands("a $("); err == nil {
		t.Error("an open bracket is accepted")
	}
}
