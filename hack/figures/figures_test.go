package figures

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out", "figures.json")
	for _, figures := range []map[string]float64{{"a": 1, "b": 2}, {"b": 3, "c": 4.5}} {
		if err := Merge(file, figures); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(strings.Fields(string(content)), ""); got != `{"a":1,"b":3,"c":4.5}` {
		t.Errorf("the file holds %s", got)
	}
	if err := os.WriteFile(file, []byte("not JSON"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := Merge(file, nil); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("a broken file gave %v, want an error that names it", err)
	}
}

func TestMergeRow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "faults.md")
	columns := []string{"fault", "took"}
	for _, cells := range [][]string{{"b", "1s"}, {"a", "2s"}, {"b", "3s"}} {
		if err := MergeRow(file, columns, cells...); err != nil {
			t.Fatal(err)
		}
	}
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if want := "| fault | took |\n|---|---|\n| a | 2s |\n| b | 3s |\n"; string(content) != want {
		t.Errorf("the file holds\n%swant\n%s", content, want)
	}
	if err := MergeRow(file, columns, "only one"); err == nil {
		t.Error("a row with a missing cell was taken")
	}
}
