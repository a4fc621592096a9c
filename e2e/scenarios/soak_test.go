package scenarios_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// crowd is how many pods of one node start and end together: a kubelet takes 110, some of which are the node's own.
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

// quietTime is how long the steady state is watched; AGENTLET_QUIET shortens or lengthens it.
func quietTime(s *scenario.S) time.Duration {
	s.Helper()
	text := os.Getenv("AGENTLET_QUIET")
	if text == "" {
		return 5 * time.Minute
	}
	d, err := time.ParseDuration(text)
	s.Must(err)
	return d
}

func TestFaultSteadyState(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	node := s.Cluster.Nodes[0]
	var processes []scenario.Process
	s.Given("twenty pods on one node", func() { processes = idle(s, node) })
	// everything in the catalog and every check's state, of anybody; Consul's own coordinates aside.
	index := func() uint64 {
		_, meta, err := s.Consul.Health().State(api.HealthAny, (&api.QueryOptions{}).WithContext(s.Ctx))
		s.Must(err)
		return meta.LastIndex
	}
	length := quietTime(s)
	var before, after quiet
	var memoryBefore, memoryAfter float64
	var indexBefore, indexAfter uint64
	s.When("nothing happens for a while", func() {
		before, memoryBefore, indexBefore = lookQuietly(s, node, processes), anonymousMiB(s, processes), index()
		s.Pause(length)
		after, memoryAfter, indexAfter = lookQuietly(s, node, processes), anonymousMiB(s, processes), index()
	})
	s.Then("nobody has written anything, and it cost next to nothing", func() {
		cost := after.since(before)
		if indexAfter != indexBefore || cost.catalogWrites > 0 {
			s.Errorf("Consul was written: its checks' index went from %d to %d", indexBefore, indexAfter)
		}
		if cost.kubeWrites > 0 {
			s.Errorf("%d writes to pods and events", cost.kubeWrites)
		}
		if most := barOf(s, "quiet_agent_rpm"); cost.agentRPM > most {
			s.Errorf("%.1f requests per pod and minute to the agent, want %g at the most", cost.agentRPM, most)
		}
		if most := 4 * barOf(s, "agentlet_millicores"); cost.millicores > most { // this machine may be busy
			s.Errorf("%.2f millicores for each agentlet, want %g at the most", cost.millicores, most)
		}
		if growth := memoryAfter - memoryBefore; growth > 1 {
			s.Errorf("each agentlet grew by %.2f MiB", growth)
		}
		told(s, "nothing happens, twenty pods", fmt.Sprintf("no write to Consul or Kubernetes; %.1f requests to the agent per pod and minute; %.2f millicores each; memory %.2f MiB, then %.2f",
			cost.agentRPM, cost.millicores, memoryBefore, memoryAfter), cost.window)
	})
}
