package toolchain

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDebianWithoutLists checks what is said where no package is known, and the lists can't be loaded, as without root.
func TestDebianWithoutLists(t *testing.T) {
	programs, cache := t.TempDir(), t.TempDir()
	const script = "#!/bin/sh\necho \"E: $1 denied\"; exit 100\n"
	if err := os.WriteFile(filepath.Join(programs, "apt-get"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", programs+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("AGENTLET_CACHE", cache)
	_, err := Debian(t.Context(), "prometheus")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"run sudo apt-get update", "E: update denied"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v: want %q in it", err, want)
		}
	}
	left, err := filepath.Glob(filepath.Join(cache, "tools", "prometheus*"))
	if err != nil || len(left) != 1 || filepath.Base(left[0]) != "prometheus.lock" {
		t.Errorf("left in the cache: %q, %v; want the lock alone", left, err)
	}
}
