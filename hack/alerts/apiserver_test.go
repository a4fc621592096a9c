package alerts

import (
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apiserver/pkg/admission/metrics"
	"k8s.io/component-base/metrics/legacyregistry"
)

// TestTheAPIServerHasWhatQueriesName checks the API server's metrics that alerts and dashboard name, and their labels, against the
// API server's own code and the chart's webhooks.
func TestTheAPIServerHasWhatQueriesName(t *testing.T) {
	for _, webhook := range webhooks(t) {
		metrics.Metrics.ObserveWebhookRejection(t.Context(), webhook, "admit", "CREATE", metrics.WebhookRejectionCallingWebhookError, 0)
		metrics.Metrics.ObserveWebhookFailOpen(t.Context(), webhook, "admit")
	}
	families, err := legacyregistry.DefaultGatherer.Gather()
	if err != nil {
		t.Fatal(err)
	}
	served := map[string]map[string][]string{} // values, by metric and label
	for _, family := range families {
		labels := map[string][]string{}
		for _, m := range family.GetMetric() {
			for _, l := range m.GetLabel() {
				labels[l.GetName()] = append(labels[l.GetName()], l.GetValue())
			}
		}
		served[family.GetName()] = labels
	}
	query := regexp.MustCompile(`(apiserver_[a-z_]+)(?:\{([^}]*)\})?`)
	matcher := regexp.MustCompile(`(\w+)(=~|=)\\?"([^"\\]*)`)
	for _, file := range []string{alertsFile, "../../charts/agentlet/files/dashboard.json"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		queries := query.FindAllStringSubmatch(string(content), -1)
		if len(queries) < 2 {
			t.Errorf("%s: %d queries of the API server's metrics were found", file, len(queries))
		}
		for _, q := range queries {
			labels, there := served[q[1]]
			if !there {
				t.Errorf("%s: the API server has no metric %s", file, q[1])
			}
			for _, m := range matcher.FindAllStringSubmatch(q[2], -1) {
				if m[1] == "cluster" {
					continue // of the target
				}
				if !slices.ContainsFunc(labels[m[1]], regexp.MustCompile("^(?:"+m[3]+")$").MatchString) {
					t.Errorf("%s: %s has no %s%s%q; its labels are %s", file, q[1], m[1], m[2], m[3],
						strings.Join(slices.Sorted(maps.Keys(labels)), ", "))
				}
			}
		}
	}
}

// webhooks are the names of the chart's webhooks, by which the API server counts.
func webhooks(t *testing.T) (names []string) {
	t.Helper()
	files, err := filepath.Glob("../../charts/agentlet/templates/*webhookconfiguration.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range regexp.MustCompile(`(?m)^- name: (\S+)$`).FindAllStringSubmatch(string(content), -1) {
			names = append(names, match[1])
		}
	}
	if len(names) != 2 {
		t.Fatalf("the chart has the webhooks %q, want two", names)
	}
	return names
}
