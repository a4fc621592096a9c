package scenarios_test

import (
	"context"
	"maps"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/figures"
)

// The load of the rolling restart.
const (
	restartReplicas = 10
	restartRate     = 400
)

// followed is a Deployment whose pods are watched, with a client that follows its service through Consul.
type followed struct {
	*scenario.S
	timeline *observe.Timeline
	client   *load.Client
}

// follow creates the Deployment "sample" with these edits, and waits until it is in the catalog. The watches end with the
// scenario.
func follow(s *scenario.S, replicas int32, edits ...func(*corev1.PodTemplateSpec)) followed {
	f := followed{s, observe.NewTimeline(nil), load.New(s.Consul, s.Service())}
	collector, err := f.timeline.Collect(s.Ctx, cluster.HostIP)
	s.Must(err)
	template := s.Sample(s.Annotations())
	scenario.SetEnv(&template, "COLLECTOR", collector)
	for _, edit := range edits {
		edit(&template)
	}
	s.Deployment(replicas, template)
	s.Rollout()
	s.AwaitCatalog(s.Service(), int(replicas))
	_, err = f.timeline.Pods(s.Ctx, s.Kube, s.Namespace, "app=sample")
	s.Must(err)
	f.timeline.Catalog(s.Ctx, s.Consul, s.Service())
	s.Must(f.client.Follow(s.Ctx))
	return f
}

// restart restarts the Deployment under a load of rate requests per second, and returns when the old pods are gone.
func (f followed) restart(rate int) {
	gone := func() int { return len(observe.Spans(f.timeline.Lives(), observe.Deleted, observe.Gone)) }
	before, replicas := gone(), len(f.Pods(f.Ctx))
	f.under(rate, func() {
		f.Restart()
		f.Rollout()
		f.Eventually("the old pods to be gone", func(context.Context) (bool, error) { return gone() == before+replicas, nil })
	})
}

// under does something under a load of rate requests per second.
func (f followed) under(rate int, do func()) {
	loading, enough := context.WithCancel(f.Ctx)
	defer enough()
	done := make(chan struct{})
	go func() { defer close(done); f.client.Run(loading, rate) }()
	do()
	enough()
	<-done
}

// judge fails the scenario if a request failed or none was sent, or if a pod started or ended in a wrong order.
func (f followed) judge(fresh []observe.Life) {
	if err := f.client.Check(); err != nil {
		f.Error(err)
	}
	if after := sigtermAfterGone(f.timeline.Lives()); after != 1 {
		f.Errorf("in a share of %.2f of the terminations SIGTERM came after the catalog dropped the instance, want all", after)
	}
	for _, life := range fresh {
		if took, ok := life.Between(observe.InCatalog, observe.Ready); !ok || took < 0 {
			f.Errorf("%s was Ready before the catalog had it (%v)", life.Pod, life.At)
		}
	}
}

func TestBasicRollingRestart(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, placed)
		var f followed
		s.Given("ten replicas that a client follows through Consul", func() { f = follow(s, restartReplicas) })
		before := uids(f.timeline.Lives())
		s.When("they are restarted under load", func() { f.restart(restartRate) })
		s.Then("no request failed, and each pod started and ended in the right order", func() {
			requests, failed := f.client.Counts()
			lives, fresh := f.timeline.Lives(), livesAfter(f.timeline, before)
			gates := observe.Spans(fresh, observe.ContainersReady, observe.GateOpen)
			gone := observe.Spans(lives, observe.Deleted, observe.OutOfCatalog)
			measured := map[string]float64{
				"main_gate_ms_p50":        observe.Quantile(gates, 0.5),
				"main_gate_ms_p90":        observe.Quantile(gates, 0.9),
				"main_gone_ms_p50":        observe.Quantile(gone, 0.5),
				"main_gone_ms_p90":        observe.Quantile(gone, 0.9),
				"main_sigterm_after_gone": sigtermAfterGone(lives),
				"main_requests":           float64(requests),
				"main_failed_requests":    float64(failed),
			}
			if s.Placement == contract.PlacementContainer {
				s.Must(figures.Merge(s.FiguresFile(), measured))
			}
			for _, name := range slices.Sorted(maps.Keys(measured)) {
				s.Logf("%-26s %10.2f", name, measured[name])
			}
			if len(gates) != restartReplicas || len(gone) != restartReplicas {
				s.Errorf("saw %d gates open and %d instances leave, want %d each", len(gates), len(gone), restartReplicas)
			}
			f.judge(fresh)
		})
	})
}

// livesAfter returns the lives of pods that didn't exist before.
func livesAfter(timeline *observe.Timeline, before map[string]bool) []observe.Life {
	return slices.DeleteFunc(timeline.Lives(), func(l observe.Life) bool { return before[l.UID] })
}

func uids(lives []observe.Life) map[string]bool {
	seen := map[string]bool{}
	for _, life := range lives {
		seen[life.UID] = true
	}
	return seen
}

// sigtermAfterGone returns the share of terminations in which SIGTERM came after the catalog had removed the instance.
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
