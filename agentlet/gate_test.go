package agentlet

import (
	"errors"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestGateOpensWhenTheCatalogShowsIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.syncDelay = 300 * time.Millisecond
		r, _ := w.start(t, testPod())
		after(0)
		if n := w.count("register"); n != 0 {
			t.Errorf("registered %d times before the containers were ready", n)
		}
		r.OnUpdate(ready(testPod(), true))
		after(299 * time.Millisecond)
		if len(w.conditions()) != 0 {
			t.Errorf("written before the catalog had it: %+v", w.conditions())
		}
		after(2 * time.Millisecond)
		w.expectGate(t, "in the catalog", gateOpen, contract.Registered)
		if n := len(w.conditions()); n != 1 {
			t.Errorf("%d writes for a pod that starts in a moment, want 1: %+v", n, w.conditions())
		}
	})
}

func TestGateModes(t *testing.T) {
	for name, c := range map[string]struct {
		annotations []string
		sync        bool
		status      corev1.ConditionStatus
		reason      contract.Reason
	}{
		"off opens a gate that is there":     {[]string{"gate", "off"}, true, gateOpen, contract.Registered},
		"fixed health opens with it":         {[]string{"service-health", "warning"}, true, gateOpen, contract.Registered},
		"gate-timeout opens anyway":          {[]string{"gate-timeout", "10s"}, false, gateOpen, contract.TimedOut},
		"without gate-timeout it never does": {nil, false, gateClosed, contract.AwaitingCatalog},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.sync = c.sync
			w.start(t, ready(testPod(c.annotations...), true))
			after(20 * time.Second)
			w.expectGate(t, "after 20s", c.status, c.reason)
		})
	}
}

func TestRegisteredModeOpensBeforeReadiness(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := w.start(t, testPod("gate", "registered"))
		after(100 * time.Millisecond)
		if w.last().Status != gateOpen || w.inCatalog(webID) != contract.Critical {
			t.Errorf("gate %v, catalog %q, want open and critical", w.last().Status, w.inCatalog(webID))
		}
		r.OnUpdate(ready(testPod("gate", "registered"), true))
		after(100 * time.Millisecond)
		w.expectHealth(t, "ready", contract.Passing)
	})
}

func TestRebootClosesTheGateUntilTheNewAddressIsThere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		old := w.defined(testPod())
		old.Address = "10.1.0.4"
		w.adopt(old)
		r, _ := w.start(t)
		rebooted := gated(testPod(), gateOpen, contract.Registered)
		rebooted.Status.Conditions[0].Message = "the catalog shows web at 10.1.0.4"
		r.OnUpdate(rebooted)
		after(2 * time.Second)
		w.expectGate(t, "with the old address in Consul", gateClosed, contract.ContainersNotReady)
		r.OnUpdate(gated(ready(testPod(), true), gateClosed, contract.ContainersNotReady))
		after(time.Second)
		if got := w.web().definition.Address; got != "10.1.0.5" {
			t.Errorf("the agent has address %s", got)
		}
		w.expectGate(t, "with the new address in Consul", gateOpen, contract.Registered)
	})
}

func TestRebootDoesNotOpenOnTheOldAddress(t *testing.T) {
	for _, mode := range []string{"passing", "registered"} {
		runInWorld(t, mode, func(t *testing.T, w *world) {
			old := w.defined(testPod("gate", mode))
			old.Address = "10.1.0.4"
			w.adopt(old)
			w.sync = false
			rebooted := gated(ready(testPod("gate", mode), true), gateOpen, contract.Registered)
			rebooted.Status.Conditions[0].Message = "the catalog shows web at 10.1.0.4"
			w.start(t, rebooted)
			after(time.Minute)
			w.expectGate(t, "with the old address in the catalog", gateClosed, contract.AwaitingCatalog)
		})
	}
}

func TestReasonOfAClosedGate(t *testing.T) {
	cases := map[string]struct {
		pod    *corev1.Pod
		fail   func(string) error
		change func(*world)
		reason contract.Reason
		says   string
	}{
		"containers":  {testPod(), nil, nil, contract.ContainersNotReady, "app"},
		"unreachable": {ready(testPod(), true), failingConsul(ErrRefused), nil, contract.ConsulUnreachable, "10.0.0.1:8500"},
		"no leader":   {ready(testPod(), true), nil, func(w *world) { w.leader = false }, contract.ConsulUnreachable, "no cluster leader"},
		"rejected": {
			ready(testPod(), true), failing(errors.Join(ErrRejected, errors.New("lacks service:write")), "register"), nil,
			contract.RegistrationRejected, "service:write",
		},
		"invalid":    {ready(testPod("heartbeat-ttl", "soon"), true), nil, nil, contract.InvalidConfiguration, "soon"},
		"node check": {ready(testPod(), true), nil, func(w *world) { w.nodeDown = []string{"Serf Health Status"} }, contract.AwaitingCatalog, "Serf Health Status"},
	}
	for name, c := range cases {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.fail = c.fail
			if c.change != nil {
				c.change(w)
			}
			w.start(t, c.pod)
			after(10 * time.Second)
			got := w.last()
			if got.Status != gateClosed || got.Reason != string(c.reason) || !strings.Contains(got.Message, c.says) {
				t.Errorf("the gate says %v %s %q, want closed with %s and %q", got.Status, got.Reason, got.Message, c.reason, c.says)
			}
			writes := len(w.conditions())
			after(5 * time.Minute)
			if len(w.conditions()) != writes {
				t.Errorf("the same reason was written %d times more", len(w.conditions())-writes)
			}
		})
	}
}

// TestAnswerAboutTheLeaderIsTold tells an agent that has none from one that can't say.
func TestAnswerAboutTheLeaderIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(string) error
		says string
	}{
		"none":     {nil, "10.0.0.1:8500 has no cluster leader"},
		"an error": {failing(errors.New("ask for the leader: 429 too many requests"), "leader"), "429 too many requests"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.leader, w.fail = false, c.fail
			w.start(t, ready(testPod(), true))
			after(10 * time.Second)
			if got := w.last(); got.Reason != string(contract.ConsulUnreachable) || !strings.HasSuffix(got.Message, c.says) {
				t.Errorf("the gate says %s %q, want %q at its end", got.Reason, got.Message, c.says)
			}
		})
	}
}

func TestClosedGateBeginsWithStarting(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := w.start(t)
		pod := testPod()
		pod.Status.PodIP = ""
		r.OnUpdate(pod)
		after(conditionDebounce)
		if got := w.last(); got.Status != gateClosed || got.Reason != string(contract.Starting) {
			t.Errorf("the gate of a pod without an IP says %s %s %q", got.Status, got.Reason, got.Message)
		}
	})
}

func TestPortConflictKeepsTheGateClosed(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := w.start(t)
		r.PortConflict(errors.New("address already in use"))
		r.OnUpdate(ready(testPod(), true))
		after(5 * time.Second)
		w.expectGate(t, "with a conflict", gateClosed, contract.PortConflict)
		r.PortConflict(nil)
		after(time.Second)
		w.expectGate(t, "with the port open", gateOpen, contract.Registered)
	})
}

func TestContinuousPolicy(t *testing.T) {
	runInWorld(t, "an added service closes nothing", func(t *testing.T, w *world) {
		w.syncDelay = 50 * time.Millisecond
		r, _ := started(t, w, testPod("gate-policy", "continuous"))
		r.OnUpdate(ready(testPod("gate-policy", "continuous", "service-names", "web,admin"), true))
		after(time.Second)
		for _, c := range w.conditions() {
			if c.Status != gateOpen {
				t.Errorf("the gate closed: %s %s", c.Reason, c.Message)
			}
		}
	})
	for name, annotations := range map[string][]string{
		"a loss closes":                   {"gate-policy", "continuous"},
		"gate-timeout does not hide that": {"gate-policy", "continuous", "gate-timeout", "10s"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			started(t, w, testPod(annotations...))
			after(time.Minute)
			w.mu.Lock()
			w.sync = false
			delete(w.catalog, webID)
			w.touch()
			w.mu.Unlock()
			after(500 * time.Millisecond)
			w.expectGate(t, "lost", gateClosed, contract.CatalogLost)
		})
	}
}

// TestOpenGateReportsFailingChecks has a service's own check fail for a while.
func TestOpenGateReportsFailingChecks(t *testing.T) {
	set := func(w *world, own contract.Health) { w.set(func() { w.own = own }) }
	cases := map[string]struct {
		pod    *corev1.Pod
		life   func(w *world)
		says   string
		writes int
		events string
	}{
		"a moment": {checked(), func(w *world) {
			set(w, contract.Critical)
			after(10 * time.Second)
			set(w, contract.Passing)
			after(time.Hour)
		}, "the catalog shows web at 10.1.0.5", 0, "Registered"},
		"on and on": {checked(), func(w *world) {
			set(w, contract.Critical)
			after(time.Hour)
		}, "the catalog shows web at 10.1.0.5; failing checks: web: own", 1, "Registered CheckFailing!"},
		"and again well": {checked(), func(w *world) {
			set(w, contract.Critical)
			after(time.Hour)
			set(w, contract.Passing)
			after(time.Minute)
		}, "the catalog shows web at 10.1.0.5", 2, "Registered CheckFailing! Registered"},
		"each ten seconds another way": {checked(), func(w *world) {
			for range 180 {
				set(w, contract.Critical)
				after(10 * time.Second)
				set(w, contract.Passing)
				after(10 * time.Second)
			}
		}, "the catalog shows web at 10.1.0.5", 0, "Registered"},
	}
	for name, c := range cases {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.start(t, c.pod)
			after(time.Minute)
			writes := len(w.conditions())
			c.life(w)
			if got := w.last(); got.Status != gateOpen || got.Message != c.says || len(w.conditions())-writes != c.writes {
				t.Errorf("after %d writes the gate says %s %q, want %d and %q", len(w.conditions())-writes, got.Status, got.Message, c.writes, c.says)
			}
			w.expectEvents(t, c.events)
		})
	}
}

// TestOpenGateReportsALoss has the catalog lose an instance for good, under the policy that keeps the gate open.
func TestOpenGateReportsALoss(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, checked())
		after(time.Minute)
		lostAt := time.Now()
		w.mu.Lock()
		w.sync, w.catalog = false, map[string]CatalogInstance{}
		w.touch()
		w.mu.Unlock()
		after(time.Minute)
		want := "the catalog showed web at 10.1.0.5 until " + lostAt.UTC().Format(time.RFC3339)
		if got := w.last(); got.Status != gateOpen || got.Reason != string(contract.CatalogLost) || got.Message != want {
			t.Errorf("the gate says %s %s %q, want open and %q", got.Status, got.Reason, got.Message, want)
		}
		writes := len(w.conditions())
		after(time.Hour)
		if len(w.conditions()) != writes || w.eventReasons() != "Registered CatalogLost!" {
			t.Errorf("%d more writes; events: %s", len(w.conditions())-writes, w.eventReasons())
		}
		w.set(func() { w.sync = true })
		after(time.Minute)
		w.expectGate(t, "shown again", gateOpen, contract.Registered)
	})
}

func TestGateWaitsForTheProxysOwnCheck(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.proxyOwn = contract.Critical
		w.start(t, ready(meshPod("9191"), true))
		after(time.Minute)
		w.expectGate(t, "with a proxy that does not listen", gateClosed, contract.AwaitingCatalog)
		w.set(func() { w.proxyOwn = contract.Passing })
		after(time.Second)
		w.expectGate(t, "with a proxy that listens", gateOpen, contract.Registered)
	})
}

func TestSpeaksOf(t *testing.T) {
	const ip = "10.1.0.5"
	for name, c := range map[string]struct {
		message string
		want    bool
	}{
		"of it":                  {"the catalog shows web, admin at 10.1.0.5", true},
		"of another":             {"the catalog shows web at 10.1.0.51", false},
		"of none":                {"gate is off", true},
		"with failing checks":    {"the catalog shows web at 10.1.0.5; failing checks: web: own (at 10.1.0.9 nothing)", true},
		"of another, failing":    {"the catalog shows web at 10.1.0.4; failing checks: web: own (at 10.1.0.5 nothing)", false},
		"of a loss":              {"the catalog showed web at 10.1.0.5 until 2026-01-01T00:00:00Z", true},
		"of a loss of another's": {"the catalog showed web at 10.1.0.4 until 2026-01-01T00:00:00Z", false},
		"of something else":      {"opened at noon", true},
	} {
		t.Run(name, func(t *testing.T) {
			if got := speaksOf(&corev1.PodCondition{Message: c.message}, ip); got != c.want {
				t.Errorf("%q speaks of %s: %v", c.message, ip, got)
			}
		})
	}
}
