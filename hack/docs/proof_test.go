package docs

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func TestProof(t *testing.T) {
	folder := t.TempDir()
	for name, content := range map[string]string{
		"docs/c.md": "", "docs/a.md": "# A\n\n## When `x` & y\n\n```sh run\n# b\n```\n",
		"x_test.go": "func TestX(t *testing.T) {}\n\nfunc TestMain(m *testing.M) {}\n", "e2e/scenarios/y_test.go": "func TestY2(t *testing.T) {\n",
		".out/z_test.go": "func TestZ(t *testing.T) {\n", "x.go": "func TestGo(t *testing.T) {\n",
	} {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct{ data, want, err string }{
		"a claim":      {"- {claim: so, page: a.md, tests: [TestX, TestY2]}", "[a.md](a.md):\n\n- so: TestX, TestY2\n", ""},
		"of a heading": {"- {claim: so, page: 'a.md#when-x--y', tests: [TestX]}", "[a.md](a.md):\n\n- [so](a.md#when-x--y): TestX\n", ""},
		"two of a page": {
			"[{claim: so, page: a.md, tests: [TestX]}, {claim: b, page: c.md, tests: [TestX]}, {claim: too, page: a.md, tests: [TestX]}]",
			"[a.md](a.md):\n\n- so: TestX\n- too: TestX\n\n[c.md](c.md):\n\n- b: TestX\n", "",
		},
		"no such test":     {"- {claim: so, page: a.md, tests: [TestX1]}", "", `claim "so": tests: TestX1: want the name`},
		"no test":          {"- {claim: so, page: a.md, tests: [TestMain]}", "", "TestMain"},
		"of a build":       {"- {claim: so, page: a.md, tests: [TestZ]}", "", "TestZ"},
		"in no test file":  {"- {claim: so, page: a.md, tests: [TestGo]}", "", "TestGo"},
		"no tests":         {"- {claim: so, page: a.md}", "", "want a claim, its page and its tests"},
		"no claim":         {"- {page: a.md, tests: [TestX]}", "", "want a claim, its page and its tests"},
		"no such page":     {"- {claim: so, page: b.md, tests: [TestX]}", "", `page: "b.md": want the path`},
		"a folder":         {"- {claim: so, page: '', tests: [TestX]}", "", `page: "": want the path`},
		"no such heading":  {"- {claim: so, page: 'a.md#b', tests: [TestX]}", "", `page: "a.md#b": want the anchor`},
		"all at once":      {"- {claim: so, page: b.md, tests: [TestX1]}", "", "b.md"},
		"an unknown field": {"- {claims: so}", "", "unknown field"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := proof(folder, []byte(test.data))
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if !strings.Contains(got, test.want) {
				t.Errorf("no %s in\n%s", test.want, got)
			}
		})
	}
}

func TestAnchors(t *testing.T) {
	got := slices.Sorted(maps.Keys(anchors("# One: `two` & 3\ntext\n## One\n### One\n1. x\n   ```sh\n   # y\n   ```\n")))
	if want := []string{"one", "one-1", "one-two--3"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
