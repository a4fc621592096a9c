package agentlet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestEvents is about the events of a pod's life.
func TestEvents(t *testing.T) {
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		life func(w *world, r *Registrar)
		want string
	}{
		"a quiet hour": {testPod(), func(*world, *Registrar) { after(time.Hour) }, "Registered"},
		"readiness changes": {testPod(), func(_ *world, r *Registrar) {
			for _, yes := range []bool{false, true, false, true} {
				r.OnUpdate(ready(testPod(), yes))
				after(time.Minute)
			}
		}, "Registered"},
		"an invalid annotation is corrected": {testPod(), func(_ *world, r *Registrar) {
			after(10 * time.Minute)
			r.OnUpdate(ready(testPod("heartbeat-ttl", "soon"), true))
			after(10 * time.Minute)
			r.OnUpdate(ready(testPod(), true))
			after(time.Second)
		}, "Registered InvalidConfiguration! Registered"},
		"the agent restarts": {testPod(), func(w *world, _ *Registrar) {
			after(10 * time.Minute)
			w.fails(ErrRefused)
			w.set(func() {}) // ends the watch, so that it is noticed at once
			after(8 * time.Second)
			w.setFail(nil)
			after(time.Hour)
		}, "Registered"},
		"the agent is unreachable": {testPod(), func(w *world, _ *Registrar) {
			after(10 * time.Minute)
			w.fails(ErrRefused)
			after(time.Hour)
			w.setFail(nil)
			after(time.Minute)
		}, "Registered ConsulUnreachable! Registered"},
		"no leader": {testPod(), func(w *world, _ *Registrar) {
			after(10 * time.Minute)
			w.setFail(failing(ErrUnreachable, "heartbeat"))
			w.set(func() { w.leader = false })
			after(time.Minute)
		}, "Registered ConsulUnreachable!"},
		"lost, under the policy continuous": {testPod("gate-policy", "continuous"), func(w *world, _ *Registrar) {
			after(10 * time.Minute)
			w.loseWeb()
			after(time.Minute)
			w.set(func() {}) // the agent's full sync
			after(time.Minute)
		}, "Registered CatalogLost! Registered"},
		"drained": {testPod(), func(_ *world, r *Registrar) {
			deletes(r)
			after(time.Second)
		}, "Registered Drained"},
		"the drain times out": {testPod(), func(w *world, r *Registrar) {
			w.fails(context.DeadlineExceeded)
			deletes(r)
			after(time.Minute)
		}, "Registered DrainTimedOut!"},
		"the agent refuses in the drain": {testPod(), func(w *world, r *Registrar) {
			w.fails(ErrRefused)
			deletes(r)
			after(time.Second)
		}, "Registered ConsulUnreachable!"},
		"the pod is gone": {testPod(), func(_ *world, r *Registrar) {
			r.OnDelete()
			after(time.Minute)
		}, "Registered"},
		"no gate": {ungated(), func(*world, *Registrar) {}, "Registered"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := w.start(t, ready(c.pod, true))
			after(time.Second)
			c.life(w, r)
			w.expectEvents(t, c.want)
		})
	}
}

func TestEventsAreLimited(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, ready(testPod(), true))
		for range 60 {
			w.fails(ErrRefused)
			after(30 * time.Second)
			w.setFail(nil)
			after(30 * time.Second)
		}
		if n := w.count("event"); n < 4 || n > 26 {
			t.Errorf("%d events in an hour, want each of the two reasons once in five minutes at the most", n)
		}
	})
}

func TestEventsBeforeTheGate(t *testing.T) {
	pod := ready(testPod(), true)
	for name, c := range map[string]struct {
		fail func(w *world)
		pod  *corev1.Pod
		want string
	}{
		"a rejection":                    {func(w *world) { w.setFail(failing(ErrRejected, "register")) }, pod, "RegistrationRejected!"},
		"unreachable":                    {func(w *world) { w.fails(ErrRefused) }, pod, "ConsulUnreachable!"},
		"opened by a timeout":            {func(w *world) { w.fails(ErrRefused) }, ready(testPod("gate-timeout", "1m"), true), "ConsulUnreachable! TimedOut!"},
		"unready containers":             {func(*world) {}, testPod(), "ContainersNotReady"},
		"no address":                     {func(*world) {}, withoutIP(testPod()), "Starting"},
		"a lagging catalog":              {func(w *world) { w.sync = false }, pod, "AwaitingCatalog!"},
		"an unreadable catalog":          {func(w *world) { w.setFail(failing(errors.New("500 internal"), "catalog")) }, pod, "AwaitingCatalog!"},
		"an agent that hangs":            {func(w *world) { w.fails(context.DeadlineExceeded) }, pod, "ConsulUnreachable!"},
		"no gate, and a lagging catalog": {func(w *world) { w.sync = false }, ready(ungated(), true), ""},
		"a gate that was asked for late": {func(w *world) { w.sync = false }, ready(withoutGates(testPod()), true), ""},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			c.fail(w)
			w.start(t, c.pod)
			after(14 * time.Second)
			w.expectEvents(t, "")
			after(time.Hour)
			w.expectEvents(t, c.want)
		})
	}
}

// TestASlowApplicationHasOneEvent: which of its containers are not ready changes, and the agentlet starts anew meanwhile.
func TestASlowApplicationHasOneEvent(t *testing.T) {
	starting := func(notReady ...string) *corev1.Pod {
		pod := testPod()
		for _, name := range []string{"cache", "proxy"} {
			pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: name})
			pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
				Name: name, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
			})
		}
		for i, status := range pod.Status.ContainerStatuses {
			pod.Status.ContainerStatuses[i].Ready = !slices.Contains(notReady, status.Name)
		}
		return pod
	}
	all := []string{"app", "cache", "proxy"}
	for name, c := range map[string]struct {
		life func(t *testing.T, w *world, r *Registrar)
		want string
	}{
		"it becomes ready within 15 seconds": {func(_ *testing.T, _ *world, r *Registrar) {
			after(14 * time.Second)
			r.OnUpdate(starting())
			after(time.Hour)
		}, "Registered"},
		"one container after the other, over an hour": {func(_ *testing.T, _ *world, r *Registrar) {
			for n := range all {
				r.OnUpdate(starting(all[n:]...))
				after(20 * time.Minute)
			}
			r.OnUpdate(starting())
			after(time.Minute)
		}, "ContainersNotReady Registered"},
		"they come and go while the catalog lags": {func(_ *testing.T, w *world, r *Registrar) {
			w.set(func() { w.sync = false })
			for n := range 60 {
				r.OnUpdate(starting(all[n%3:]...))
				after(30 * time.Second)
				r.OnUpdate(starting())
				after(30 * time.Second)
			}
		}, "ContainersNotReady AwaitingCatalog!"},
		"the agentlet starts anew": {func(t *testing.T, w *world, r *Registrar) {
			after(time.Minute)
			pod := starting(all...)
			pod.Status.Conditions = w.conditions()
			w.start(t, pod)
			after(time.Hour)
		}, "ContainersNotReady"},
		"the pod ends": {func(_ *testing.T, _ *world, r *Registrar) {
			after(time.Minute)
			r.OnUpdate(deleted(starting(all...)))
			after(time.Minute)
		}, "ContainersNotReady Drained"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := w.start(t, starting(all...))
			c.life(t, w, r)
			w.expectEvents(t, c.want)
		})
	}
}

// TestEventsAfterARestart: a restarted agentlet knows only the condition. It doesn't report again what the condition
// says. An outage is reported again, because the condition of an open gate doesn't say it.
func TestEventsAfterARestart(t *testing.T) {
	for name, c := range map[string]struct {
		before, after *corev1.Pod
		fail          func(string) error
		want          string
	}{
		"an open gate": {ready(testPod(), true), opened(), nil, "Registered"},
		"no gate":      {ready(ungated(), true), ready(ungated(), true), nil, "Registered"},
		"an outage":    {opened(), opened(), failingConsul(ErrRefused), "ConsulUnreachable! ConsulUnreachable!"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.fail = c.fail
			for _, pod := range []*corev1.Pod{c.before, c.after} {
				w.start(t, pod)
				after(time.Hour)
			}
			w.expectEvents(t, c.want)
		})
	}
}

// TestFailingEventsBlockNothing: an event is tried once, and neither the drain nor the end waits long for it.
func TestFailingEventsBlockNothing(t *testing.T) {
	for name, err := range map[string]error{"forbidden": errors.New("403 forbidden"), "hanging": context.DeadlineExceeded} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.setFail(failing(err, "event"))
			r, ended := started(t, w, testPod())
			after(time.Hour)
			if n := w.count("event"); n != 1 {
				t.Errorf("%d tries for one event", n)
			}
			began := time.Now()
			deletes(r)
			if !r.Drain(t.Context(), time.Second) || time.Since(began) > 5100*time.Millisecond {
				t.Errorf("the hook was answered after %s", time.Since(began))
			}
			r.Terminate()
			<-ended
			if took := time.Since(began); took > 6100*time.Millisecond {
				t.Errorf("the process ended after %s", took)
			}
		})
	}
}

// TestEndWaitsForTheDrainsEvent: when SIGTERM comes before the drain is over, its event still gets a second.
func TestEndWaitsForTheDrainsEvent(t *testing.T) {
	for name, c := range map[string]struct {
		takes, ends time.Duration
		want        string
	}{
		"a quick API server": {100 * time.Millisecond, 100 * time.Millisecond, "Registered Drained"},
		"a slow API server":  {3 * time.Second, time.Second, "Registered"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := started(t, w, testPod("drain-delay", "0s"))
			w.set(func() { w.slow = map[string]time.Duration{"event": c.takes} })
			began := time.Now()
			r.Terminate()
			<-r.drained
			if took := time.Since(began); took > 50*time.Millisecond {
				t.Errorf("the drain took %s", took)
			}
			after(c.ends + 50*time.Millisecond)
			if !closed(r.done) {
				t.Error("Run has not returned")
			}
			w.expectEvents(t, c.want)
		})
	}
}

func TestEventMessagesAreBounded(t *testing.T) {
	var events eventState
	events.setDesired(eventSpec{reason: contract.Registered, message: strings.Repeat("ü", contract.MaxEventMessage)}, time.Now())
	if message := events.desired.message; len(message) > contract.MaxEventMessage || !strings.HasSuffix(message, "ü...") {
		t.Errorf("%d bytes, ending in %q", len(message), message[len(message)-8:])
	}
}

// TestLastingErrorIsReportedOnce has the agent answer registrations or updates with an error whose text differs from try to try.
func TestLastingErrorIsReportedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		call string
		open bool   // the gate, before the failure
		gate string // in its message
	}{
		"registrations":              {"register", false, "10.0.0.1:8500 answered with an error: register: 500 open /data/services/"},
		"updates of an open gate":    {"readiness", true, "the catalog shows web"},
		"heartbeats of an open gate": {"heartbeat", true, "the catalog shows web"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			var log bytes.Buffer
			w.log = slog.New(slog.NewTextHandler(&log, nil))
			r, _ := w.start(t)
			if c.open {
				r.OnUpdate(ready(testPod(), true))
				after(time.Minute)
			}
			n := 0
			w.setFail(func(call string) error {
				if call != c.call {
					return nil
				}
				n++
				return fmt.Errorf("%s: 500 open /data/services/%08x-7d1e-4a2b.tmp: no space left on device", call, n)
			})
			r.OnUpdate(ready(testPod(), !c.open))
			after(10 * time.Second)
			if strings.Contains(w.eventReasons(), "RegistrationFailed") {
				t.Error("an event before the failure has lasted for 15 seconds")
			}
			after(time.Minute)
			if !strings.Contains(w.last().Message, c.gate) {
				t.Errorf("the gate says %q, want %q", w.last().Message, c.gate)
			}
			if !strings.HasSuffix(w.eventReasons(), "RegistrationFailed!") {
				t.Errorf("the events are %q, want RegistrationFailed at the end", w.eventReasons())
			}
			writes, events := len(w.conditions()), w.eventReasons()
			after(time.Hour)
			w.expectEvents(t, events)
			if n := len(w.conditions()) - writes; n != 0 {
				t.Errorf("the gate was written %d times in an hour of the same failure", n)
			}
			if n := strings.Count(log.String(), "no space left"); n != 1 {
				t.Errorf("logged %d times, want once", n)
			}
		})
	}
}

// TestEventWaitsForTheGate: a rollout waits for the gate, and nobody for an event.
func TestEventWaitsForTheGate(t *testing.T) {
	s, now := newState(testIdentity), time.Now()
	s.conn = connection()
	s.observePod(ready(testPod(), true), nil, now)
	s.gate.want = gateStatus{open: true, reason: contract.Registered}
	s.events.setDesired(eventSpec{reason: contract.Registered, message: "it is there"}, now)
	if p := plan(s, now); !p.has(patchStatus{}.key()) || p.has(createEvent{}.key()) {
		t.Errorf("planned %v, want the gate without the event", p.work)
	}
	s.retries[patchStatus{}.key()] = retry{failures: 1, at: now.Add(time.Minute), err: ErrLate}
	if p := plan(s, now); !p.has(createEvent{}.key()) {
		t.Errorf("planned %v, want the event while the gate can't be written", p.work)
	}
}
