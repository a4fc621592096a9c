// Package dashboard generates the repository's Grafana dashboard from the panels below, with Grafana's own types.
package dashboard

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/common"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/heatmap"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/stat"
	"github.com/grafana/grafana-foundation-sdk/go/table"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

//go:generate go run ../cmd/dashboard ../../charts/agentlet/files/dashboard.json

// Runbook is the page that the links of the dashboard and of the alerts lead to, each with an anchor of it.
const Runbook = "https://github.com/agentlet/agentlet/blob/main/docs/runbook.md"

// panel is one panel of the dashboard. Queries are expressions by legend.
type panel struct {
	title, description, unit string
	kind                     kind
	queries                  []query
	// redFrom and redBelow are the values from which on, or below which, a number is red, because somebody should act.
	redFrom, redBelow *float64
	// runbook is the anchor of the page that says what to do; empty where there is nothing to do.
	runbook string
}

type query struct{ expression, legend string }

// kind is what a panel shows: one number, lines, a heatmap of the last hour, or a table of pods.
type kind int

const (
	number kind = iota
	lines
	heat
	rowsOfPods
)

type row struct {
	title  string
	panels []panel
}

// annotation marks times in all panels; title, text and tags hold names of labels.
type annotation struct{ name, colour, expression, title, text, tags string }

// Units in Grafana's names.
const (
	short   = "short"
	seconds = "s"
	rate    = "ops"
	share   = "percentunit"
	ago     = "dateTimeFromNow"
)

// Grid of the dashboard, 24 wide.
const (
	fullWidth                = 24
	numberWidth, numberSize  = 6, 4
	heatWidth                = 12
	lineWidth, lineHeight    = 8, 8
	tableHeight, heatmapSize = 10, 8
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
	text := string(content) + "\n"
	for _, a := range annotations() {
		if text, err = a.format(text); err != nil {
			return nil, err
		}
	}
	return []byte(text), nil
}

// format adds to an annotation, in the dashboard's text, what its events say. Grafana's types lack these fields, which belong to
// its Prometheus data source.
func (a annotation) format(text string) (string, error) {
	name := fmt.Sprintf("        \"name\": %q,\n", a.name)
	if n := strings.Count(text, name); n != 1 {
		return "", fmt.Errorf("annotation %s: its name is there %d times, want once", a.name, n)
	}
	var fields strings.Builder
	for _, field := range [][2]string{{"titleFormat", a.title}, {"textFormat", a.text}, {"tagKeys", a.tags}} {
		fmt.Fprintf(&fields, "        %q: %q,\n", field[0], field[1])
	}
	return strings.Replace(text, name, name+fields.String(), 1), nil
}

func build() *dashboard.DashboardBuilder {
	b := dashboard.NewDashboardBuilder("Agentlet").Uid("agentlet").Tags([]string{"agentlet", "consul"}).
		Description("Pods on their way into Consul and out of it, and the webhook that injects them.").
		Readonly().Refresh("30s").Time("now-3h", "now").Timezone("browser").
		WithVariable(dashboard.NewDatasourceVariableBuilder("datasource").Label("Data source").Type("prometheus")).
		WithVariable(labelVariable("cluster", "Cluster", "label_values(agentlet_gate_open, cluster)")).
		WithVariable(labelVariable("namespace", "Namespace", `label_values(agentlet_gate_open{cluster=~"$cluster"}, namespace)`)).
		Link(runbookLink("Runbook", ""))
	for _, a := range annotations() {
		b.Annotation(dashboard.NewAnnotationQueryBuilder().Name(a.name).Datasource(source()).Enable(true).IconColor(a.colour).
			Expr(a.expression))
	}
	for _, row := range rows() {
		b.WithRow(dashboard.NewRowBuilder(row.title))
		for _, panel := range row.panels {
			b.WithPanel(panel.build())
		}
	}
	return b
}

// labelVariable lets the user choose among the values of a label; all of them match series without it, too.
func labelVariable(name, label, values string) *dashboard.QueryVariableBuilder {
	return dashboard.NewQueryVariableBuilder(name).Label(label).Query(dashboard.StringOrMap{String: &values}).
		Datasource(source()).Refresh(dashboard.VariableRefreshOnTimeRangeChanged).Sort(dashboard.VariableSortAlphabeticalAsc).
		Multi(true).IncludeAll(true).AllValue(".*")
}

// runbookLink links to an anchor of the runbook, or to its begin.
func runbookLink(title, anchor string) *dashboard.DashboardLinkBuilder {
	url := Runbook
	if anchor != "" {
		url += "#" + anchor
	}
	return dashboard.NewDashboardLinkBuilder(title).Type(dashboard.DashboardLinkTypeLink).Icon("doc").Url(url).TargetBlank(true)
}

// source is the data source that the user selects.
func source() common.DataSourceRef {
	return common.DataSourceRef{Type: new("prometheus"), Uid: new("${datasource}")}
}

func (p panel) targets() (targets []cog.Builder[queryModel]) {
	for i, q := range p.queries {
		target := prometheus.NewDataqueryBuilder().Datasource(source()).
			Expr(q.expression).LegendFormat(q.legend).RefId(string(rune('A' + i)))
		if p.kind == rowsOfPods {
			target.Instant().Format(prometheus.PromQueryFormatTable)
		}
		targets = append(targets, target)
	}
	return targets
}

func (p panel) links() (links []cog.Builder[dashboard.DashboardLink]) {
	if p.runbook != "" {
		links = append(links, runbookLink("What to do", p.runbook))
	}
	return links
}

func (p panel) build() cog.Builder[dashboard.Panel] {
	switch p.kind {
	case lines:
		return p.lines()
	case heat:
		return p.heatmap()
	case rowsOfPods:
		return p.table()
	default:
		return p.number()
	}
}

func (p panel) number() cog.Builder[dashboard.Panel] {
	const calm, bad = "text", "red"
	steps := []dashboard.Threshold{{Color: calm}}
	switch {
	case p.redFrom != nil:
		steps = []dashboard.Threshold{{Color: "green"}, {Value: p.redFrom, Color: bad}}
	case p.redBelow != nil:
		steps = []dashboard.Threshold{{Color: bad}, {Value: p.redBelow, Color: "green"}}
	}
	return stat.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).Datasource(source()).
		Targets(p.targets()).Links(p.links()).Span(numberWidth).Height(numberSize).NoValue("0").
		Thresholds(dashboard.NewThresholdsConfigBuilder().Mode(dashboard.ThresholdsModeAbsolute).Steps(steps))
}

func (p panel) lines() cog.Builder[dashboard.Panel] {
	return timeseries.NewPanelBuilder().Title(p.title).Description(p.description).Unit(p.unit).Datasource(source()).
		Targets(p.targets()).Links(p.links()).Span(lineWidth).Height(lineHeight).Min(0)
}

// heatmap counts pods by time and value, over the last hour whatever the dashboard shows, so that a step is a minute.
func (p panel) heatmap() cog.Builder[dashboard.Panel] {
	logarithmic := common.NewScaleDistributionConfigBuilder().Type(common.ScaleDistributionLog).Log(2)
	return heatmap.NewPanelBuilder().Title(p.title).Description(p.description).Datasource(source()).
		Targets(p.targets()).Links(p.links()).Span(heatWidth).Height(heatmapSize).TimeFrom("1h").Interval("1m").MaxDataPoints(60).
		Calculate(true).Calculation(common.NewHeatmapCalculationOptionsBuilder().
		XBuckets(common.NewHeatmapCalculationBucketConfigBuilder().Mode(common.HeatmapCalculationModeSize).Value("1m")).
		YBuckets(common.NewHeatmapCalculationBucketConfigBuilder().Scale(logarithmic))).
		YAxis(heatmap.NewYAxisConfigBuilder().Unit(p.unit)).ShowLegend().
		Tooltip(heatmap.NewHeatmapTooltipBuilder().Mode(common.TooltipDisplayModeSingle))
}

// table has a row for each pod, with the time in its value shown as how long ago that is.
func (p panel) table() cog.Builder[dashboard.Panel] {
	columns := []string{"cluster", "namespace", "pod", "node", "service", "reason", "Value"}
	order := map[string]int{}
	for i, column := range columns {
		order[column] = i
	}
	return table.NewPanelBuilder().Title(p.title).Description(p.description).Datasource(source()).
		Targets(p.targets()).Links(p.links()).Span(fullWidth).Height(tableHeight).NoValue("None").Filterable(true).
		Footer(common.NewTableFooterOptionsBuilder().Show(false).Reducer([]string{})).
		WithTransformation(dashboard.DataTransformerConfig{Id: "organize", Options: map[string]any{
			"excludeByName": map[string]bool{"Time": true},
			"indexByName":   order,
			"renameByName":  map[string]string{"Value": "since"},
		}}).
		OverrideByName("since", []dashboard.DynamicConfigValue{{Id: "unit", Value: ago}}).
		SortBy([]cog.Builder[common.TableSortByFieldState]{common.NewTableSortByFieldStateBuilder().DisplayName("since")})
}
