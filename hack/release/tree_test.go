package release

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckTree(t *testing.T) {
	root := t.TempDir()
	git := func(args ...string) {
		t.Helper()
		command := exec.CommandContext(t.Context(), "git", append([]string{"-C", root, "-c", "user.name=a", "-c", "user.email=a@b"}, args...)...)
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	expect := func(when string, names ...string) {
		t.Helper()
		err := CheckTree(t.Context(), root)
		if (err != nil) != (len(names) > 0) {
			t.Errorf("%s: %v", when, err)
		}
		for _, name := range names {
			if err != nil && !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v, want %s", when, err, name)
			}
		}
	}
	write("main.go", "package main\n")
	expect("a folder without a repository")
	git("init", "-q")
	write(".gitignore", "/*.pem\n")
	git("add", ".")
	git("commit", "-q", "-m", "all: begin")
	write("signing.pem", "a key")
	expect("a commit, and what git ignores")
	write("more.go", "package main\n")
	write("main.go", "package main // changed\n")
	expect("a new and a changed file", "more.go", "main.go")
}
