package docs

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/agentlet/api"
	"github.com/agentlet/agentlet/agentlet/contract"
)

// dashboardFile is the Grafana dashboard.
const dashboardFile = chartFolder + "files/dashboard.json"

// TestQueriesNameWhatExists checks that the alerts and the dashboard use only declared metrics and reasons.
func TestQueriesNameWhatExists(t *testing.T) {
	known := map[string]bool{}
	for _, m := range append(api.Metrics(), webhookMetrics()...) {
		known[m.Name] = true
		if m.Type == contract.Histogram || m.Type == contract.Summary {
			known[m.Name+"_sum"], known[m.Name+"_count"] = true, true
		}
		if m.Type == contract.Histogram {
			known[m.Name+"_bucket"] = true
		}
	}
	name := regexp.MustCompile(`\bagentlet_[a-z_]+`)
	reason := regexp.MustCompile(`(?:reason|cause|outcome)(?:=|=~|!=|!~)\\?"([^"\\]+)`)
	for _, file := range []string{alertsFile, dashboardFile} {
		content, err := os.ReadFile(filepath.Join(root, file))
		if err != nil {
			t.Fatal(err)
		}
		names := name.FindAllString(string(content), -1)
		if len(names) < 10 {
			t.Errorf("%s: only %d names were found", file, len(names))
		}
		for _, n := range names {
			if !known[n] {
				t.Errorf("%s: there is no metric %s", file, n)
			}
		}
		for _, match := range reason.FindAllStringSubmatch(string(content), -1) {
			for value := range strings.SplitSeq(match[1], "|") {
				if !declaredValue(value) {
					t.Errorf("%s: no label has the value %q", file, value)
				}
			}
		}
	}
}

func TestAlertTable(t *testing.T) {
	table, err := alertTable([]byte(`groups: [{rules: [
		{alert: Slow, labels: {severity: warning}, annotations: {runbook_url: "https://example.com/docs/runbook.md#it-is-slow"}},
		{alert: Down, labels: {severity: critical}, annotations: {runbook_url: "https://example.com/docs/runbook.md#it-is-down"}}]},
		{rules: [{alert: Gone, labels: {severity: critical}, annotations: {runbook_url: "https://example.com/docs/runbook.md#it-is-gone"}}]}]`))
	if err != nil {
		t.Fatal(err)
	}
	want := "| critical | [`Down`](runbook.md#it-is-down), [`Gone`](runbook.md#it-is-gone) |\n| warning | [`Slow`](runbook.md#it-is-slow) |"
	if !strings.Contains(table, want) {
		t.Errorf("%s\nlacks\n%s", table, want)
	}
	if _, err := alertTable([]byte("[")); err == nil {
		t.Error("a file that is no YAML is taken")
	}
}

func declaredValue(value string) bool {
	for _, m := range append(api.Metrics(), webhookMetrics()...) {
		for _, label := range m.Labels {
			if slices.Contains(label.Values, value) {
				return true
			}
		}
	}
	return false
}
