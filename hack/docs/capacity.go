package docs

import (
	"fmt"
	"math"

	"github.com/agentlet/agentlet/hack/figures"
	"github.com/agentlet/agentlet/internal/cost"
)

// What the plan for large clusters supposes. Each pod registers one service.
const (
	densestNode   = 110 // pods; the most that Kubernetes recommends
	sparsestNode  = 30
	replacedShare = 0.01 // of the pods in each minute
)

// capacitySizes are numbers of pods.
var capacitySizes = []float64{1_000, 10_000, 100_000}

// capacity is what clusters of these sizes ask of Kubernetes and of Consul, computed from what one pod, or 5,000, were measured
// to ask, and from what tests with a real Consul count in a pod's life.
func (b benchmarks) capacity() string {
	t := newTable("", "1,000 pods", "10,000", "100,000")
	row := func(what string, of func(pods float64) string) {
		cells := []string{what}
		for _, pods := range capacitySizes {
			cells = append(cells, of(pods))
		}
		t.row(cells...)
	}
	each := func(n float64) func(float64) string { return func(pods float64) string { return thousands(n * pods) } }
	node := func(n float64) func(float64) string {
		return func(float64) string { return thousands(n * densestNode) }
	}
	replaced := func(n float64) func(float64) string {
		return func(pods float64) string { return thousands(n * pods * replacedShare / 60) }
	}
	row("nodes", func(pods float64) string {
		return thousands(math.Ceil(pods/densestNode)) + "–" + thousands(math.Ceil(pods/sparsestNode))
	})
	row("**API servers**: watches, connections", each(1))
	row("memory, GiB", each(b.Figures["scale_kube_mib_per_pod_5000"]/1024))
	row("requests of quiet pods/s", each(b.Figures["quiet_kube_rpm"]/60))
	row("patches of a status/s", replaced(cost.LifeStatusPatches))
	row("events/s", replaced(cost.LifeEvents))
	row("**Each Consul agent**: connections, at most", node(cost.AgentConnectionsPeak))
	row("requests/s", node(b.Figures["quiet_agent_rpm"]/60))
	row("**Consul's servers**: raft writes/s", replaced(cost.LifeRaftWrites))
	row("raft log, KB/s", replaced(cost.LifeRaftBytes/1000.0))
	row("catalog reads/s", replaced(cost.LifeCatalogReads))
	row("processor cores", replaced(2*b.Figures["scale_consul_cpu_ms_per_event_5000"]/1000))
	row("with `gate-policy: continuous`: blocking queries", each(1))
	row("their reads/s", each(1/cost.FollowPause.Seconds()))
	return t.String()
}

// thousands is a number with two digits that count at the least, and its thousands apart.
func thousands(n float64) string {
	if n < 10 && n != math.Trunc(n) {
		return fmt.Sprintf("%.2g", n)
	}
	return figures.Thousands(int(math.Round(n)))
}
