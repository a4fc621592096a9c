package alerts

import (
	"os"
	"os/exec"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	alertsFile = "../../charts/agentlet/files/alerts.yaml"
	testsFile  = "testdata/alerts.test.yaml"
)

func TestAlerts(t *testing.T) {
	promtool := os.Getenv("AGENTLET_TEST_PROMTOOL")
	if promtool == "" {
		t.Skip("AGENTLET_TEST_PROMTOOL names no promtool; make unit sets it")
	}
	for _, args := range [][]string{
		{"check", "rules", alertsFile},
		{"test", "rules", testsFile},
	} {
		if out, err := exec.CommandContext(t.Context(), promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %q: %v\n%s", args, err, out)
		}
	}
}

// decode reads a YAML file.
func decode[T any](t *testing.T, file string) (value T) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(content, &value)
	}
	if err != nil {
		t.Fatal(err)
	}
	return value
}

func TestEachAlertIsTriedBothWays(t *testing.T) {
	type rules struct {
		Groups []struct {
			Rules []struct {
				Alert       string
				Labels      map[string]string
				Annotations map[string]string
			}
		}
	}
	type tests struct {
		Tests []struct {
			AlertRuleTest []struct {
				Alertname string
				ExpAlerts []any `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	fires, rests := map[string]bool{}, map[string]bool{}
	for _, test := range decode[tests](t, testsFile).Tests {
		for _, c := range test.AlertRuleTest {
			fires[c.Alertname] = fires[c.Alertname] || len(c.ExpAlerts) > 0
			rests[c.Alertname] = rests[c.Alertname] || len(c.ExpAlerts) == 0
		}
	}
	for _, group := range decode[rules](t, alertsFile).Groups {
		for _, rule := range group.Rules {
			if !fires[rule.Alert] || !rests[rule.Alert] {
				t.Errorf("%s: tried firing %v, tried resting %v", rule.Alert, fires[rule.Alert], rests[rule.Alert])
			}
			if !slices.Contains([]string{"critical", "warning"}, rule.Labels["severity"]) ||
				rule.Annotations["summary"] == "" || rule.Annotations["description"] == "" || rule.Annotations["runbook_url"] == "" {
				t.Errorf("%s: severity, summary, description or runbook_url is missing", rule.Alert)
			}
		}
	}
}
