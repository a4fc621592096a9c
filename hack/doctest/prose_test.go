package doctest

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestProse(t *testing.T) {
	listed, err := listedWords([]byte("nudg(?:e|es): resync\n\"(?:'s|own) word\": reports\n"))
	if err != nil {
		t.Fatal(err)
	}
	said := func(n int) string { return strings.TrimSpace(strings.Repeat("x1 ", n-1)+"end") + "." }
	for _, test := range []struct {
		name, page string
		want       []string // the first is the line
	}{
		{"a sentence of 25 words", "The " + strings.Repeat("x1 ", 23) + "end.", nil},
		{"a sentence of 26 words", "The " + strings.Repeat("x1 ", 24) + "end.", []string{"p.md:1:", "at most 25 words in a sentence, not 26"}},
		{"two short sentences", "So " + strings.Repeat("x1 ", 20) + "end. So " + strings.Repeat("x1 ", 20) + "end.", nil},
		{"the second one is long", "One.\nTwo. So\n" + strings.Repeat("x1 ", 30) + "end (so).", []string{"p.md:2:", `"So x1 x1 x1 x1 x1 x1 x1 x1 x1 x1 x1 …"`, "not 33"}},
		{"a version ends no sentence", "So " + strings.Repeat("1.22 ", 13) + "e.g. so " + strings.Repeat("x.y ", 12) + "end.", []string{"p.md:1:", "not 29"}},
		{"bold text may end it", "**So " + strings.Repeat("x1 ", 20) + "end.** So " + strings.Repeat("x1 ", 20) + "end.", nil},
		{"code is one word, and dashes are none", "So – `a b c d e f g` " + strings.Repeat("x1 → ", 23) + "end", []string{"p.md:1:", "not 26"}},
		{"a link's words count, its target doesn't", "So [" + strings.Repeat("x1 ", 24) + "end](a-b.md).", []string{"p.md:1:", "not 26"}},
		{"items of a list", "- So " + strings.Repeat("x1 ", 20) + "\n- so " + strings.Repeat("x1 ", 30) + "end\n", []string{"p.md:2:", "not 32"}},
		{"a table's sentences", "| a | b |\n|---|---|\n| c | " + said(30) + " |\n", nil},
		{"code", "```sh run\n" + said(30) + " the the s\n```\n", nil},
		{"generated", "<!-- generated: x -->\nThe the nudge " + said(30) + "\n<!-- end -->\n", nil},
		{"after what is generated", "<!-- generated: x -->\nThe the.\n<!-- end -->\nThe the.\n", []string{"p.md:4:", `"The the."`}},

		{"a doubled word", "Read\nthe the page.", []string{"p.md:2:", `"the the"`, "want the once"}},
		{"over a line's end", "Read the\nThe page.", []string{"p.md:1:", `"the The"`}},
		{"over a sentence's end", "Read it. It is short.", nil},
		{"numbers twice", "1 1", nil},
		{"a word, and what stands for its name", "The node NODE of the X X.", []string{"p.md:1:", `"X X."`}},
		{"a doubled word in a cell", "| a | b |\n|---|---|\n| c | of of |\n", []string{"p.md:3:", `"of of"`}},
		{"a letter alone", "One that passes s all checks.", []string{"p.md:1:", `"that passes s all checks."`, "want no letter s alone"}},
		{"beside code", "Set `x` s.", []string{"p.md:1:", "no letter s alone"}},
		{"units", "In 5 s, N s or 0.5 h it takes a while.", nil},
		{"an ending of code", "The `x`s and pods' own.", nil},

		{"a listed word", "It\nNudges it.", []string{"p.md:2:", `"Nudges": want resync`}},
		{"a part of a word", "It nudged it.", nil},
		{"an expression", "The kubelet's word counts.", []string{"p.md:1:", `"'s word": want reports`}},
		{"as code", "It has `nudges`.", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			findings := proseOf("p.md", []byte(test.page), listed)
			if len(findings) != min(len(test.want), 1) {
				t.Fatalf("found %v", findings)
			}
			for _, want := range test.want {
				if got := findings[0].String(); !strings.Contains(got, want) {
					t.Errorf("found %s, want %s", got, want)
				}
			}
		})
	}
}

func TestListedWords(t *testing.T) {
	if listed, err := listedWords(betterWords); err != nil || len(listed) < 10 {
		t.Errorf("%d words, %v", len(listed), err)
	}
	for name, text := range map[string]string{"no expression": "(: b\n", "no better word": "a: ''\n", "twice": "a: b\na: c\n", "a list": "[a]"} {
		t.Run(name, func(t *testing.T) {
			if _, err := listedWords([]byte(text)); err == nil || !strings.Contains(err.Error(), "words.yaml") {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestWordsAndFindingsOfAllPages(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{
		"README.md": "The the page.\n\n[page](docs/a.md) | one\n", "docs/a.md": "[x](#b)\n\nOf of.\n", "examples/x/README.md": "In in.\n",
		"e2e/README.md": "It it. [x](c.md)\n", "charts/agentlet/README.md": "At at.\n",
		// Whatever other pages there are, they are empty here.
		"CONTRIBUTING.md": "", "SECURITY.md": "", "CHANGELOG.md": "", "e2e/faults.md": "",
	} {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	prose, err := CheckProse(folder)
	if err != nil {
		t.Fatal(err)
	}
	var found []string
	for _, f := range prose.Findings {
		found = append(found, f.Page+" "+f.Text)
	}
	want := []string{"README.md The the", "charts/agentlet/README.md At at.", "docs/a.md #b", "docs/a.md Of of.", "e2e/README.md c.md", "examples/x/README.md In in."}
	if !slices.Equal(found, want) {
		t.Errorf("found %q, want %q", found, want)
	}
	if prose.Total != 9 || prose.Words["README.md"] != 6 || prose.Words["docs/a.md"] != 3 || len(prose.Words) != 2 {
		t.Errorf("%d words: %v", prose.Total, prose.Words)
	}
}
