// Package dashboard generates the repository's Grafana dashboard from the panels below, with Grafana's own types.
package dashboard

import (
	"encoding/json"
	"fmt"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

//go:generate go run ../cmd/dashboard ../../charts/agentlet/files/dashboard.json

// panel is one panel of the dashboard. Queries are expressions by legend.
type panel struct {
	title, description, unit string
	queries                  []query
	// bad is the value from which on a stat is red. A stat shows one number; other panels show lines.
	stat bool
	bad  float64
}

type query struct{ expression, legend string }

type row struct {
	title  string
	panels []panel
}

// Units in Grafana's names.
const (
	short   = "short"
	seconds = "s"
	rate    = "ops"
)

// Grid of the dashboard, 24 wide.
const (
	statWidth, statHeight = 6, 4
	lineWidth, lineHeight = 8, 8
)

// JSON returns the dashboard in the form that Grafana imports.
func JSON() ([]byte, error) {
	built, err := build().Build()
	if err != nil {
		return nil, fmt.Errorf("build dashboard: %w", err)
	}
	content, err := json.MarshalIndent(built, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode dashboard: %w", err)
	}
	return append(content, '\n'), nil
}

func build() *dashboard.DashboardBuilder {
	b := dashboard.NewDashboardBuilder("Agentlet").Uid("agentlet").Tags([]string{"agentlet", "consul"}).
		Description("Pods on their way into Consul and out of it, and the webhook that injects them.").
		Readonly().Refresh("30s").Time("now-3h", "now").Timezone("browser").
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
		WithVariable(dashboard.NewQueryVariableBuilder("namespace").Label("Namespace").
			Query(dashboard.StringOrMap{String: new("label_values(agentlet_gate_open, namespace)")}).
			Datasource(source()).Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortAlphabeticalAsc).
			Multi(true).IncludeAll(true).AllValue(".*"))
	for _, row := range rows() {
		b.WithRow(dashboard.NewRowBuilder(row.title))
		for _, panel := range row.panels {
			if panel.stat {
				b.WithPanel(panel.number())
			} else {
				b.WithPanel(panel.lines())
			}
		}
	}
	return b
}

// source is the data source that the user selects.
func source() common.DataSourceRef {
	return common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}
}

func (p panel) targets() (targets []cog.Builder[queryModel]) {
	for i, q := range p.queries {
		targets = append(targets, prometheus.NewDataqueryBuilder().Datasource(source()).
			Expr(q.expression).LegendFormat(q.legend).RefId(string(rune('A'+i))))
	}
	return targets
}

func (p panel) number() cog.Builder[dashboard.Panel] {
	steps := []dashboard.Threshold{{Color: "green"}}
	if p.bad > 0 {
		steps = append(steps, dashboard.Threshold{Value: &p.bad, Color: "red"})
	}
	return stat.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).Datasource(source()).
		Targets(p.targets()).Span(statWidth).Height(statHeight).NoValue("0").
		Thresholds(dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps))
}

func (p panel) lines() cog.Builder[dashboard.Panel] {
	return timeseries.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).Datasource(source()).
		Targets(p.targets()).Span(lineWidth).Height(lineHeight).Min(0)
}
