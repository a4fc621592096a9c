// Package bench defines the figures that `make bench` measures, each with its target. The table on the terminal and those in the
// docs are made from it.
package bench

import (
	"encoding/json"
	"fmt"
	"io"
	"math"
	"os"
	"text/tabwriter"

	"github.com/agentlet/agentlet/hack/figures"
)

// Row is one figure.
type Row struct {
	// Name of the figure. The figure NAME_n is its number of samples.
	Name string
	Unit string
	// Target is the upper limit of the figure, or with AtLeast the lower limit. NaN means that it is only reported, as all times
	// in milliseconds are, because they depend on the machine.
	Target  float64
	AtLeast bool
	// What describes the figure. It may go on from the row above.
	What string
}

// Spans of a pod's life: medians in milliseconds, for the picture in docs/benchmarks.md.
const (
	SpanStart   = "span_start_ms"   // created → containers ready
	SpanPassing = "span_passing_ms" //nolint:gosec // → passing in the catalog
	SpanGate    = "span_gate_ms"    // → gate open
	SpanReady   = "span_ready_ms"   // → Ready
	SpanGone    = "span_gone_ms"    // deleted → out of the catalog
	SpanDelay   = "span_delay_ms"   // → SIGTERM
	SpanEnd     = "span_end_ms"     // → gone
)

// Reported is the text of a figure without a target.
const Reported = "reported"

var reported = math.NaN()

var rows = []Row{
	{
		Name: "start_s_plain", Unit: "s", Target: reported,
		What: "created → Ready, single pods that are not injected; the application is ready 2 s after its start, probe period 1 s",
	},
	{
		Name: "start_added_s_default", Unit: "s", Target: 0.35,
		What: "what injection adds to created → Ready of a single pod; the application is ready 2 s after its start, probe period 1 s",
	},
	{Name: "start_added_s_kubelet", Unit: "s", Target: 1.1, What: "the same with readiness: kubelet"},
	{Name: "start_added_s_registered", Unit: "s", Target: 0.5, What: "with gate: registered"},
	{Name: "start_s_plain_10s", Unit: "s", Target: reported, What: "as start_s_plain, with a probe period of 10 s"},
	{Name: "start_added_s_default_10s", Unit: "s", Target: 0.35, What: "what injection adds to that"},
	{Name: "start_added_s_kubelet_10s", Unit: "s", Target: 1.1, What: "the same with readiness: kubelet"},
	{Name: "start_added_s_registered_10s", Unit: "s", Target: 0.5, What: "with gate: registered"},
	{Name: "start_s_plain_at_once", Unit: "s", Target: reported, What: "as start_s_plain, with an application that is ready at its start"},
	{
		Name: "start_added_s_default_at_once", Unit: "s", Target: reported,
		What: "what injection adds to that: the kubelet's own probe succeeds before the agentlet has started",
	},
	{Name: "start_added_s_kubelet_at_once", Unit: "s", Target: reported, What: "the same with readiness: kubelet"},
	{Name: "start_added_s_registered_at_once", Unit: "s", Target: reported, What: "with gate: registered"},

	{
		Name: "floor_register_ms_p50", Unit: "ms", Target: reported,
		What: "a bare client's registration → in the catalog",
	},
	{Name: "floor_update_ms_p50", Unit: "ms", Target: reported, What: "its update of the check → passing in the catalog"},
	{Name: "floor_deregister_ms_p50", Unit: "ms", Target: reported, What: "its deregistration → out of the catalog"},
	{
		Name: "floor_patch_ms_p50", Unit: "ms", Target: reported,
		What: "a bare client's PATCH of a pod's status",
	},
	{
		Name: "floor_follower_passing_ms_p50", Unit: "ms", Target: reported,
		What: "a bare client that follows a pod without an agentlet: ContainersReady seen → its update is in the catalog",
	},
	{Name: "floor_follower_gate_ms_p50", Unit: "ms", Target: reported, What: "ContainersReady seen → its PATCH, after that update, is answered"},
	{
		Name: "floor_follower_gone_ms_p50", Unit: "ms", Target: reported,
		What: "deletionTimestamp seen → its instance is out of the catalog",
	},
	{
		Name: "single_passing_ms_p50", Unit: "ms", Target: reported,
		What: "single pods with readiness: kubelet, between those measurements: ContainersReady seen → passing in the catalog",
	},
	{Name: "single_gate_ms_p50", Unit: "ms", Target: reported, What: "ContainersReady seen → gate True seen"},
	{Name: "single_gone_ms_p50", Unit: "ms", Target: reported, What: "deletionTimestamp seen → out of the catalog"},
	{
		Name: "passing_over_floor_p50", Unit: "×", Target: 1.3,
		What: "single_passing_ms over a bare client's update of a check until the catalog shows it",
	},
	{Name: "passing_over_floor_p99", Unit: "×", Target: 2, What: "the same, of 60 each the slowest"},
	{
		Name: "gate_over_floor_p50", Unit: "×", Target: 1.3,
		What: "single_gate_ms over a bare client's update of a check until the catalog shows it and PATCH of a pod's status",
	},
	{Name: "gate_over_floor_p99", Unit: "×", Target: 2, What: "the same, of 60 each the slowest"},
	{
		Name: "gone_over_floor_p50", Unit: "×", Target: 1.3,
		What: "single_gone_ms over a bare client's deregistration until the catalog shows it",
	},
	{Name: "gone_over_floor_p99", Unit: "×", Target: 2, What: "the same, of 60 each the slowest"},
	{Name: "passing_over_follower_p50", Unit: "×", Target: 1.3, What: "single_passing_ms over floor_follower_passing_ms"},
	{Name: "passing_over_follower_p99", Unit: "×", Target: 2, What: "the same, of 60 each the slowest"},
	{Name: "gate_over_follower_p50", Unit: "×", Target: 1.3, What: "single_gate_ms over floor_follower_gate_ms"},
	{Name: "gate_over_follower_p99", Unit: "×", Target: 2, What: "the same, of 60 each the slowest"},
	{Name: "gone_over_follower_p50", Unit: "×", Target: 1.3, What: "single_gone_ms over floor_follower_gone_ms"},
	{Name: "gone_over_follower_p99", Unit: "×", Target: 2, What: "the same, of 60 each the slowest"},

	{
		Name: "gate_ms_p50", Unit: "ms", Target: reported,
		What: "ContainersReady seen → gate True seen, 100 pods in rolling restarts on two nodes",
	},
	{Name: "gate_ms_p99", Unit: "ms", Target: reported, What: "the same, of 100 the slowest but one"},
	{Name: "passing_ms_p50", Unit: "ms", Target: reported, What: "ContainersReady seen → passing in the catalog"},
	{Name: "passing_ms_p99", Unit: "ms", Target: reported, What: "the same, of 100 the slowest but one"},
	{Name: "gone_ms_p50", Unit: "ms", Target: reported, What: "deletionTimestamp seen → out of the catalog"},
	{Name: "gone_ms_p99", Unit: "ms", Target: reported, What: "the same, of 100 the slowest but one"},
	{
		Name: "loaded_gate_ms_p50", Unit: "ms", Target: reported,
		What: "as gate_ms, while the load of failed_requests runs on the same machine",
	},
	{Name: "loaded_gate_ms_p99", Unit: "ms", Target: reported, What: "the same, of 100 the slowest but one"},
	{Name: "loaded_gone_ms_p50", Unit: "ms", Target: reported, What: "as gone_ms, under that load"},
	{Name: "loaded_gone_ms_p99", Unit: "ms", Target: reported, What: "the same, of 100 the slowest but one"},
	{Name: "unready_ms_p50", Unit: "ms", Target: reported, What: "ContainersReady False seen → critical in the catalog"},
	{
		Name:    "sigterm_after_gone",
		Unit:    "share",
		Target:  1,
		AtLeast: true,
		What:    "terminations with SIGTERM after the catalog had dropped the instance",
	},
	{
		Name:   "failed_requests",
		Unit:   "requests",
		Target: 0,
		What:   "at 500/s through Consul in 30 restarts of ten replicas",
	},
	{Name: "requests", Unit: "requests", Target: 100_000, AtLeast: true, What: "sent meanwhile"},
	{
		Name:   "rollout_s_plain",
		Unit:   "s",
		Target: reported,
		What:   "restart of 20 replicas, not injected",
	},
	{Name: "rollout_ratio_passing", Unit: "×", Target: reported, What: "with gate: passing, over that"},
	{Name: "rollout_ratio_registered", Unit: "×", Target: 1.25, What: "with gate: registered"},
	{Name: "rollout_ratio_probe", Unit: "×", Target: 1.25, What: "with readiness: probe"},
	{Name: "rollout_s_plain_3", Unit: "s", Target: reported, What: "restart of three such replicas"},
	{
		Name: "rollout_ratio_default", Unit: "×", Target: 1.15,
		What: "with the defaults, over that",
	},
	{Name: "agentlet_anon_mib", Unit: "MiB", Target: 5, What: "anonymous memory of an idle agentlet, median of a node's 20"},
	{
		Name:   "agentlet_cgroup_mib",
		Unit:   "MiB",
		Target: 10,
		What:   "its container's cgroup, without a node's first pod",
	},
	{
		Name:   "agentlet_start_ms",
		Unit:   "ms",
		Target: reported,
		What:   "an agentlet's restart → it knows its pod",
	},
	{Name: "agentlet_binary_mb", Unit: "MB", Target: 25, What: "size of the binary"},
	{Name: "agentlet_millicores", Unit: "mCPU", Target: 0.5, What: "processor time of an idle agentlet, mean of 20"},
	{Name: "quiet_consul_writes", Unit: "/pod/h", Target: 0, What: "changes of the service's catalog index while idle"},
	{Name: "quiet_kube_writes", Unit: "/pod/h", Target: 0, What: "changes of a pod, and events, while idle"},
	{Name: "quiet_agent_rpm", Unit: "/pod/min", Target: 8, What: "requests to the node's Consul agent"},
	{Name: "quiet_kube_rpm", Unit: "/pod/min", Target: 0.2, What: "requests to the API server"},
	{Name: "admission_us", Unit: "µs", Target: 100, What: "raw review → raw response, an ordinary pod"},
	{Name: "admission_kb", Unit: "KB", Target: 40, What: "allocated meanwhile"},
	{
		Name:   "admission_over_json",
		Unit:   "×",
		Target: 1.6,
		What:   "its time over encoding/json's for the review and its pod",
	},
	{
		Name:   "admission_p99_ms",
		Unit:   "ms",
		Target: reported,
		What:   "p99 at 500/s over TLS, with the client beside the server",
	},
	{Name: "admission_rps", Unit: "/s", Target: reported, What: "admissions over TLS"},
	{
		Name:   "flip_failed_clusterip",
		Unit:   "requests",
		Target: reported,
		What:   "of 20,000 to two pods, one failing half-way: by a ClusterIP Service",
	},
	{
		Name: "flip_failed_default", Unit: "requests", Target: reported,
		What: "through Consul, with the defaults",
	},
	{
		Name: "flip_failed_kubelet", Unit: "requests", Target: reported,
		What: "with readiness: kubelet, probed each 1 s",
	},
	{Name: "flip_failed_probe", Unit: "requests", Target: 200, What: "with readiness: probe"},
	{Name: "flip_ratio_probe", Unit: "×", Target: 0.2, What: "flip_failed_probe over flip_failed_clusterip"},

	{
		Name:   "scale_gate_ms_p99_500",
		Unit:   "ms",
		Target: reported,
		What:   "500 registrars with their pods on simulated nodes, of which 3 a second are replaced: ContainersReady seen → gate True seen",
	},
	{Name: "scale_gate_ms_p99_1000", Unit: "ms", Target: reported, What: "1,000"},
	{Name: "scale_gate_ms_p99_2000", Unit: "ms", Target: reported, What: "2,000"},
	{Name: "scale_gate_ms_p99_5000", Unit: "ms", Target: reported, What: "5,000"},
	{Name: "scale_gate_ms_p99_growth", Unit: "×", Target: reported, What: "5,000 over 500"},
	{
		Name: "scale_floor_ms_p99_500", Unit: "ms", Target: reported,
		What: "between those pods: a bare client's update of a check until the catalog shows it and PATCH of a pod's status, at 500 pods",
	},
	{Name: "scale_floor_ms_p99_1000", Unit: "ms", Target: reported, What: "at 1,000"},
	{Name: "scale_floor_ms_p99_2000", Unit: "ms", Target: reported, What: "at 2,000"},
	{Name: "scale_floor_ms_p99_5000", Unit: "ms", Target: reported, What: "at 5,000"},
	{Name: "scale_floor_ms_p99_growth", Unit: "×", Target: reported, What: "5,000 over 500"},
	{
		Name: "scale_gate_over_floor_p99_500", Unit: "×", Target: reported,
		What: "scale_gate_ms_p99 over scale_floor_ms_p99, at 500 pods",
	},
	{Name: "scale_gate_over_floor_p99_1000", Unit: "×", Target: reported, What: "at 1,000"},
	{Name: "scale_gate_over_floor_p99_2000", Unit: "×", Target: reported, What: "at 2,000"},
	{Name: "scale_gate_over_floor_p99_5000", Unit: "×", Target: reported, What: "at 5,000"},
	{Name: "scale_gate_over_floor_growth", Unit: "×", Target: 1.5, What: "5,000 over 500, of the p99: what of the growth is not the machine's"},
	{
		Name:   "scale_consul_cpu_ms_per_event_500",
		Unit:   "ms",
		Target: reported,
		What:   "processor time of the Consul server for a pod's start or end, at 500 pods",
	},
	{Name: "scale_consul_cpu_ms_per_event_5000", Unit: "ms", Target: reported, What: "at 5,000"},
	{Name: "scale_consul_cpu_ms_per_event_growth", Unit: "×", Target: 1.3, What: "5,000 over 500"},
	{
		Name:   "scale_kube_mib_per_pod_500",
		Unit:   "MiB",
		Target: reported,
		What:   "live memory of the API server, beyond that without pods, for each of 500 pods",
	},
	{Name: "scale_kube_mib_per_pod_5000", Unit: "MiB", Target: reported, What: "of 5,000"},
	{Name: "scale_kube_mib_per_pod_growth", Unit: "×", Target: 1.3, What: "5,000 over 500"},
	{
		Name:   "scale_agent_mib_per_pod_500",
		Unit:   "MiB",
		Target: reported,
		What:   "memory of the nodes' Consul agents for each of 500 pods",
	},
	{Name: "scale_agent_mib_per_pod_5000", Unit: "MiB", Target: reported, What: "of 5,000"},
	{Name: "scale_agent_mib_per_pod_growth", Unit: "×", Target: 1.3, What: "5,000 over 500"},
	{
		Name:   "storm_s",
		Unit:   "s",
		Target: reported,
		What:   "2,000 registrars lose their agents for 60 s → all passing",
	},
	{Name: "storm_peak_rps", Unit: "/s", Target: 2000, What: "most requests to the Consul server in a second, when 2,000 registrars have their agents back after 60 s"},
}

// Rows returns all figures in the order of the table. The caller owns the slice.
func Rows() []Row { return append([]Row(nil), rows...) }

// Met reports whether a value meets the row's target. Without a target it is true.
func (r Row) Met(value float64) bool {
	switch {
	case math.IsNaN(r.Target):
		return true
	case r.AtLeast:
		return value >= r.Target
	default:
		return value <= r.Target
	}
}

// TargetText returns the target as text for a table.
func (r Row) TargetText() string {
	switch {
	case math.IsNaN(r.Target):
		return Reported
	case r.AtLeast:
		return fmt.Sprintf("≥ %g", r.Target)
	default:
		return fmt.Sprintf("≤ %g", r.Target)
	}
}

// Read returns the figures in a file that `make bench` has written.
func Read(file string) (map[string]float64, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read figures: %w", err)
	}
	figures := map[string]float64{}
	if err := json.Unmarshal(content, &figures); err != nil {
		return nil, fmt.Errorf("decode %s: %w", file, err)
	}
	return figures, nil
}

// Print writes a table of the existing figures, for a terminal. The number of samples is ? where it isn't known.
func Print(to io.Writer, measured map[string]float64) error {
	table := tabwriter.NewWriter(to, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "FIGURE\tVALUE\tTARGET\t\tSAMPLES\tWHAT")
	for _, row := range rows {
		value, is := measured[row.Name]
		if !is {
			continue
		}
		verdict := "ok"
		if !row.Met(value) {
			verdict = "OVER"
			if row.AtLeast {
				verdict = "SHORT"
			}
		}
		samples := "?"
		if n, is := measured[row.Name+"_n"]; is {
			samples = fmt.Sprintf("%.0f", n)
		}
		fmt.Fprintf(table, "%s\t%s %s\t%s\t%s\t%s\t%s\n", row.Name, figures.Number(value), row.Unit, row.TargetText(), verdict,
			samples, row.What)
	}
	return table.Flush()
}
