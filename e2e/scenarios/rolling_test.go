package scenarios_test

import (
	"context"
	"maps"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/figures"
	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// The load of the rolling restart.
const (
	restartReplicas = 10
	restartRate     = 400
)

func TestMainRollingRestart(t *testing.T) {
	s := scenario.New(t)
	timeline := observe.NewTimeline(nil)
	client := load.New(s.Consul, s.Service())
	watching, stop := context.WithCancel(s.Ctx)
	defer stop()
	s.Given("ten replicas that a client follows through Consul", func() {
		collector, err := timeline.Collect(watching, cluster.HostIP)
		s.Must(err)
		template := s.Sample(s.Annotations())
		scenario.SetEnv(&template, "COLLECTOR", collector)
		s.Deployment(restartReplicas, template)
		s.Rollout()
		s.AwaitCatalog(s.Service(), restartReplicas)
		_, err = timeline.Pods(watching, s.Kube, s.Namespace, "app=sample")
		s.Must(err)
		timeline.Catalog(watching, s.Consul, s.Service())
		s.Must(client.Follow(watching))
	})
	before := uids(timeline.Lives())
	s.When("they are restarted under load", func() {
		loading, enough := context.WithCancel(watching)
		done := make(chan struct{})
		go func() { defer close(done); client.Run(loading, restartRate) }()
		s.Restart()
		s.Rollout()
		s.Eventually("the old pods to be gone", func(context.Context) (bool, error) {
			return len(observe.Spans(timeline.Lives(), observe.Deleted, observe.Gone)) == restartReplicas, nil
		})
		enough()
		<-done
	})
	s.Then("no request failed, and each pod came and went in order", func() {
		requests, failed := client.Counts()
		lives := timeline.Lives()
		fresh := slices.DeleteFunc(slices.Clone(lives), func(l observe.Life) bool { return before[l.UID] })
		gates := observe.Spans(fresh, observe.ContainersReady, observe.GateOpen)
		gone := observe.Spans(lives, observe.Deleted, observe.OutOfCatalog)
		after := sigtermAfterGone(lives)
		measured := map[string]float64{
			"main_gate_ms_p50":        observe.Quantile(gates, 0.5),
			"main_gate_ms_p90":        observe.Quantile(gates, 0.9),
			"main_gone_ms_p50":        observe.Quantile(gone, 0.5),
			"main_gone_ms_p90":        observe.Quantile(gone, 0.9),
			"main_sigterm_after_gone": after,
			"main_requests":           float64(requests),
			"main_failed_requests":    float64(failed),
		}
		s.Must(figures.Merge(s.FiguresFile(), measured))
		for _, name := range slices.Sorted(maps.Keys(measured)) {
			s.Logf("%-26s %10.2f", name, measured[name])
		}
		if failed > 0 {
			s.Errorf("%d of %d requests failed: %v", failed, requests, client.Errors())
		}
		if len(gates) != restartReplicas || len(gone) != restartReplicas {
			s.Errorf("saw %d gates open and %d instances leave, want %d each", len(gates), len(gone), restartReplicas)
		}
		if after != 1 {
			s.Errorf("in a share of %.2f of the terminations SIGTERM came after the catalog dropped the instance, want all", after)
		}
		for _, life := range fresh {
			if took, ok := life.Between(observe.InCatalog, observe.Ready); !ok || took < 0 {
				s.Errorf("%s was Ready before the catalog had it (%v)", life.Pod, life.At)
			}
		}
	})
}

func uids(lives []observe.Life) map[string]bool {
	seen := map[string]bool{}
	for _, life := range lives {
		seen[life.UID] = true
	}
	return seen
}

// sigtermAfterGone is the share of the terminations in which the application's SIGTERM came after the catalog had
// dropped the instance.
func sigtermAfterGone(lives []observe.Life) float64 {
	ended, after := 0, 0
	for _, life := range lives {
		if _, terminated := life.At[observe.Terminated]; !terminated {
			continue
		}
		ended++
		if took, ok := life.Between(observe.OutOfCatalog, observe.Terminated); ok && took > 0 {
			after++
		}
	}
	if ended == 0 {
		return 0
	}
	return float64(after) / float64(ended)
}

func TestMainAgentletIsSmall(t *testing.T) {
	s := scenario.New(t)
	const quiet = 2 * time.Minute
	var pod string
	s.Given("a registered pod", func() {
		_, err := s.CreatePod("small", s.Sample(s.Annotations()))
		s.Must(err)
		pod = string(s.AwaitReady("small").UID)
	})
	s.When("it has been idle for two minutes", func() {
		select {
		case <-s.Ctx.Done():
		case <-time.After(quiet): // the idle time is what is measured
		}
	})
	s.Then("its anonymous memory and its binary are small", func() {
		anonymous, err := scenario.AnonymousMemory("agentlet run", pod)
		s.Must(err)
		binary, err := os.Stat(s.Out + "/bin/agentlet")
		s.Must(err)
		measured := map[string]float64{
			"main_anon_mib":  float64(anonymous) / (1 << 20),
			"main_binary_mb": float64(binary.Size()) / 1e6,
		}
		s.Must(figures.Merge(s.FiguresFile(), measured))
		s.Logf("%v", measured)
		// Twice the bar of 6 MiB: what would be a mistake on any machine.
		if anonymous > 12<<20 {
			s.Errorf("the agentlet holds %d bytes of anonymous memory", anonymous)
		}
		if binary.Size() > 30e6 {
			s.Errorf("the agentlet's binary has %d bytes", binary.Size())
		}
	})
}
