package agentlet

import (
	"errors"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestRejectedChangeKeepsTheInstanceAlive(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		w.setFail(failing(ErrRejected, "register"))
		r.OnUpdate(ready(testPod("service-tags", "rejected"), true))
		heartbeats := w.count("heartbeat")
		after(10 * time.Minute)
		if n := w.count("heartbeat") - heartbeats; n < 50 {
			t.Errorf("%d heartbeats in ten minutes of a rejected change", n)
		}
		r.OnUpdate(ready(testPod("service-tags", "rejected"), false))
		after(time.Second)
		w.expectHealth(t, "an unready pod whose change is rejected", contract.Critical)
	})
}

// TestReregistrationKeepsTheChecksState has the pod become unready together with a changed definition, while updates fail: a
// registration doesn't change the state of a check that the agent has.
func TestReregistrationKeepsTheChecksState(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		w.setFail(failing(errors.New("500"), "readiness"))
		r.OnUpdate(ready(testPod("service-tags", "primary"), false))
		after(100 * time.Millisecond)
		w.setFail(nil)
		after(backoffAgent)
		w.expectHealth(t, "unready", contract.Critical)
	})
}

func TestUnsyncedChangeIsResynced(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		w.set(func() { w.sync = false })
		r.OnUpdate(ready(testPod("service-tags", "primary"), true))
		after(10 * time.Second)
		if w.web().definition.Meta[contract.MetaSyncGeneration] == "" {
			t.Error("a change that the catalog lacks, though it says passing, was never resynced")
		}
	})
}

func TestAdoptedInstanceIsUpdated(t *testing.T) {
	for name, c := range map[string]struct {
		before, now *corev1.Pod
		holds       func(agentEntry) bool
	}{
		"a longer heartbeat": {testPod(), testPod("heartbeat-ttl", "1m"), func(e agentEntry) bool { return e.definition.HeartbeatTTL == time.Minute }},
		"a check is added":   {testPod(), checked(), func(e agentEntry) bool { return len(e.checks) == 3 }},
		"a check is removed": {checked(), testPod(), func(e agentEntry) bool { return len(e.checks) == 2 }},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.adopt(w.defined(c.before))
			r, _ := w.start(t, gated(ready(c.before, true), gateOpen, contract.Registered))
			after(time.Second)
			r.OnUpdate(gated(ready(c.now, true), gateOpen, contract.Registered))
			after(time.Second)
			if e := w.web(); !c.holds(e) {
				t.Errorf("the agent has %+v", e)
			}
		})
	}
}

func TestTagsUnderTagOverrideAreKept(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		pod := func(meta string) *corev1.Pod {
			return structured("{name: web, port: 8080, tags: [a], enable_tag_override: true, meta: {v: '" + meta + "'}}")
		}
		r, _ := started(t, w, pod("1"))
		after(time.Second)
		w.editWeb(edited)
		after(time.Second)
		r.OnUpdate(ready(pod("2"), true))
		after(time.Second)
		if e := w.web(); !slices.Equal(e.definition.Tags, []string{"edited"}) || e.definition.Meta["v"] != "2" {
			t.Errorf("tags %q and meta %v, want the edited tags and the new meta", e.definition.Tags, e.definition.Meta)
		}
	})
}

// TestAgentThatRestartsSoonRestoresWhatWasRegistered looks at the catalog before the registrar notices the restart.
func TestAgentThatRestartsSoonRestoresWhatWasRegistered(t *testing.T) {
	for name, register := range map[string]func(t *testing.T, w *world){
		"before the pod was ready": func(t *testing.T, w *world) { started(t, w, testPod()) },
		"of a ready pod":           func(t *testing.T, w *world) { w.start(t, ready(testPod(), true)) },
		"with a fixed health":      func(t *testing.T, w *world) { w.start(t, ready(testPod("service-health", "passing"), true)) },
		"lost by the agent": func(t *testing.T, w *world) {
			started(t, w, testPod())
			after(time.Minute)
			w.set(func() { delete(w.agent, webID) })
		},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			register(t, w)
			after(time.Second)
			w.restartAgent()
			after(2 * w.syncDelay)
			w.expectHealth(t, "in the catalog", contract.Passing)
		})
	}
}

// TestUnreadyRegistrationIsNotUpdatedAtOnce: a critical check is restored as it was, and another output would be a raft write.
func TestUnreadyRegistrationIsNotUpdatedAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, testPod())
		after(10 * time.Second)
		if n := w.count("readiness"); !w.registered() || n != 0 {
			t.Errorf("registered %v, and its readiness check updated %d times, want never", w.registered(), n)
		}
	})
}

// TestLossBehindTheAgentsBack has the catalog lose an instance that the agent has: the agent would notice at its next full sync,
// in minutes. The instance is resynced where somebody waits for the catalog. Elsewhere the catalog is not read.
func TestLossBehindTheAgentsBack(t *testing.T) {
	for name, c := range map[string]struct {
		annotations []string
		closed      bool // the gate, by patches that fail
		resynced    bool
	}{
		"the continuous policy":             {[]string{"gate-policy", "continuous"}, false, true},
		"a gate that has not been open yet": {nil, true, true},
		"a gate that stays open":            {nil, false, false},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			if c.closed {
				w.setFail(failing(errors.New("500"), "gate"))
			}
			w.start(t, ready(testPod(c.annotations...), true))
			after(time.Minute)
			reads := w.count("catalog")
			w.loseWeb()
			after(resyncAfter + time.Second)
			if got := w.inCatalog(webID) == contract.Passing; got != c.resynced || got != (w.web().definition.Meta[contract.MetaSyncGeneration] == "1") {
				t.Errorf("back in the catalog: %v, want %v; meta %v", got, c.resynced, w.web().definition.Meta)
			}
			if n := w.count("catalog") - reads; (n > 0) != c.resynced {
				t.Errorf("the catalog was read %d times", n)
			}
			w.setFail(nil)
			after(time.Minute)
			w.expectGate(t, "in the end", gateOpen, contract.Registered)
			if n := w.count("register"); n > 2 {
				t.Errorf("registered %d times", n)
			}
		})
	}
}

func TestLaggingCatalogIsResyncedWithAChangedDefinition(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.sync = false
		w.start(t, ready(testPod(), true))
		after(500 * time.Millisecond)
		first := w.web().definition.Meta[contract.MetaSyncGeneration]
		after(2 * time.Second)
		second := w.web().definition.Meta[contract.MetaSyncGeneration]
		if first != "" || second == "" {
			t.Errorf("sync generation %q, then %q: want none, then one", first, second)
		}
		w.expectGate(t, "with a catalog that lags", gateClosed, contract.AwaitingCatalog)
		after(10 * time.Minute)
		if n := w.count("register"); n > 60 {
			t.Errorf("%d registrations in ten minutes, want a backoff", n)
		}
		w.set(func() { w.sync = true })
		after(time.Second)
		w.expectGate(t, "in the catalog", gateOpen, contract.Registered)
	})
}

func TestFailingServiceCheckCausesNoResync(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.own = contract.Critical
		w.start(t, ready(testPod(), true))
		after(time.Minute)
		if n := w.count("register"); n != 1 {
			t.Errorf("registered %d times while the service's own check failed, want once", n)
		}
		w.expectGate(t, "with a failing check", gateClosed, contract.AwaitingCatalog, "failing checks: web: own")
		w.set(func() { w.own = contract.Passing })
		after(time.Second)
		w.expectGate(t, "with a passing check", gateOpen, contract.Registered)
	})
}
