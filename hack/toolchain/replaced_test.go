package toolchain

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestFunctionsAreCutOutOfASource(t *testing.T) {
	const source = `package cache

type D[T any] struct{ t T }

// Key is documented.
func (d D[T]) Key() string {
	if true {
		return ""
	}
	return "}"
}

func (e E[T]) Key() string { return "" }

func (d D[T]) Name() string {
	return ""
}
`
	for name, test := range map[string]struct {
		r       replacement
		want    []string
		without []string
		fails   string
	}{
		"another content": {replacement{content: "package cache\n"}, []string{"package cache\n"}, []string{"func"}, ""},
		"methods": {
			replacement{without: "func (d D[T]) ", content: "var _ = 1\n"},
			[]string{"type D[T any]", "func (e E[T]) Key()", "var _ = 1\n"},
			[]string{"func (d", `"}"`},
			"",
		},
		"texts": {
			replacement{instead: [][2]string{{"E[T]", "F[T]"}, {"struct{ t T }", "int"}}, content: "var _ = 1\n"},
			[]string{"func (e F[T]) Key()", "type D[T any] int\n", "func (d D[T]) Name()", "var _ = 1\n"},
			[]string{"E[T]"},
			"",
		},
		"no such function": {replacement{without: "func (x X) "}, nil, nil, `no function begins with "func (x X) "`},
		"no such text":     {replacement{instead: [][2]string{{"X[T]", ""}}}, nil, nil, `no text "X[T]"`},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := test.r.apply(source)
			if test.fails != "" {
				if err == nil || !strings.Contains(err.Error(), test.fails) {
					t.Errorf("error = %v, want %q", err, test.fails)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range test.want {
				if !strings.Contains(got, want) {
					t.Errorf("%q is missing in\n%s", want, got)
				}
			}
			for _, without := range test.without {
				if strings.Contains(got, without) {
					t.Errorf("%q is left in\n%s", without, got)
				}
			}
		})
	}
}

func TestTreeIsLinkedButForWhatIsReplaced(t *testing.T) {
	from := t.TempDir()
	for file, content := range map[string]string{"go.mod": "mod", "a/x.go": "x", "a/b/y.go": "y", "a/b/z.go": "z", "c/w.go": "w"} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(from, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(from, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	to := filepath.Join(t.TempDir(), "to")
	if err := linkTree(from, to, map[string]replacement{"a/b/y.go": {content: "new"}}); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{"go.mod": "mod", "a/x.go": "x", "a/b/y.go": "new", "a/b/z.go": "z", "c/w.go": "w"} {
		if content, err := os.ReadFile(filepath.Join(to, file)); err != nil || string(content) != want {
			t.Errorf("%s = %q, %v; want %q", file, content, err, want)
		}
	}
	if content, err := os.ReadFile(filepath.Join(from, "a/b/y.go")); err != nil || string(content) != "y" {
		t.Errorf("the original is %q, %v", content, err)
	}
	for _, file := range []string{"a/b/gone.go", "gone/x.go"} {
		err := linkTree(from, filepath.Join(t.TempDir(), "to"), map[string]replacement{file: {}})
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("replace %s: error = %v, want %v", file, err, fs.ErrNotExist)
		}
	}
}

// TestConsulFindsServersAsTheExamplesDo: what examples/consul asks for servers may not be left out of Consul.
func TestConsulFindsServersAsTheExamplesDo(t *testing.T) {
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	join, err := os.ReadFile(filepath.Join(root, "examples", "consul", "base", "join.hcl"))
	if err != nil {
		t.Fatal(err)
	}
	provider := regexp.MustCompile(`provider=(\w+)`).FindSubmatch(join)
	if provider == nil {
		t.Fatalf("no provider in %s", join)
	}
	for _, r := range smallerConsul() {
		if strings.HasPrefix(r.file, "provider/"+string(provider[1])+"/") {
			t.Errorf("%s of %s is left out", r.file, r.module)
		}
	}
}
