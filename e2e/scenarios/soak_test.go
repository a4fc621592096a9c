package scenarios_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// crowd is how many pods of one node start and end together. A kubelet runs at most 110, some of which are the node's own.
const crowd = 100

func TestFaultHundredPodsAtOnce(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	node := s.Cluster.Nodes[1]
	agent, err := cluster.ConsulClient(node.ConsulAddr())
	s.Must(err)
	scaled := func(n int) time.Duration {
		s.Helper()
		began := time.Now()
		s.Scale(n)
		s.Must(wait.PollUntilContextTimeout(s.Ctx, 200*time.Millisecond, 5*time.Minute, true, func(ctx context.Context) (bool, error) {
			ready := 0
			pods := s.Pods(ctx)
			for i := range pods {
				if scenario.IsReady(&pods[i]) {
					ready++
				}
			}
			return ready == n && len(pods) == n, nil
		}))
		took := time.Since(began)
		s.AwaitCatalog(s.Service(), n)
		return took
	}
	leftovers := func() (services int, goroutines float64) {
		s.Helper()
		registered, err := agent.Agent().ServicesWithFilter("Service == `" + s.Service() + "`")
		s.Must(err)
		metrics, err := agent.Agent().Metrics()
		s.Must(err)
		for _, gauge := range metrics.Gauges {
			if gauge.Name == "consul.runtime.num_goroutines" || gauge.Name == "consul."+node.Name+".runtime.num_goroutines" {
				goroutines = float64(gauge.Value)
			}
		}
		return len(registered), goroutines
	}
	var quiet float64
	s.Given("a Deployment of one pod", func() {
		s.Deployment(1, pinned(s, node, "drain-delay", "1s"))
		s.Rollout()
		s.AwaitCatalog(s.Service(), 1)
		_, quiet = leftovers()
	})
	for round := range 2 {
		s.When("a hundred of them start together, the catalog has exactly the Ready pods", func() {
			took := scaled(crowd)
			memory := anonymousMiB(s, agentletsOf(s, s.Pods(s.Ctx)))
			told(s, fmt.Sprintf("%d pods of one node start together", crowd),
				fmt.Sprintf("the catalog has exactly the Ready pods; %.1f MiB of anonymous memory per agentlet at the median", memory), took)
		})
		s.When("all but one end together, nothing is left of them", func() {
			took := scaled(1)
			services, goroutines := leftovers()
			if services != 1 {
				s.Errorf("round %d: the agent has %d services, want 1", round, services)
			}
			told(s, fmt.Sprintf("%d pods of one node end together", crowd-1),
				fmt.Sprintf("no instance left in agent or catalog; the Consul agent's goroutines: %.0f before, %.0f after round %d", quiet, goroutines, round+1), took)
		})
	}
}
