package agentlet

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// TestTermination is about the signs of the end that start the drain, and about drain hooks that are called without one.
func TestTermination(t *testing.T) {
	for name, c := range map[string]struct {
		sign   func(*Registrar)
		drains bool
	}{
		"deletionTimestamp":            {deletes, true},
		"own preStop, API unknown":     {(*Registrar).PreStop, true},
		"SIGTERM, API unknown":         {(*Registrar).Terminate, true},
		"the pod is gone":              {(*Registrar).OnDelete, true},
		"a successor has the name":     {func(r *Registrar) { p := testPod(); p.UID = "other"; r.OnUpdate(p) }, true},
		"evicted: the phase is Failed": {func(r *Registrar) { p := ready(testPod(), true); p.Status.Phase = corev1.PodFailed; r.OnUpdate(p) }, true},
		"/drain alone, API unknown":    {func(*Registrar) {}, false},
		"/drain, a thousand times": {func(r *Registrar) {
			for range 1000 {
				go r.Drain(context.Background(), time.Second)
			}
		}, false},
		"/drain and a container unready": {func(r *Registrar) { r.OnUpdate(ready(testPod(), false)) }, false},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := started(t, w, testPod())
			began := time.Now()
			c.sign(r)
			drained := r.Drain(t.Context(), time.Second)
			took := time.Since(began)
			if drained != c.drains {
				t.Fatalf("Drain = %v, want %v", drained, c.drains)
			}
			switch there := w.registered(); {
			case c.drains == there:
				t.Errorf("the hook was answered with the instance at the agent: %v, want %v", there, !c.drains)
			case !c.drains && took > 1100*time.Millisecond:
				t.Errorf("a container that restarts alone was held for %s", took)
			}
		})
	}
}

func TestDrainOrder(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.syncDelay = 200 * time.Millisecond
		r, ended := started(t, w, testPod())
		began := time.Now()
		deletes(r)
		answered := make(chan time.Duration, 1)
		go func() {
			if !r.Drain(context.Background(), time.Second) {
				t.Error("the hook was not held")
			}
			answered <- time.Since(began)
		}()
		after(201 * time.Millisecond)
		w.expectHealth(t, "after the catalog's sync", "")
		if took := <-answered; took < 5200*time.Millisecond || took > 5300*time.Millisecond {
			t.Errorf("the hook was answered after %s, want the catalog's 200ms and drain-delay's 5s", took)
		}
		r.Terminate()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}

func TestDrainIsBounded(t *testing.T) {
	grace := func(seconds int64, annotations ...string) *corev1.Pod {
		pod := testPod(annotations...)
		pod.Spec.TerminationGracePeriodSeconds = &seconds
		return pod
	}
	hang := func(string) error { return context.DeadlineExceeded }
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		fail func(string) error
		want time.Duration
	}{
		"refused: no wait":                       {grace(30), func(string) error { return ErrRefused }, 0},
		"hanging: drain-timeout and drain-delay": {grace(60), hang, 15 * time.Second},
		"hanging, short grace: two thirds of it": {grace(9), hang, 6 * time.Second},
		"hanging, own drain-timeout":             {grace(60, "drain-timeout", "2s", "drain-delay", "0s"), hang, 2 * time.Second},
		"a delay beyond the grace period":        {grace(30, "drain-delay", "10m"), nil, 20 * time.Second},
		"grace 0":                                {grace(0), hang, 0},
		"the agent answers 500":                  {grace(30, "drain-delay", "0s"), func(string) error { return errors.New("500") }, 10 * time.Second},
		"the catalog hangs":                      {grace(30, "drain-delay", "0s"), failing(context.DeadlineExceeded, "catalog"), 10 * time.Second},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := started(t, w, c.pod)
			w.setFail(c.fail)
			began := time.Now()
			r.OnUpdate(deleted(ready(c.pod, true)))
			if !r.Drain(t.Context(), time.Second) {
				t.Fatal("the hook was not held to the end of the drain")
			}
			if took := time.Since(began); took < c.want || took > c.want+100*time.Millisecond {
				t.Errorf("drained after %s, want %s", took, c.want)
			}
		})
	}
}

func TestDrainDeregistersInstancesOfAnEarlierAgentlet(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.adopt(w.defined(testPod()))
		r, _ := w.start(t)
		r.PreStop() // before the pod or the agent was seen
		if !r.Drain(t.Context(), time.Second) {
			t.Fatal("the hook was not held")
		}
		w.expectHealth(t, "drained", "")
	})
}

func TestDrainWaitsForARegistrationInFlight(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.slow = map[string]time.Duration{"register": 300 * time.Millisecond}
		r, _ := w.start(t, ready(testPod(), true))
		after(100 * time.Millisecond)
		deletes(r)
		r.Drain(t.Context(), time.Second)
		after(time.Minute)
		if w.registered() {
			t.Error("a registration overtook the deregistration and stayed")
		}
	})
}

func TestJobCompletesWithoutDelay(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		pod := ready(testPod(), false)
		pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
		r.OnUpdate(pod)
		began := time.Now()
		r.PreStop()
		r.Drain(t.Context(), time.Second)
		if took := time.Since(began); took > time.Second {
			t.Errorf("a finished application was waited for: %s", took)
		}
	})
}

func TestProxyIsDeregisteredBeforeItsService(t *testing.T) {
	for name, c := range map[string]struct {
		fail  error         // of the first deregistration of the proxy
		slow  time.Duration // that a deregistration takes
		first []string      // what is deregistered after one and a half of it
		want  []string
	}{
		"one after the other":          {nil, time.Second, []string{"-" + proxyID}, []string{"-" + proxyID, "-" + webID}},
		"not held up by a failure":     {errors.New("500"), 100 * time.Millisecond, nil, []string{"-" + webID, "-" + proxyID}},
		"held up for a second at most": {nil, 4 * time.Second, []string{"-" + proxyID, "-" + webID}, []string{"-" + proxyID, "-" + webID}},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := w.start(t, ready(meshPod("9191"), true))
			after(5 * time.Second)
			w.slow = map[string]time.Duration{"deregister": c.slow}
			var failed atomic.Bool
			w.setFail(func(call string) error {
				if call != "deregister" || failed.Swap(true) {
					return nil
				}
				return c.fail
			})
			r.OnUpdate(deleted(ready(meshPod("9191"), true)))
			after(c.slow * 3 / 2)
			if got := w.since(2); !slices.Equal(got, c.first) {
				t.Errorf("first %q, want %q", got, c.first)
			}
			after(20 * time.Second)
			if got := w.since(2); !slices.Equal(got, c.want) {
				t.Errorf("in the end %q, want %q", got, c.want)
			}
			if w.inCatalog(webID) != "" || w.inCatalog(proxyID) != "" {
				t.Error("still in the catalog")
			}
		})
	}
}

// TestUnreadCatalogKeepsNothing: a catalog that can't be read doesn't show that the agent lacks node:write.
func TestUnreadCatalogKeepsNothing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		w.setFail(failing(context.DeadlineExceeded, "catalog"))
		deletes(r)
		after(notRemovedGrace + readHang + time.Second)
		if got := w.last(); got.Message != "the pod terminates" {
			t.Errorf("the gate says %q", got.Message)
		}
	})
}

func TestDrainDeregistersWhenTheAgentReturns(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		w.fails(ErrRefused)
		deletes(r)
		r.Drain(t.Context(), time.Second)
		after(time.Second)
		w.setFail(nil)
		after(10 * time.Second)
		if w.registered() {
			t.Error("the instance stayed, though the agent came back before the application's end")
		}
	})
}

// TestAbortedTermination: the kubelet's hook announces an end that never comes.
func TestAbortedTermination(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, ended := started(t, w, testPod()) // its grace period is the default of 30s
		r.PreStop()
		after(59 * time.Second)
		if closed(r.done) {
			t.Fatal("ended within the grace period and half a minute")
		}
		after(2 * time.Second)
		if err := <-ended; !errors.Is(err, ErrTerminationAborted) || r.PodEnded() {
			t.Errorf("Run = %v, the pod has ended: %v", err, r.PodEnded())
		}
		w.start(t, gated(ready(testPod(), true), gateClosed, contract.Draining))
		after(time.Second)
		w.expectHealth(t, "started again", contract.Passing)
		w.expectGate(t, "started again", gateOpen, contract.Registered)
	})
}

func TestDeletionIsNotAborted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		r.PreStop()
		deletes(r)
		after(10 * time.Minute)
		if closed(r.done) {
			t.Error("ended before SIGTERM, though the pod is deleted")
		}
	})
}

func TestDrainBudget(t *testing.T) {
	seconds := func(n int64) *int64 { return &n }
	for name, c := range map[string]struct {
		spec, live            *int64
		settings              registration.Settings
		timeout, delay, limit time.Duration
	}{
		"the default grace period":    {nil, nil, registration.Settings{DrainDelay: 5 * time.Second}, 10 * time.Second, 5 * time.Second, 20 * time.Second},
		"a third of a short period":   {seconds(9), nil, registration.Settings{}, 3 * time.Second, 0, 6 * time.Second},
		"the deletion's grace period": {seconds(60), seconds(6), registration.Settings{}, 2 * time.Second, 0, 4 * time.Second},
		"an annotation, within limit": {seconds(30), nil, registration.Settings{DrainTimeout: time.Minute}, 20 * time.Second, 0, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			s := newState(testIdentity)
			s.pod = testPod()
			s.pod.Spec.TerminationGracePeriodSeconds, s.pod.DeletionGracePeriodSeconds = c.spec, c.live
			s.reg = &registration.Registration{Settings: c.settings}
			timeout, delay, limit := s.drainBudget()
			if timeout != c.timeout || delay != c.delay || limit != c.limit {
				t.Errorf("%s, %s, at most %s, want %s, %s, %s", timeout, delay, limit, c.timeout, c.delay, c.limit)
			}
		})
	}
}

func TestDrainEndsWithItsCaller(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		if r.Drain(ctx, time.Hour) || time.Since(began) > 0 {
			t.Error("held for a caller that has gone")
		}
	})
}

// TestEarlyDrainHookIsHeld: the kubelet runs all hooks at once, so the sign of the end may come after the drain hook.
func TestEarlyDrainHookIsHeld(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		began := time.Now()
		time.AfterFunc(time.Second/2, r.PreStop)
		if held := r.Drain(t.Context(), time.Second); !held || time.Since(began) < 5*time.Second {
			t.Errorf("held %v, for %s, want the drain's end with its delay of 5s", held, time.Since(began))
		}
	})
}

// TestDrainOfAPodThatNeverServedHasNoDelay: no client holds an old answer with it.
func TestDrainOfAPodThatNeverServedHasNoDelay(t *testing.T) {
	for name, c := range map[string]struct {
		ready bool
		least time.Duration
	}{"never ready": {false, 0}, "once ready": {true, 5 * time.Second}} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, ended := w.start(t, ready(testPod(), c.ready))
			after(time.Second)
			r.OnUpdate(ready(testPod(), false))
			after(time.Second)
			began := time.Now()
			r.Terminate()
			if err := <-ended; err != nil || time.Since(began) < c.least || time.Since(began) > c.least+time.Second {
				t.Errorf("Run = %v after %s, want after %s", err, time.Since(began), c.least)
			}
			if seen := w.inCatalog(webID); seen != "" {
				t.Errorf("the catalog still says %q", seen)
			}
		})
	}
}

// TestContainerTriesOnAfterAFailedDrain: a native sidecar gets SIGTERM when the application has ended, and tries until then. One of
// the pod's containers gets it at once, and tries as long as the application runs, for lastTries at the most.
func TestContainerTriesOnAfterAFailedDrain(t *testing.T) {
	container := func(pod *corev1.Pod) *corev1.Pod {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: contract.ContainerName})
		return pod
	}
	for name, c := range map[string]struct {
		pod          *corev1.Pod
		back, exits  time.Duration // of the agent, and of the application; 0: never
		took         time.Duration
		deregistered bool
	}{
		"a container, the agent is back":      {container(ready(testPod(), true)), 5 * time.Second, 0, 5 * time.Second, true},
		"a container, the agent stays away":   {container(ready(testPod(), true)), 0, 0, lastTries, false},
		"a container, the application exits":  {container(ready(testPod(), true)), 0, 3 * time.Second, 3 * time.Second, false},
		"a sidecar, which gets SIGTERM later": {ready(testPod(), true), 0, 0, 0, false},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, ended := w.start(t, c.pod)
			after(time.Second)
			w.fails(ErrRefused)
			began := time.Now()
			r.Terminate()
			if c.back > 0 {
				time.AfterFunc(c.back, func() { w.setFail(nil) })
			}
			if c.exits > 0 {
				time.AfterFunc(c.exits, func() {
					pod := c.pod.DeepCopy()
					pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
					r.OnUpdate(pod)
				})
			}
			err := <-ended
			if took := time.Since(began); err != nil || took < c.took || took > c.took+5*time.Second {
				t.Errorf("Run = %v after %s, want after %s", err, took, c.took)
			}
			after(time.Second)
			if there := w.inCatalog(webID) != ""; there == c.deregistered {
				t.Errorf("in the catalog: %t, want %t", there, !c.deregistered)
			}
		})
	}
}

// TestDrainOfAFollowerIsNotHeldUp: however long the catalog that a pod follows has brought nothing new, its own removal is read at once.
func TestDrainOfAFollowerIsNotHeldUp(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		pod := ready(testPod("gate-policy", "continuous", "drain-delay", "0s"), true)
		r, ended := w.start(t, pod)
		for range 600 { // changes of other pods
			w.set(func() {})
			after(100 * time.Millisecond)
		}
		began := time.Now()
		r.Terminate()
		if err := <-ended; err != nil || time.Since(began) > w.syncDelay+2*readBackoffFirst {
			t.Errorf("Run = %v after %s", err, time.Since(began))
		}
	})
}

// TestDrainDelayPassesWhereTheAgentWasNotListed: an earlier agentlet of the pod may have left an instance that passes.
func TestDrainDelayPassesWhereTheAgentWasNotListed(t *testing.T) {
	now := time.Now()
	s := newState(testIdentity)
	s.observePod(ready(testPod(), false), nil, now)
	s.signal(signals{preStop: true}, now)
	timeout, delay, _ := s.drainBudget()
	if end, _ := s.drainEnd(); delay == 0 || end.Sub(now) != timeout+delay {
		t.Errorf("the drain ends after %s, want drain-timeout (%s) and drain-delay (%s)", end.Sub(now), timeout, delay)
	}
}
