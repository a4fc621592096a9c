package toolchain

import (
	"bytes"
	"os"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

func TestKeySeparatesItsParts(t *testing.T) {
	same := key([]byte("ab"), []byte("c"))
	if same != key([]byte("ab"), []byte("c")) {
		t.Error("the same parts gave two keys")
	}
	for name, other := range map[string]string{
		"moved boundary": key([]byte("a"), []byte("bc")),
		"changed part":   key([]byte("ab"), []byte("d")),
		"added part":     key([]byte("ab"), []byte("c"), nil),
	} {
		if other == same {
			t.Errorf("%s: the key didn't change", name)
		}
	}
}

func TestLDFlagsStampTheRequiredVersion(t *testing.T) {
	s, err := findSet(Kubernetes)
	if err != nil {
		t.Fatal(err)
	}
	for name, goMod := range map[string]string{
		"block":  "require (\n\tk8s.io/kubernetes v1.37.1\n)\n",
		"single": "require k8s.io/kubernetes v1.37.1\n",
	} {
		t.Run(name, func(t *testing.T) {
			flags, err := s.ldflags([]byte(goMod))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range []string{"gitVersion=v1.37.1", "gitMajor=1", "gitMinor=37"} {
				if !strings.Contains(flags, "-X k8s.io/component-base/version."+want) {
					t.Errorf("flags %q lack %s", flags, want)
				}
			}
		})
	}
	if _, err := s.ldflags([]byte("require example.org/k8s.io/kubernetes/x v1.0.0\n")); err == nil {
		t.Error("no error for a go.mod without Kubernetes")
	}
}

// go build names programs that are built together after their packages.
func TestProgramsBuiltTogetherHaveTheirPackagesNames(t *testing.T) {
	for _, s := range sets {
		t.Run(s.name, func(t *testing.T) {
			if len(s.programs) == 1 {
				return
			}
			for _, p := range s.programs {
				if path.Base(p.pkg) != p.name {
					t.Errorf("%s would become %s, want %s", p.pkg, path.Base(p.pkg), p.name)
				}
			}
			if len(s.names) > 0 {
				t.Errorf("names %v of %d programs: want one program", s.names, len(s.programs))
			}
		})
	}
}

func TestRootFromBelow(t *testing.T) {
	root := t.TempDir()
	below := filepath.Join(root, "e2e", "scenarios")
	for _, dir := range []string{filepath.Join(root, "hack", "tools", "kubernetes"), below} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "hack", "tools", "kubernetes", "go.mod"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("AGENTLET_ROOT", "")
	for _, dir := range []string{root, below} {
		t.Chdir(dir)
		got, err := Root()
		if err != nil || got != root {
			t.Errorf("Root from %s = %q, %v", dir, got, err)
		}
	}
	t.Chdir(t.TempDir())
	if got, err := Root(); err == nil {
		t.Errorf("Root outside = %q, want an error", got)
	}
}

func TestEnsureUsesTheCache(t *testing.T) {
	t.Setenv("AGENTLET_CACHE", t.TempDir())
	cache, err := CacheRoot()
	if err != nil {
		t.Fatal(err)
	}
	root, err := Root()
	if err != nil {
		t.Fatal(err)
	}
	s, err := findSet(Helm)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBuild(t.Context(), s, filepath.Join(root, "hack", "tools", Helm), filepath.Join(cache, "tools"))
	if err != nil {
		t.Fatal(err)
	}
	if _, built, err := Built(t.Context(), Helm); err != nil || built {
		t.Errorf("Built of nothing = %v, %v", built, err)
	}
	if err := os.MkdirAll(b.dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if tools, built, err := Built(t.Context(), Helm); err != nil || !built || tools[Helm] != b.dir {
		t.Errorf("Built = %v, %v, %v; want %s", tools, built, err, b.dir)
	}
	var log bytes.Buffer
	tools, err := Ensure(t.Context(), &log, Helm)
	if err != nil {
		t.Fatal(err)
	}
	if tools[Helm] != b.dir || log.Len() > 0 {
		t.Errorf("Ensure = %v, log %q; want %s and silence", tools, log.String(), b.dir)
	}
}

func TestTailKeepsTheEnd(t *testing.T) {
	end := &tail{limit: 4}
	for _, part := range []string{"abc", "defgh", "i"} {
		if _, err := end.Write([]byte(part)); err != nil {
			t.Fatal(err)
		}
	}
	if end.String() != "fghi" {
		t.Errorf("tail = %q, want fghi", end)
	}
}
