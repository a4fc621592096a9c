package docs

import (
	"slices"
	"strings"

	"github.com/agentlet/agentlet/hack/bench"
	"github.com/agentlet/agentlet/hack/figures"
)

// grid is a table of figures that belong together: a row for each kind, and a column for each variant.
type grid struct {
	head []string // the first one is the title
	rows []gridRow
}

type gridRow struct {
	what    string
	figures []string // of each column; empty where there is none
}

// grids are the tables of docs/benchmarks.md. The figures of none of them are in a list after them.
var grids = []grid{
	{
		[]string{"Created → Ready, s", "probed each 1 s", "each 10 s", "ready at once"},
		[]gridRow{
			{"not injected", []string{"start_s_plain", "start_s_plain_10s", "start_s_plain_at_once"}},
			{"injection adds", []string{"start_added_s_default", "start_added_s_default_10s", "start_added_s_default_at_once"}},
			{"with `readiness: kubelet`", []string{"start_added_s_kubelet", "start_added_s_kubelet_10s", "start_added_s_kubelet_at_once"}},
			{"with `gate: registered`", []string{
				"start_added_s_registered", "start_added_s_registered_10s", "start_added_s_registered_at_once",
			}},
		},
	},
	{
		[]string{"Single pods, p50", "ms", "bare client, ms", "ratio", "p99", "follower, ms", "ratio", "p99"},
		[]gridRow{
			{"ready → in the catalog", []string{
				"single_passing_ms_p50", "floor_update_ms_p50", "passing_over_floor_p50", "passing_over_floor_p99",
				"floor_follower_passing_ms_p50", "passing_over_follower_p50", "passing_over_follower_p99",
			}},
			{"→ gate True", []string{
				"single_gate_ms_p50", "", "gate_over_floor_p50", "gate_over_floor_p99",
				"floor_follower_gate_ms_p50", "gate_over_follower_p50", "gate_over_follower_p99",
			}},
			{"deleted → out of it", []string{
				"single_gone_ms_p50", "floor_deregister_ms_p50", "gone_over_floor_p50", "gone_over_floor_p99",
				"floor_follower_gone_ms_p50", "gone_over_follower_p50", "gone_over_follower_p99",
			}},
		},
	},
	{
		[]string{"Rolling restarts, ms", "p50", "p99", "under load, p50", "p99"},
		[]gridRow{
			{"ready → in the catalog", []string{"passing_ms_p50", "passing_ms_p99", "", ""}},
			{"→ gate True", []string{"gate_ms_p50", "gate_ms_p99", "loaded_gate_ms_p50", "loaded_gate_ms_p99"}},
			{"deleted → out of it", []string{"gone_ms_p50", "gone_ms_p99", "loaded_gone_ms_p50", "loaded_gone_ms_p99"}},
		},
	},
	{
		[]string{"Restart of", "not injected, s", "injected", "`gate: passing`", "`gate: registered`", "`readiness: probe`"},
		[]gridRow{
			{"3 replicas", []string{"rollout_s_plain_3", "rollout_ratio_default", "", "", ""}},
			{"20", []string{"rollout_s_plain", "", "rollout_ratio_passing", "rollout_ratio_registered", "rollout_ratio_probe"}},
		},
	},
	{
		[]string{"One of two pods answers 500", "by ClusterIP", "`readiness: kubelet`", "`probe`", "ratio"},
		[]gridRow{{"failed of 20,000 requests", []string{
			"flip_failed_clusterip", "flip_failed_kubelet", "flip_failed_probe", "flip_ratio_probe",
		}}},
	},
	{
		[]string{
			"Idle agentlet", "anonymous MiB", "cgroup MiB", "mCPU", "Consul writes/h", "Kubernetes writes/h", "agent requests/min",
			"API requests/min",
		},
		[]gridRow{{"", []string{
			"agentlet_anon_mib", "agentlet_cgroup_mib", "agentlet_millicores", "quiet_consul_writes", "quiet_kube_writes",
			"quiet_agent_rpm", "quiet_kube_rpm",
		}}},
	},
	{
		[]string{"Admission", "µs", "KB", "p99 by TLS, ms", "by TLS, /s"},
		[]gridRow{{"", []string{"admission_us", "admission_kb", "admission_p99_ms", "admission_rps"}}},
	},
	{
		[]string{"Pods", "500", "1,000", "2,000", "5,000", "growth"},
		[]gridRow{
			{"→ gate True, p99, ms", []string{
				"scale_gate_ms_p99_500", "scale_gate_ms_p99_1000", "scale_gate_ms_p99_2000", "scale_gate_ms_p99_5000",
				"scale_gate_ms_p99_growth",
			}},
			{"bare client, p99, ms", []string{
				"scale_floor_ms_p99_500", "scale_floor_ms_p99_1000", "scale_floor_ms_p99_2000", "scale_floor_ms_p99_5000",
				"scale_floor_ms_p99_growth",
			}},
			{"ratio", []string{
				"scale_gate_over_floor_p99_500", "scale_gate_over_floor_p99_1000", "scale_gate_over_floor_p99_2000",
				"scale_gate_over_floor_p99_5000", "scale_gate_over_floor_growth",
			}},
			{"Consul server, CPU ms/event", []string{
				"scale_consul_cpu_ms_per_event_500", "", "", "scale_consul_cpu_ms_per_event_5000", "scale_consul_cpu_ms_per_event_growth",
			}},
			{"API server, MiB/pod", []string{
				"scale_kube_mib_per_pod_500", "", "", "scale_kube_mib_per_pod_5000", "scale_kube_mib_per_pod_growth",
			}},
			{"Consul agents, MiB/pod", []string{
				"scale_agent_mib_per_pod_500", "", "", "scale_agent_mib_per_pod_5000", "scale_agent_mib_per_pod_growth",
			}},
		},
	},
}

// inGrid reports whether a figure is in one of the grids.
func inGrid(name string) bool {
	return slices.ContainsFunc(grids, func(g grid) bool {
		return slices.ContainsFunc(g.rows, func(r gridRow) bool { return slices.Contains(r.figures, name) })
	})
}

// page returns the measured figures, each with its target in brackets: the grids, then a list of the others that have a target.
func (b benchmarks) page() string {
	rows := map[string]bench.Row{}
	list := newTable("figure", "measured (target)", "what")
	older := false
	cell := func(row bench.Row, unit string) string {
		figure, measured := b.Figures[row.Name]
		if !measured {
			return ""
		}
		value := figures.Number(figure) + unit
		if !row.Met(figure) {
			value = "**" + value + "**"
		}
		if b.older[row.Name] {
			value, older = value+"†", true
		}
		if target := row.TargetText(); target != bench.Reported {
			value += " (" + strings.ReplaceAll(target, " ", "") + ")"
		}
		return value
	}
	for _, row := range bench.Rows() {
		rows[row.Name] = row
		if _, measured := b.Figures[row.Name]; measured && !inGrid(row.Name) && row.TargetText() != bench.Reported {
			list.row(code(row.Name), cell(row, " "+row.Unit), row.What)
		}
	}
	var page strings.Builder
	for _, g := range grids {
		t := newTable(g.head...)
		for _, r := range g.rows {
			cells := []string{r.what}
			for _, name := range r.figures {
				row, known := rows[name]
				switch {
				case known && row.Unit == "×":
					cells = append(cells, cell(row, "×"))
				case known:
					cells = append(cells, cell(row, ""))
				default:
					cells = append(cells, "")
				}
			}
			t.row(cells...)
		}
		page.WriteString(t.String() + "\n")
	}
	return page.String() + list.String() + b.legend(older)
}
