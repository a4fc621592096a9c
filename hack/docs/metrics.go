package docs

import (
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/webhook"
	"github.com/agentlet/agentlet/webhook/grants"
)

// alertsFile is the file with the alerts.
const alertsFile = chartFolder + "files/alerts.yaml"

// webhookMetrics returns the metrics that the webhook's program declares.
func webhookMetrics() []contract.Metric { return slices.Concat(webhook.Metrics(), grants.Metrics()) }

// fewValues is the maximum number of label values that a table lists; the text describes longer lists.
const fewValues = 6

// metricTable names labels as PromQL does, and of the types those alone that names don't tell.
func metricTable(metrics []contract.Metric) string {
	t := newTable("metric", "meaning")
	for _, m := range metrics {
		name, meaning := m.Name, m.Help
		var labels []string
		for _, l := range m.Labels {
			labels = append(labels, l.Name)
			if n := len(l.Values); n > 0 && n <= fewValues {
				meaning += " " + l.Name + ": " + strings.Join(l.Values, ", ") + "."
			}
		}
		if len(labels) > 0 {
			name += "{" + strings.Join(labels, ",") + "}"
		}
		if m.Type == contract.Histogram || m.Type == contract.Summary {
			meaning += " A " + string(m.Type) + "."
		}
		t.row(code(name), meaning)
	}
	return t.String()
}

// alertTable returns a table of the alerts in a rule file, by their severity. Each name links to the runbook.
func alertTable(rules []byte) (string, error) {
	var file struct {
		Groups []struct {
			Rules []struct {
				Alert               string
				Labels, Annotations map[string]string
			}
		}
	}
	if err := yaml.Unmarshal(rules, &file); err != nil {
		return "", fmt.Errorf("decode alerts: %w", err)
	}
	links := map[string][]string{}
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			severity := rule.Labels["severity"]
			links[severity] = append(links[severity], "["+code(rule.Alert)+"]("+path.Base(rule.Annotations["runbook_url"])+")")
		}
	}
	t := newTable("severity", "alerts")
	for _, severity := range slices.Sorted(maps.Keys(links)) {
		t.row(severity, strings.Join(links[severity], ", "))
	}
	return t.String(), nil
}
