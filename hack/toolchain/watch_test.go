package toolchain

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgressIsShownOfWhatTakesLong(t *testing.T) {
	for name, test := range map[string]struct {
		takes time.Duration
		want  string
	}{
		"over at once": {2 * time.Second, ""},
		"long": {
			40 * time.Second,
			"[2/4] consul: at 3s\n[2/4] consul: at 33s\n[2/4] consul: built after 40s\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				start := time.Now()
				p := StartProgress(&log, numbered(2, 4, Consul), func(now time.Time) string { return "at " + now.Sub(start).String() })
				time.Sleep(test.takes)
				if shown := p.Stop("built"); log.String() != test.want || shown != (test.want != "") {
					t.Errorf("log = %q, shown: %t, want %q", log.String(), shown, test.want)
				}
			})
		})
	}
}

func TestWatchTellsWhyABuildFailed(t *testing.T) {
	for name, test := range map[string]struct{ source, want string }{
		"compiles":     {"package main\n\nfunc main() {}\n", ""},
		"doesn't":      {"package main\n\nfunc main() { undefined() }\n", "undefined: undefined"},
		"is no source": {"package\n", "expected 'IDENT'"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for file, content := range map[string]string{"go.mod": "module example.org/app\n", "main.go": test.source} {
				if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			command := exec.CommandContext(t.Context(), "go", "build", "-v", "-o", filepath.Join(dir, "app"), ".")
			command.Dir, command.Env = dir, append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
			err := Watch(t.Context(), io.Discard, "app", command, []string{"."})
			if test.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "\nexample.org/app\n") {
				t.Errorf("error = %v, want one with %q and without progress", err, test.want)
			}
		})
	}
}

func TestWatchEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	command := exec.CommandContext(ctx, "go", "version")
	if err := Watch(ctx, io.Discard, "app", command, []string{"std"}); !errors.Is(err, context.Canceled) {
		t.Errorf("error = %v, want %v", err, context.Canceled)
	}
}

func TestOnlyWhatIsNotInTheCacheIsUncompiled(t *testing.T) {
	dir := t.TempDir()
	for file, content := range map[string]string{
		"go.mod":        "module example.org/app\n",
		"main.go":       "package main\n\nimport \"example.org/app/text\"\n\nfunc main() { println(text.Text) }\n",
		"text/text.go":  "package text\n\nimport _ \"embed\"\n\n//go:embed text.txt\nvar Text string\n", // go list may take it for stale
		"text/text.txt": "of " + t.Name() + time.Now().String(),                                         // in no cache
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, file)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	command := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "app"), ".")
	command.Dir, command.Env = dir, append(os.Environ(), "GOFLAGS=-buildvcs=false", "GOWORK=off")
	before := listUncompiled(t.Context(), command, []string{"."})
	if before["example.org/app"] == 0 || before["example.org/app/text"] == 0 {
		t.Errorf("before the build %v are to be compiled: want both packages, with sizes", before)
	}
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if after := listUncompiled(t.Context(), command, []string{"."}); len(after) > 0 {
		t.Errorf("after the build %v are to be compiled: want none", after)
	}
}
