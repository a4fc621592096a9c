// Package golden holds texts against the files in which tests keep what they should be. Tests use it alone.
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

// Check reports a difference between a file and the text that it should hold. With -update it writes the file.
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

// CheckAbsent reports a file that should not be there. With -update it removes it.
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
