package docs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

// proofFile names the tests that show what the pages claim.
const proofFile = "docs/proof.yaml"

// claim is a statement of a page, and the tests that show it.
type claim struct {
	Claim string `json:"claim"`
	// Page is a path from docs, with the anchor of a heading if one says it.
	Page  string   `json:"page"`
	Tests []string `json:"tests"`
}

// proof returns the lists of docs/proof.md, one for each page. A claim that names a test, a page or a heading that doesn't exist
// is an error, as is one that names none.
func proof(root string, data []byte) (string, error) {
	var claims []claim
	if err := yaml.UnmarshalStrict(data, &claims); err != nil {
		return "", fmt.Errorf("decode: %w", err)
	}
	known, err := testNames(root)
	if err != nil {
		return "", err
	}
	var order []string // of the pages
	lists := map[string]string{}
	var problems []error
	for _, c := range claims {
		problem := func(format string, args ...any) {
			problems = append(problems, fmt.Errorf("claim %q: "+format, append([]any{c.Claim}, args...)...))
		}
		if c.Claim == "" || len(c.Tests) == 0 {
			problem("page %q, tests %q: want a claim, its page and its tests", c.Page, c.Tests)
		}
		for _, test := range c.Tests {
			if !known[test] {
				problem("tests: %s: want the name of a test of this repository", test)
			}
		}
		file, anchor, _ := strings.Cut(c.Page, "#")
		text, err := os.ReadFile(filepath.Join(root, "docs", filepath.FromSlash(file)))
		switch {
		case err != nil || path.Ext(file) != ".md":
			problem("page: %q: want the path of a page from docs", c.Page)
		case anchor != "" && !anchors(string(text))[anchor]:
			problem("page: %q: want the anchor of a heading of %s", c.Page, file)
		}
		if lists[file] == "" {
			order = append(order, file)
			lists[file] = fmt.Sprintf("[%s](%s):\n\n", path.Base(file), file)
		}
		said := c.Claim
		if anchor != "" {
			said = "[" + c.Claim + "](" + c.Page + ")"
		}
		lists[file] += fmt.Sprintf("- %s: %s\n", said, strings.Join(c.Tests, ", "))
	}
	var all strings.Builder
	for i, file := range order {
		if i > 0 {
			all.WriteString("\n")
		}
		all.WriteString(lists[file])
	}
	return all.String(), errors.Join(problems...)
}

var testDeclared = regexp.MustCompile(`(?m)^func (Test[A-Z]\w*)\(\w+ \*testing\.T\)`)

// testNames returns the names of all tests of the repository.
func testNames(root string) (map[string]bool, error) {
	names := map[string]bool{}
	tree := os.DirFS(root)
	err := fs.WalkDir(tree, ".", func(file string, entry fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case entry.IsDir() && file != "." && strings.HasPrefix(entry.Name(), "."):
			return fs.SkipDir
		case entry.IsDir() || !strings.HasSuffix(file, "_test.go"):
			return nil
		}
		text, err := fs.ReadFile(tree, file)
		for _, match := range testDeclared.FindAllStringSubmatch(string(text), -1) {
			names[match[1]] = true
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("find tests: %w", err)
	}
	return names, nil
}

var (
	fences   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	headings = regexp.MustCompile(`(?m)^#+ (.*)$`)
)

// anchors returns the anchors of a page's headings.
func anchors(page string) map[string]bool {
	found := map[string]bool{}
	for _, heading := range headings.FindAllStringSubmatch(fences.ReplaceAllString(page, ""), -1) {
		AddAnchor(found, heading[1])
	}
	return found
}

// AddAnchor adds a heading's anchor as GitHub forms it: lower case, with hyphens for spaces and without punctuation, and with a
// number if there is one like it already.
func AddAnchor(anchors map[string]bool, heading string) {
	slug := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-', r == '_', '0' <= r && r <= '9', 'a' <= r && r <= 'z', r > 127:
			return r
		}
		return -1
	}, strings.ToLower(heading))
	name := slug
	for i := 1; anchors[name]; i++ {
		name = fmt.Sprintf("%s-%d", slug, i)
	}
	anchors[name] = true
}
