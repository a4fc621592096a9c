package chaos

import (
	"flag"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the campaign's table into e2e/faults.md")

const page = "../faults.md"

// written matches the campaign's table, between its markers.
var written = regexp.MustCompile(`(?s)(<!-- campaign -->\n).*?(<!-- end -->)`)

func TestDocumented(t *testing.T) {
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	if !written.Match(content) {
		t.Fatalf("%s has no table of the campaign's", page)
	}
	want := written.ReplaceAllString(string(content), "${1}"+strings.ReplaceAll(Markdown(), "$", "$$")+"${2}")
	if want == string(content) {
		return
	}
	if !*update {
		t.Fatalf("%s is stale: run make generate", page)
	}
	if err := os.WriteFile(page, []byte(want), 0o644); err != nil {
		t.Fatal(err)
	}
}

// TestRowsOfTheDocs checks that each row of e2e/faults.md is either covered by the campaign or listed in Elsewhere with a
// reason, and that both name no other rows.
func TestRowsOfTheDocs(t *testing.T) {
	content, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	table, _, _ := strings.Cut(string(content), "<!-- campaign -->")
	documented := map[string]bool{}
	for line := range strings.Lines(table) {
		if cells := strings.Split(line, " | "); strings.HasPrefix(line, "| ") && len(cells) == 3 && cells[0] != "| fault" {
			documented[strings.TrimPrefix(cells[0], "| ")] = true
		}
	}
	if len(documented) < 40 {
		t.Fatalf("%d rows were found", len(documented))
	}
	named := maps.Clone(Elsewhere())
	for _, fault := range faults {
		for _, row := range fault.Rows {
			if _, elsewhere := Elsewhere()[row]; elsewhere {
				t.Errorf("%q is part of the campaign, by %q, and is not", row, fault.Name)
			}
			named[row] = fault.Name
		}
	}
	for _, change := range changes {
		for _, row := range change.Rows {
			named[row] = change.Name
		}
	}
	for _, row := range slices.Sorted(maps.Keys(documented)) {
		if named[row] == "" {
			t.Errorf("nothing of the campaign's is about the row %q, nor is it said why", row)
		}
	}
	for row, by := range named {
		if !documented[row] {
			t.Errorf("%q names a row that e2e/faults.md doesn't have: %q", by, row)
		}
	}
	for _, fault := range faults {
		if (fault.May.Share > 0 || fault.MayEnding.Share > 0) != (fault.Because != "") {
			t.Errorf("%s: requests may fail, and it is not said why, or the other way round", fault.Name)
		}
	}
}
