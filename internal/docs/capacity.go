package docs

import (
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/agentlet/agentlet/internal/bench"
)

// What the plan for large clusters supposes. Each pod registers one service.
const (
	densestNode   = 110 // pods; the most that Kubernetes recommends
	sparsestNode  = 30
	replacedShare = 0.01 // of the pods in each minute
	// bookmarkEvery is how often the API server sends a bookmark to each watch (apiserver's cacher, defaultBookmarkFrequency).
	bookmarkEvery = time.Minute
)

// capacitySizes are numbers of pods.
var capacitySizes = []float64{1_000, 10_000, 100_000}

// capacity is what clusters of these sizes ask of Kubernetes and of Consul, computed from what one pod, or 5,000, were measured
// to ask.
func (b benchmarks) capacity() string {
	t := newTable("", "1,000 pods", "10,000", "100,000", "from")
	row := func(what, unit, from string, of func(pods float64) float64) {
		cells := []string{what}
		for _, pods := range capacitySizes {
			cells = append(cells, strings.TrimSpace(thousands(of(pods))+" "+unit))
		}
		t.row(append(cells, from)...)
	}
	each := func(n float64) func(float64) float64 { return func(pods float64) float64 { return n * pods } }
	node := func(n float64) func(float64) float64 { return func(float64) float64 { return n * densestNode } }
	replaced := func(n float64) func(float64) float64 {
		return func(pods float64) float64 { return n * pods * replacedShare / 60 }
	}
	nodes := []string{fmt.Sprintf("nodes, at %d to %d pods each", densestNode, sparsestNode)}
	for _, pods := range capacitySizes {
		nodes = append(nodes, thousands(math.Ceil(pods/densestNode))+" – "+thousands(math.Ceil(pods/sparsestNode)))
	}
	t.row(append(nodes, "computed")...)
	row("**API servers**: watches, and as many connections", "", "one per pod", each(1))
	row("their memory for these pods", "GiB", code("scale_kube_mib_per_pod_5000"),
		each(b.Figures["scale_kube_mib_per_pod_5000"]/1024))
	row("bookmarks sent", "/s", "one per watch and minute", each(1/bookmarkEvery.Seconds()))
	row("requests of quiet pods", "/s", code("quiet_kube_rpm"), each(b.Figures["quiet_kube_rpm"]/60))
	row("patches of a pod's status", "/s", fmt.Sprintf("%d per pod's life, counted", bench.LifeStatusPatches), replaced(bench.LifeStatusPatches))
	row("events", "/s", fmt.Sprintf("%d per pod's life, counted", bench.LifeEvents), replaced(bench.LifeEvents))
	row("**Each Consul agent**: connections", "", fmt.Sprintf("%d per pod, measured", bench.AgentConnections),
		node(bench.AgentConnections))
	row("the most of them", "", fmt.Sprintf("%d per pod, counted", bench.AgentConnectionsPeak), node(bench.AgentConnectionsPeak))
	row("blocking queries, answered by the agent itself", "", "one per pod", node(1))
	row("requests, mostly heartbeats", "/s", code("quiet_agent_rpm"), node(b.Figures["quiet_agent_rpm"]/60))
	row("**Consul's servers**: blocking queries of quiet pods", "", "measured", each(0))
	row("raft writes", "/s", fmt.Sprintf("%d per pod's life, counted", bench.LifeRaftWrites), replaced(bench.LifeRaftWrites))
	row("bytes of them in the raft log", "KB/s", fmt.Sprintf("%s bytes per pod's life, measured", thousands(bench.LifeRaftBytes)),
		replaced(bench.LifeRaftBytes/1000.0))
	row("reads of the catalog", "/s", fmt.Sprintf("%d per pod's life, counted", bench.LifeCatalogReads), replaced(bench.LifeCatalogReads))
	row("processor time", "of a core", code("scale_consul_cpu_ms_per_event_5000"),
		replaced(2*b.Figures["scale_consul_cpu_ms_per_event_5000"]/1000))
	row("raft writes when every pod is replaced once", "", "counted", each(bench.LifeRaftWrites))
	row("blocking queries where all pods have `gate-policy: continuous`", "", "one per pod", each(1))
	row("their reads, where a check changes somewhere every few seconds", "/s", fmt.Sprintf("one per pod and %s", bench.FollowPause),
		each(1/bench.FollowPause.Seconds()))
	return t.String()
}

// thousands is a number with two digits that count at the least, and its thousands apart.
func thousands(n float64) string {
	if n < 10 && n != math.Trunc(n) {
		return fmt.Sprintf("%.2g", n)
	}
	digits := fmt.Sprintf("%.0f", n)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + "," + digits[i:]
	}
	return digits
}
