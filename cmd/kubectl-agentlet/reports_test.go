package main

import (
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/internal/cli/check"
	"github.com/agentlet/agentlet/internal/cli/explain"
	"github.com/agentlet/agentlet/internal/cli/status"
	"github.com/agentlet/agentlet/internal/cli/versions"
)

// fields returns the names in JSON of a report's fields, and of the structs in it.
func fields(report reflect.Type) (names []string) {
	for report.Kind() == reflect.Slice || report.Kind() == reflect.Pointer {
		report = report.Elem()
	}
	if report.Kind() != reflect.Struct {
		return nil
	}
	for field := range report.Fields() {
		if name, _, _ := strings.Cut(field.Tag.Get("json"), ","); name != "" {
			names = append(append(names, name), fields(field.Type)...)
		}
	}
	return names
}

// values are what else the page says of the reports: what fields may hold.
var values = []string{"ok", "warning", "error", "injected", "skipped", "denied", "skip", "warn", "fail", "open", "closed", "off"}

// TestReportsAreDocumented checks that docs/kubectl.md has the fields of the reports and no others.
func TestReportsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/kubectl.md")
	if err != nil {
		t.Fatal(err)
	}
	for kind, report := range map[string]any{
		"Check": check.Report{}, "Explanation": explain.Report{}, "Status": status.Report{}, "Versions": versions.Report{},
	} {
		t.Run(kind, func(t *testing.T) {
			row := regexp.MustCompile("(?m)^\\| `" + kind + "` \\|.*$").FindString(string(page))
			var said []string
			for _, word := range regexp.MustCompile("`([a-zA-Z]+)`").FindAllStringSubmatch(row, -1) {
				said = append(said, word[1])
			}
			names := fields(reflect.TypeOf(report))
			if len(names) == 0 {
				t.Fatal("the report has no fields")
			}
			for _, name := range names {
				if !slices.Contains(said, name) {
					t.Errorf("the page has no field %s", name)
				}
			}
			for _, word := range said {
				if word != kind && !slices.Contains(names, word) && !slices.Contains(values, word) {
					t.Errorf("the report has no field %s", word)
				}
			}
		})
	}
}
