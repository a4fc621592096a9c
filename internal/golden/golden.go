// Package golden compares texts with golden files. Only tests use it.
package golden

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

// Check reports a difference between a text and its golden file. With -update it writes the file instead.
func Check(t testing.TB, path, text string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	kept, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(kept), text); diff != "" || err != nil {
		t.Errorf("%s is stale; if this is meant, run with -update (-golden +got):\n%s", path, diff)
	}
}

// CheckAbsent reports a golden file that should not exist. With -update it removes the file.
func CheckAbsent(t testing.TB, path string) {
	t.Helper()
	if *update {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
	}
	switch _, err := os.Stat(path); {
	case err == nil:
		t.Errorf("%s is stale: nothing should be there; if this is meant, run with -update", path)
	case !errors.Is(err, fs.ErrNotExist):
		t.Fatal(err)
	}
}
