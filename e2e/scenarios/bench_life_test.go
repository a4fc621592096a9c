package scenarios_test

import (
	"context"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/bench"
	"github.com/agentlet/agentlet/hack/figures"
)

// record writes a figure of `make bench` with its number of samples.
func record(s *scenario.S, name string, value float64, samples int) {
	s.Helper()
	s.Logf("%-26s %10.2f  (%d)", name, value, samples)
	s.Must(figures.Merge(s.BenchFile(), map[string]float64{name: value, name + "_n": float64(samples)}))
}

// recordSpans writes the median and the 99th percentile of times in milliseconds.
func recordSpans(s *scenario.S, name string, spans []float64) {
	s.Helper()
	record(s, name+"_p50", observe.Quantile(spans, 0.5), len(spans))
	record(s, name+"_p99", observe.Quantile(spans, 0.99), len(spans))
}

// Number of rolling restarts without and with load, and the load's requests per second. The loaded times are kept apart, because
// the load generator runs on the same machine.
const (
	lifeRestarts   = 10
	loadedRestarts = 30
	loadedRate     = 500
)

func TestBenchLife(t *testing.T) {
	s := scenario.New(t, scenario.Bench(), scenario.Long())
	var f followed
	s.Given("ten replicas that a client follows through Consul", func() { f = follow(s, restartReplicas) })
	before := uids(f.timeline.Lives())
	s.When("they are restarted ten times", func() {
		for range lifeRestarts {
			f.restart(0)
			s.AwaitCatalog(s.Service(), restartReplicas)
		}
	})
	s.Then("the times of the pods' lives are known", func() {
		lives := livesAfter(f.timeline, before)
		recordSpans(s, "gate_ms", observe.Spans(lives, observe.ContainersReady, observe.GateOpen))
		recordSpans(s, "passing_ms", observe.Spans(lives, observe.ContainersReady, observe.InCatalog))
		recordSpans(s, "gone_ms", observe.Spans(f.timeline.Lives(), observe.Deleted, observe.OutOfCatalog))
		for _, span := range []struct {
			name     string
			from, to observe.Station
		}{
			{bench.SpanStart, observe.Admitted, observe.ContainersReady},
			{bench.SpanPassing, observe.ContainersReady, observe.InCatalog},
			{bench.SpanGate, observe.InCatalog, observe.GateOpen},
			{bench.SpanReady, observe.GateOpen, observe.Ready},
			{bench.SpanGone, observe.Deleted, observe.OutOfCatalog},
			{bench.SpanDelay, observe.OutOfCatalog, observe.Terminated},
			{bench.SpanEnd, observe.Terminated, observe.Gone},
		} {
			spans := observe.Spans(lives, span.from, span.to)
			record(s, span.name, observe.Quantile(spans, 0.5), len(spans))
		}
	})
	unloaded := uids(f.timeline.Lives())
	s.When("they are restarted thirty times under load", func() {
		for restart := range loadedRestarts {
			f.restart(loadedRate)
			s.AwaitCatalog(s.Service(), restartReplicas)
			requests, failed := f.client.Counts()
			s.Logf("restart %d of %d: %d requests, %d failed", restart+1, loadedRestarts, requests, failed)
		}
	})
	s.Then("no request failed, and each pod started and ended in the right order", func() {
		lives := livesAfter(f.timeline, unloaded)
		recordSpans(s, "loaded_gate_ms", observe.Spans(lives, observe.ContainersReady, observe.GateOpen))
		recordSpans(s, "loaded_gone_ms", observe.Spans(lives, observe.Deleted, observe.OutOfCatalog))
		all := f.timeline.Lives()
		record(s, "sigterm_after_gone", sigtermAfterGone(all), len(observe.Spans(all, observe.Deleted, observe.Terminated)))
		requests, failed := f.client.Counts()
		record(s, "failed_requests", float64(failed), int(requests))
		record(s, "requests", float64(requests), int(requests))
		f.judge(livesAfter(f.timeline, before))
	})
}

// unreadyTimes is how often a pod becomes unready and ready again.
const unreadyTimes = 30

func TestBenchUnready(t *testing.T) {
	s := scenario.New(t, scenario.Bench())
	var pod *corev1.Pod
	s.Given("a passing pod", func() { pod = running(s, "flips", pinned(s, s.Cluster.Nodes[0])) })
	var kubelet, catalog <-chan turn
	s.Given("watches of the pod and of the catalog", func() {
		kubelet, catalog = readinessTurns(s, pod.Name), catalogTurns(s)
	})
	var spans []float64
	s.When("it becomes unready again and again", func() {
		for range unreadyTimes {
			s.Must(put(s, pod, "/unready"))
			seen, critical := await(s, kubelet, false), await(s, catalog, false)
			spans = append(spans, observe.Milliseconds(critical.Sub(seen)))
			s.Must(put(s, pod, "/ready"))
			await(s, kubelet, true)
			await(s, catalog, true)
		}
	})
	s.Then("the time until the catalog shows it is known", func() {
		record(s, "unready_ms_p50", observe.Quantile(spans, 0.5), len(spans))
	})
}

// turn is an observed change of readiness.
type turn struct {
	ready bool
	at    time.Time
}

// await waits for the next turn in that direction, and returns its time.
func await(s *scenario.S, turns <-chan turn, ready bool) time.Time {
	s.Helper()
	timeout := time.After(time.Minute)
	for {
		select {
		case t := <-turns:
			if t.ready == ready {
				return t.at
			}
		case <-timeout:
			s.Fatalf("readiness never turned %v", ready)
		}
	}
}

// turnsOf sends each change that look reports until the scenario ends.
func turnsOf(s *scenario.S, look func(ctx context.Context, changed func(ready bool)) error) <-chan turn {
	turns := make(chan turn, 64)
	go func() {
		last := true
		err := look(s.Ctx, func(ready bool) {
			if ready == last {
				return
			}
			last = ready
			select {
			case turns <- turn{ready, time.Now()}:
			case <-s.Ctx.Done():
			}
		})
		if err != nil && s.Ctx.Err() == nil {
			s.Errorf("watch readiness: %v", err)
		}
	}()
	return turns
}

func readinessTurns(s *scenario.S, pod string) <-chan turn {
	watcher, err := s.Kube.CoreV1().Pods(s.Namespace).Watch(s.Ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + pod})
	s.Must(err)
	s.Cleanup(watcher.Stop)
	return turnsOf(s, func(_ context.Context, changed func(bool)) error {
		for event := range watcher.ResultChan() {
			if pod, ok := event.Object.(*corev1.Pod); ok && event.Type != watch.Deleted {
				changed(scenario.Condition(pod, corev1.ContainersReady).Status == corev1.ConditionTrue)
			}
		}
		return nil
	})
}

func catalogTurns(s *scenario.S) <-chan turn {
	return turnsOf(s, func(ctx context.Context, changed func(bool)) error {
		for index := uint64(0); ctx.Err() == nil; {
			entries, meta, err := s.Consul.Health().Service(s.Service(), "", false, (&api.QueryOptions{WaitIndex: index}).WithContext(ctx))
			if err != nil {
				return err
			}
			index = meta.LastIndex
			changed(len(entries) > 0 && entries[0].Checks.AggregatedStatus() == api.HealthPassing)
		}
		return nil
	})
}
