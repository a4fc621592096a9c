package scenarios_test

import (
	"context"
	"testing"
	"time"

	authenticationv1 "k8s.io/api/authentication/v1"

	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// Number of measured pods; a measurement of both floors precedes each. The application becomes ready so late that its agentlet has
// registered before, wherever it is placed in the pod.
const (
	floorSamples = 60
	floorAfter   = time.Second
)

// floors are the times of bare clients in milliseconds, in order of measurement.
type floors struct {
	// register, update, deregister and patch are calls in a quiet moment.
	register, update, deregister, patch []float64
	// passing, gate and gone are calls of a client that follows a pod without an agentlet, from what it follows until its result is
	// observed. The kubelet, the API server and the observer are as busy then as they are around a pod with an agentlet.
	passing, gate, gone []float64
}

// TestBenchFloor compares an agentlet's times with their lower bounds: calls of bare clients to the same Consul agent and the same
// API server, between the pods. The pods have readiness: kubelet, because the start of the agentlet's own probes can't be
// observed from outside.
func TestBenchFloor(t *testing.T) {
	s := scenario.New(t, scenario.Bench())
	var pods *singles
	var measure func()
	var floor floors
	s.Given("a namespace with a pod, and bare clients of the node's Consul agent and of the API server", func() {
		pods = newSingles(s)
		measure = newFloor(s, pods, &floor)
		measure() // a warm-up that fills caches
		floor = floors{}
	})
	var lives []observe.Life
	s.When("pods start and end, one at a time, each after a measurement of the floors", func() {
		for i := range floorSamples {
			s.Pause(time.Second) // let the node clean up after the last pod
			measure()
			s.Pause(time.Second)
			life, _ := pods.start(pinned(s, pods.node, "readiness", "kubelet", "drain-delay", "0s"), floorAfter, time.Second)
			lives = append(lives, pods.end(life, observe.InCatalog, observe.GateOpen, observe.OutOfCatalog))
			s.Logf("%d of %d", i+1, floorSamples)
		}
	})
	s.Then("their times are known, also as multiples of the floors", func() {
		gate, err := observe.Sums(floor.update, floor.patch)
		s.Must(err)
		for name, under := range map[string][]float64{
			"register": floor.register, "update": floor.update, "deregister": floor.deregister, "patch": floor.patch,
			"follower_passing": floor.passing, "follower_gate": floor.gate, "follower_gone": floor.gone,
		} {
			recordSpans(s, "floor_"+name+"_ms", under)
		}
		for _, of := range []struct {
			name            string
			from, to        observe.Station
			floor, follower []float64
		}{
			{"passing", observe.ContainersReady, observe.InCatalog, floor.update, floor.passing},
			{"gate", observe.ContainersReady, observe.GateOpen, gate, floor.gate},
			{"gone", observe.Deleted, observe.OutOfCatalog, floor.deregister, floor.gone},
		} {
			spans := observe.Spans(lives, of.from, of.to)
			recordSpans(s, "single_"+of.name+"_ms", spans)
			for suffix, q := range map[string]float64{"_p50": 0.5, "_p99": 0.99} {
				for name, under := range map[string][]float64{"_over_floor": of.floor, "_over_follower": of.follower} {
					ratio, err := observe.Ratio(spans, under, q)
					s.Must(err)
					record(s, of.name+name+suffix, ratio, len(spans))
				}
			}
		}
	})
}

// newFloor returns a function that measures each call once. To measure the gate's patch, it patches the status of a pod without
// an agentlet, because an agentlet would write the gate too. Its token is bound to the pod, as an agentlet's is.
func newFloor(s *scenario.S, pods *singles, floor *floors) (measure func()) {
	s.Helper()
	const name = "floor"
	template := pinned(s, pods.node, notInjected...)
	template.Spec.Containers[0].ReadinessProbe = nil
	_, err := s.CreatePod(name, template)
	s.Must(err)
	pod := s.AwaitReady(name)
	token := tokenOf(s, s.Namespace, "default",
		&authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: name, UID: pod.UID})
	kube := withToken(s, token)
	open := false
	patch := func() (time.Duration, error) {
		open = !open
		return observe.PatchGate(s.Ctx, kube, pod, open)
	}
	s.Eventually("the grant to be in force", func(context.Context) (bool, error) {
		_, err := patch()
		return err == nil, err
	})
	agent := consulOf(s, pod)
	bare := observe.NewBare(s.Ctx, agent, s.Consul, s.Service()+"-"+name)
	s.Cleanup(func() { _ = agent.Agent().ServiceDeregister(s.Service() + "-" + name) }) // needed only after a failure
	// call makes one call, and adds the time since a moment to took.
	call := func(ctx context.Context, do func(context.Context) (time.Duration, error), since time.Time, took *[]float64) {
		began := time.Now()
		if since.IsZero() {
			since = began
		}
		span, err := do(ctx)
		s.Must(err)
		*took = append(*took, observe.Milliseconds(began.Sub(since)+span))
	}
	patchGate := func(context.Context) (time.Duration, error) { return patch() }
	follow := func(ctx context.Context) {
		var unused []float64
		call(ctx, bare.Register, time.Time{}, &unused)
		plain := pods.create(pinned(s, pods.node, notInjected...), floorAfter, time.Second)
		ready := pods.await(plain, observe.ContainersReady).At[observe.ContainersReady]
		call(ctx, bare.Pass, ready, &floor.passing)
		call(ctx, patchGate, ready, &floor.gate)
		life := pods.await(plain, observe.Ready)
		s.Delete(life.Pod)
		call(ctx, bare.Deregister, pods.await(plain, observe.Deleted).At[observe.Deleted], &floor.gone)
		pods.await(plain, observe.Gone)
	}
	return func() {
		ctx, cancel := context.WithTimeout(s.Ctx, time.Minute)
		defer cancel()
		call(ctx, bare.Register, time.Time{}, &floor.register)
		call(ctx, bare.Pass, time.Time{}, &floor.update)
		call(ctx, patchGate, time.Time{}, &floor.patch)
		call(ctx, bare.Deregister, time.Time{}, &floor.deregister)
		follow(ctx)
	}
}
