package dashboard

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
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
	for _, field := range []string{"titleFormat", "textFormat", "tagKeys"} { // of annotations, by the data source
		lines := regexp.MustCompile(`(?m)^ {8}"` + field + `": .*\n`)
		if n := len(lines.FindAll(content, -1)); n != len(annotations()) {
			t.Errorf("%d %s, want one of each annotation", n, field)
		}
		content = lines.ReplaceAll(content, nil)
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
	type rule struct {
		Record string `json:"record"`
		Expr   string `json:"expr"`
	}
	type group struct {
		Name  string `json:"name"`
		Rules []rule `json:"rules"`
	}
	queries := group{Name: "dashboard"}
	for _, a := range annotations() {
		queries.Rules = append(queries.Rules, rule{"an:annotation", variables.Replace(a.expression)})
	}
	for _, row := range rows() {
		for _, panel := range row.panels {
			for _, query := range panel.queries {
				queries.Rules = append(queries.Rules, rule{"a:query", variables.Replace(query.expression)})
			}
		}
	}
	promtool(t, "check rules --lint=none", map[string]any{"groups": []group{queries}})
}

// variables are the dashboard's, with values that Prometheus understands.
var variables = strings.NewReplacer("$cluster", ".*", "$namespace", ".*", "$__rate_interval", "5m", "$__interval", "1m")

// promtool runs a subcommand with a file of this content.
func promtool(t *testing.T, subcommand string, content any) {
	t.Helper()
	program := os.Getenv("AGENTLET_TEST_PROMTOOL")
	if program == "" {
		t.Skip("AGENTLET_TEST_PROMTOOL names no promtool; make unit sets it")
	}
	text, err := json.Marshal(content) // JSON is YAML
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "file.yaml")
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	args := append(strings.Fields(subcommand), file)
	if out, err := exec.CommandContext(t.Context(), program, args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %q: %v\n%s", args, err, out)
	}
}

// TestQueriesTellWhatTheyShould evaluates queries over pods that wait, start and end. Times are from the test's begin.
func TestQueriesTellWhatTheyShould(t *testing.T) {
	type series struct {
		Series string `json:"series"`
		Values string `json:"values"`
	}
	type sample struct {
		Labels string  `json:"labels"`
		Value  float64 `json:"value"`
	}
	type try struct {
		Expr     string   `json:"expr"`
		EvalTime string   `json:"eval_time"`
		Samples  []sample `json:"exp_samples"`
	}
	pod := func(name string, open, since, reason string, services ...string) (all []series) {
		target := `cluster="eu",namespace="shop",node="n1",instance="i-` + name + `",pod="` + name + `"`
		all = []series{
			{`agentlet_gate_open{` + target + `}`, open},
			{`agentlet_gate_last_transition_timestamp_seconds{` + target + `}`, since},
			{`agentlet_gate_reason{` + target + `,reason="` + reason + `"}`, "1x120"},
			{`agentlet_gate_reason{` + target + `,reason="TimedOut"}`, "0x120"},
		}
		for _, service := range services {
			all = append(all, series{`agentlet_service_info{` + target + `,service="` + service + `"}`, "1x120"})
		}
		return all
	}
	all := slices.Concat(
		pod("stuck", "0x120", "60x120", "AwaitingCatalog", "web", "admin"),
		pod("slow", "0x120", "120x120", "ContainersNotReady", "web"),
		pod("unknown", "0x120", "180x120", "InvalidConfiguration"),
		pod("open", "1x120", "60x120", "Registered", "web"),
		pod("ending", "0x120", "60x120", "Draining", "web"),
		pod("new", "_x28 0x90", "_x28 1695x90", "AwaitingCatalog", "web"),
		[]series{
			{`agentlet_gate_open{cluster="eu",namespace="shop",node="n1",pod="replaced"}`, "1x27 stale"},
			{`agentlet_gate_open{cluster="eu",namespace="calm",node="n1",pod="ended"}`, "1x27 stale"},
			{`agentlet_consul_reachable{node="n1",pod="one"}`, "0x120"},
			{`agentlet_consul_reachable{node="n1",pod="two"}`, "1x120"},
			{`agentlet_consul_reachable{node="n2",pod="three"}`, "0x120"},
			{`agentlet_consul_reachable{node="n2",pod="four"}`, "0x120"},
			{`agentlet_consul_reachable{pod="five",instance="five"}`, "0x120"},
			{`agentlet_consul_reachable{pod="six",instance="six"}`, "1x120"},
			{`agentlet_time_to_gate_seconds{pod="early"}`, "2x120"},
			{`agentlet_time_to_gate_seconds{pod="late"}`, "_x29 3x90"},
			{`agentlet_time_to_drain_seconds{pod="waits",outcome="waiting"}`, "_x29 1 _x90"},
			{`agentlet_time_to_drain_seconds{pod="gone",outcome="dropped"}`, "_x29 .5 _x90"},
			{`agentlet_time_to_drain_seconds{pod="before",outcome="dropped"}`, "_x28 .5 .5 _x90"},
		},
	)
	row := func(pod, more string, since float64) sample {
		return sample{`{cluster="eu",namespace="shop",node="n1",pod="` + pod + `",` + more + `}`, since}
	}
	query := func(title string) string {
		for _, row := range rows() {
			for _, panel := range row.panels {
				if panel.title == title {
					return variables.Replace(panel.queries[0].expression)
				}
			}
		}
		t.Fatalf("no panel %q", title)
		return ""
	}
	promtool(t, "test rules", map[string]any{"tests": []any{map[string]any{
		"interval": "1m", "input_series": all,
		"promql_expr_test": []try{
			{query("Pods whose gate is closed for over a minute"), "29m", []sample{
				row("stuck", `service="admin",reason="AwaitingCatalog"`, 60000),
				row("stuck", `service="web",reason="AwaitingCatalog"`, 60000),
				row("slow", `service="web",reason="ContainersNotReady"`, 120000),
				row("unknown", `reason="InvalidConfiguration"`, 180000),
			}},
			{query("Closed gates"), "29m", []sample{{"{}", 5}}},
			{query("Stuck"), "29m", []sample{{"{}", 2}}},
			{query("Stuck"), "10m", []sample{{"{}", 0}}},
			{query("Gates"), "29m", []sample{{`agentlet_time_to_gate_seconds{pod="late"}`, 3}}},
			{query("Gates"), "30m", nil},
			{query("Drains"), "29m", []sample{{`agentlet_time_to_drain_seconds{pod="gone",outcome="dropped"}`, .5}}},
			{query("Nodes without Consul"), "29m", []sample{{"{}", 2}}}, // n2, and a pod of no known node
			{query("Replicas ready"), "29m", []sample{{"{}", 0}}},
			{variables.Replace(annotations()[0].expression), "27m", nil},
			{variables.Replace(annotations()[0].expression), "29m", []sample{{`{cluster="eu",namespace="shop"}`, 1}}},
		},
	}}})
}

// TestRedSaysWhatToDo: a number is red only where somebody should act, so each that may be red leads to the runbook. Gates that are
// closed in a rollout are none of them.
func TestRedSaysWhatToDo(t *testing.T) {
	red := map[string]bool{}
	for _, row := range rows() {
		for _, panel := range row.panels {
			if panel.redFrom != nil || panel.redBelow != nil {
				red[panel.title] = true
				if panel.runbook == "" {
					t.Errorf("%s may be red, and leads nowhere", panel.title)
				}
			}
		}
	}
	for title, want := range map[string]bool{
		"Closed gates": false, "Stuck": true, "Replicas ready": true, "Certificate: left of its time": true, "Pods with an agentlet": false,
	} {
		if red[title] != want {
			t.Errorf("%s may be red: %v, want %v", title, red[title], want)
		}
	}
}
