package dashboard

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog/plugins"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
)

const file = "../../charts/agentlet/files/dashboard.json"

func TestTheFileIsNotStale(t *testing.T) {
	want, err := JSON()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(file); err != nil || string(got) != string(want) {
		t.Errorf("%s is stale, run make generate: %v", file, err)
	}
}

// TestGrafanaKnowsEveryField decodes the file with Grafana's types, which reject unknown fields.
func TestGrafanaKnowsEveryField(t *testing.T) {
	plugins.RegisterDefaultPlugins()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var d dashboard.Dashboard
	if err := d.UnmarshalJSONStrict(content); err != nil {
		t.Error(err)
	}
	if err := d.Validate(); err != nil {
		t.Error(err)
	}
	panels, described := 0, 0
	for _, p := range d.Panels {
		if p.Panel == nil {
			continue
		}
		panels++
		if p.Panel.Description != nil && *p.Panel.Description != "" && len(p.Panel.Targets) > 0 {
			described++
		}
	}
	if panels < 15 || described != panels {
		t.Errorf("%d panels, %d with a description and a query", panels, described)
	}
}

// TestPrometheusUnderstandsEveryQuery lets promtool check the queries as recording rules.
func TestPrometheusUnderstandsEveryQuery(t *testing.T) {
	promtool := os.Getenv("AGENTLET_TEST_PROMTOOL")
	if promtool == "" {
		t.Skip("AGENTLET_TEST_PROMTOOL names no promtool; make unit sets it")
	}
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	type group struct {
		Name  string `json:"name"`
		Rules []rule `json:"rules"`
	}
	variables := strings.NewReplacer("$namespace", ".*", "$__rate_interval", "5m", "$__interval", "5m")
	queries := group{Name: "dashboard"}
	for _, row := range rows() {
		for _, panel := range row.panels {
			for _, query := range panel.queries {
				queries.Rules = append(queries.Rules, rule{"a:query", variables.Replace(query.expression)})
			}
		}
	}
	content, err := json.Marshal(map[string]any{"groups": []group{queries}}) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "queries.yaml")
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.CommandContext(t.Context(), promtool, "check", "rules", "--lint=none", file).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
