package agentlet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestEvents is the table of what a pod's life tells.
func TestEvents(t *testing.T) {
	badTTL := ready(testPod("heartbeat-ttl", "soon"), true)
	cases := map[string]struct {
		pod  *corev1.Pod
		life func(t *testing.T, w *world, r *Registrar)
		told string
	}{
		"nothing happens": {testPod(), func(*testing.T, *world, *Registrar) { after(time.Hour) }, "Registered"},
		"readiness comes and goes": {testPod(), func(_ *testing.T, _ *world, r *Registrar) {
			for _, yes := range []bool{false, true, false, true} {
				r.OnUpdate(ready(testPod(), yes))
				after(time.Minute)
			}
		}, "Registered"},
		"a bad annotation, corrected": {testPod(), func(_ *testing.T, _ *world, r *Registrar) {
			after(10 * time.Minute)
			r.OnUpdate(badTTL)
			after(10 * time.Minute)
			r.OnUpdate(ready(testPod(), true))
			after(time.Second)
		}, "Registered InvalidConfiguration! Registered"},
		"the agent restarts": {testPod(), func(_ *testing.T, w *world, _ *Registrar) {
			after(10 * time.Minute)
			w.fails(ErrRefused)
			w.set(func() {}) // ends the watch, so that it is noticed at once
			after(8 * time.Second)
			w.setFail(nil)
			after(time.Hour)
		}, "Registered"},
		"the agent is away": {testPod(), func(_ *testing.T, w *world, _ *Registrar) {
			after(10 * time.Minute)
			w.fails(ErrRefused)
			after(time.Hour)
			w.setFail(nil)
			after(time.Minute)
		}, "Registered ConsulUnreachable! Registered"},
		"no leader": {testPod(), func(_ *testing.T, w *world, _ *Registrar) {
			after(10 * time.Minute)
			w.setFail(failing(ErrUnreachable, "heartbeat"))
			w.set(func() { w.leader = false })
			after(time.Minute)
		}, "Registered ConsulUnreachable!"},
		"the agent comes and goes for an hour": {testPod(), func(t *testing.T, w *world, _ *Registrar) {
			for range 60 {
				w.fails(ErrRefused)
				after(30 * time.Second)
				w.setFail(nil)
				after(30 * time.Second)
			}
			if n := w.count("event"); n < 4 || n > 26 {
				t.Errorf("%d events in an hour, want each of the two reasons once in five minutes at the most", n)
			}
			w.mu.Lock()
			w.events = nil
			w.mu.Unlock()
		}, ""},
		"lost, under the policy continuous": {testPod("gate-policy", "continuous"), func(_ *testing.T, w *world, _ *Registrar) {
			after(10 * time.Minute)
			w.mu.Lock()
			w.catalog = map[string]CatalogInstance{}
			w.touch()
			w.mu.Unlock()
			after(time.Minute)
			w.set(func() {}) // the agent's full sync
			after(time.Minute)
		}, "Registered CatalogLost! Registered"},
		"drained": {testPod(), func(_ *testing.T, _ *world, r *Registrar) {
			deletes(r)
			after(time.Second)
		}, "Registered Drained"},
		"the drain times out": {testPod(), func(_ *testing.T, w *world, r *Registrar) {
			w.fails(context.DeadlineExceeded)
			deletes(r)
			after(time.Minute)
		}, "Registered DrainTimedOut!"},
		"the agent is away at the end": {testPod(), func(_ *testing.T, w *world, r *Registrar) {
			w.fails(ErrRefused)
			deletes(r)
			after(time.Second)
		}, "Registered ConsulUnreachable!"},
		"the pod is gone": {testPod(), func(_ *testing.T, _ *world, r *Registrar) {
			r.OnDelete()
			after(time.Minute)
		}, "Registered"},
		"no gate": {func() *corev1.Pod {
			pod := testPod("gate", "off")
			pod.Spec.ReadinessGates = nil
			return pod
		}(), nil, "Registered"},
	}
	for name, c := range cases {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := w.start(t, ready(c.pod, true))
			after(time.Second)
			if c.life != nil {
				c.life(t, w, r)
			}
			w.expectEvents(t, c.told)
		})
	}
}

func TestEventsBeforeTheGate(t *testing.T) {
	cases := map[string]struct {
		fail func(w *world)
		pod  *corev1.Pod
		told string
	}{
		"rejected":        {func(w *world) { w.setFail(failing(ErrRejected, "register")) }, testPod(), "RegistrationRejected!"},
		"unreachable":     {func(w *world) { w.fails(ErrRefused) }, testPod(), "ConsulUnreachable!"},
		"opened anyway":   {func(w *world) { w.fails(ErrRefused) }, testPod("gate-timeout", "1m"), "ConsulUnreachable! TimedOut!"},
		"only not ready":  {func(*world) {}, testPod(), ""},
		"a lagging world": {func(w *world) { w.sync = false }, testPod(), ""},
	}
	for name, c := range cases {
		runInWorld(t, name, func(t *testing.T, w *world) {
			c.fail(w)
			w.start(t, ready(c.pod, name != "only not ready"))
			after(14 * time.Second)
			w.expectEvents(t, "")
			after(time.Hour)
			w.expectEvents(t, c.told)
		})
	}
}

// A restarted agentlet finds the gate open, or says again what is wrong only when that has changed.
func TestNoEventAgainAfterARestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		started(t, w, testPod())
		w.mu.Lock()
		w.events = nil
		w.mu.Unlock()
		again, _ := w.start(t)
		again.OnUpdate(opened())
		after(time.Hour)
		if got := w.eventReasons(); got != "" {
			t.Errorf("told %q", got)
		}
	})
}

// The condition is all that a restarted agentlet knows of the past: what it does not say, because an open gate stays open, is told
// again.
func TestAnOutageIsToldAgainAfterARestart(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.fails(ErrRefused)
		for range 2 {
			w.start(t, opened())
			after(time.Hour)
		}
		if got := w.eventReasons(); got != "ConsulUnreachable! ConsulUnreachable!" {
			t.Errorf("told %q", got)
		}
	})
}

func TestNoEventAgainAfterARestartWithoutAGate(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		pod := ready(testPod("gate", "off"), true)
		pod.Spec.ReadinessGates = nil
		for range 2 {
			w.start(t, pod)
			after(time.Minute)
		}
		if got := w.eventReasons(); got != "Registered" {
			t.Errorf("told %q", got)
		}
	})
}

// An API server that doesn't take events holds nothing up, and is not asked again for the same one.
func TestFailingEventsBlockNothing(t *testing.T) {
	for name, err := range map[string]error{"refused": errors.New("forbidden"), "hanging": context.DeadlineExceeded} {
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

// Where SIGTERM is there before the drain is over, its event still gets its moment, and no more.
func TestEndWaitsForTheDrainsEvent(t *testing.T) {
	for name, c := range map[string]struct {
		takes, ends time.Duration
		told        string
	}{
		"a quick API server": {100 * time.Millisecond, 100 * time.Millisecond, "Registered Drained"},
		"a slow one":         {3 * time.Second, time.Second, "Registered"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, ended := started(t, w, testPod("drain-delay", "0s"))
			w.mu.Lock()
			w.slow = map[string]time.Duration{"event": c.takes}
			w.mu.Unlock()
			began := time.Now()
			r.Terminate()
			<-r.drained
			if took := time.Since(began); took > 50*time.Millisecond {
				t.Errorf("the drain took %s", took)
			}
			time.Sleep(c.ends + 50*time.Millisecond)
			synctest.Wait()
			if !closed(r.done) {
				t.Errorf("Run goes on")
			}
			w.expectEvents(t, c.told)
			<-ended
		})
	}
}

func TestEventMessagesAreBounded(t *testing.T) {
	for _, warns := range []bool{true, false} {
		var told eventState
		told.setDesired(eventSpec{warning: warns, reason: contract.Registered, message: strings.Repeat("ü", contract.MaxEventMessage)}, time.Now())
		if message := told.desired.message; len(message) > contract.MaxEventMessage || !strings.HasSuffix(message, "ü...") {
			t.Errorf("%d bytes, ending in %q", len(message), message[len(message)-8:])
		}
	}
}

// TestLastingErrorIsReportedOnce has the agent answer registrations or updates with an error that names something else at each try.
func TestLastingErrorIsReportedOnce(t *testing.T) {
	n := 0
	full := func(call string) error {
		n++
		return fmt.Errorf("%s: 500 open /data/services/%08x-7d1e-4a2b.tmp: no space left on device", call, n)
	}
	cases := map[string]struct {
		call  string
		until time.Duration // the gate is open before that
		gate  string        // in its message
	}{
		"registrations":              {"register", 0, "10.0.0.1:8500 answered with an error: register: 500 open /data/services/"},
		"updates of an open gate":    {"readiness", time.Minute, "the catalog shows web"},
		"heartbeats of an open gate": {"heartbeat", time.Minute, "the catalog shows web"},
	}
	for name, c := range cases {
		runInWorld(t, name, func(t *testing.T, w *world) {
			var log bytes.Buffer
			w.log = slog.New(slog.NewTextHandler(&log, nil))
			r, _ := w.start(t)
			fail := func(call string) error {
				if call == c.call {
					return full(call)
				}
				return nil
			}
			if c.until == 0 {
				w.setFail(fail)
			}
			r.OnUpdate(ready(testPod(), true))
			if c.until > 0 {
				after(c.until)
				w.setFail(fail)
				r.OnUpdate(ready(testPod(), false))
			}
			after(10 * time.Second)
			if strings.Contains(w.eventReasons(), "RegistrationFailed") {
				t.Error("told before it had lasted for 15 seconds")
			}
			after(time.Minute)
			if !strings.Contains(w.last().Message, c.gate) {
				t.Errorf("the gate says %q, want %q", w.last().Message, c.gate)
			}
			if !strings.HasSuffix(w.eventReasons(), "RegistrationFailed!") {
				t.Errorf("events: %s", w.eventReasons())
			}
			writes, events, lines := len(w.conditions()), w.eventReasons(), strings.Count(log.String(), "no space left")
			after(time.Hour)
			if more := len(w.conditions()) - writes; more != 0 || w.eventReasons() != events {
				t.Errorf("%d writes and the events %q after %q in an hour of the same", more, w.eventReasons(), events)
			}
			if more := strings.Count(log.String(), "no space left") - lines; more != 0 || lines != 1 {
				t.Errorf("%d log lines, and %d more in an hour of the same", lines, more)
			}
		})
	}
}
