package doctest

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"testing"

	"github.com/agentlet/agentlet/hack/dashboard"
)

// TestLinksIntoTheRunbookLeadSomewhere checks that the links of alerts and dashboard lead to headings of the runbook.
func TestLinksIntoTheRunbookLeadSomewhere(t *testing.T) {
	pages := all(t)
	i := slices.IndexFunc(pages, func(p *Page) bool { return p.Path == "docs/runbook.md" })
	if i < 0 {
		t.Fatal("no docs/runbook.md")
	}
	link := regexp.MustCompile(`https?://[^"\s]*runbook\.md[^"\s]*`)
	known := regexp.MustCompile(`^` + regexp.QuoteMeta(dashboard.Runbook) + `(?:#(.+))?$`)
	for file, fewest := range map[string]int{"charts/agentlet/files/alerts.yaml": 16, "charts/agentlet/files/dashboard.json": 10} {
		content, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		links := link.FindAllString(string(content), -1)
		if len(links) < fewest {
			t.Errorf("%s: %d links, want %d or more", file, len(links), fewest)
		}
		for _, found := range links {
			parts := known.FindStringSubmatch(found)
			if parts == nil || parts[1] != "" && !pages[i].Anchors[parts[1]] {
				t.Errorf("%s: %s leads nowhere", file, found)
			}
		}
	}
}
