package agentlet

import (
	"context"
	"errors"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestGateOpensWhenTheCatalogShowsIt(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.syncDelay = 300 * time.Millisecond
		r, _ := w.start(t, testPod())
		after(500 * time.Millisecond)
		w.expectHealth(t, "before the containers are ready", contract.Critical)
		r.OnUpdate(ready(testPod(), true))
		after(299 * time.Millisecond)
		if n := w.count("register"); n != 1 {
			t.Errorf("registered %d times, want once, at the start", n)
		}
		if len(w.conditions()) != 0 {
			t.Errorf("written before the catalog had it: %+v", w.conditions())
		}
		after(2 * time.Millisecond)
		w.expectGate(t, "in the catalog", gateOpen, contract.Registered)
		w.expectOneCondition(t)
	})
}

func TestGateModes(t *testing.T) {
	for name, c := range map[string]struct {
		annotations []string
		sync        bool
		status      corev1.ConditionStatus
		reason      contract.Reason
	}{
		"off, of a pod with the gate":               {[]string{"gate", "off"}, true, gateOpen, contract.Registered},
		"passing, with a fixed health":              {[]string{"service-health", "warning"}, true, gateOpen, contract.Registered},
		"gate-timeout, with a catalog that lags":    {[]string{"gate-timeout", "10s"}, false, gateOpen, contract.TimedOut},
		"no gate-timeout, with a catalog that lags": {nil, false, gateClosed, contract.AwaitingCatalog},
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
		w.expectGate(t, "not ready", gateOpen, contract.Registered)
		w.expectHealth(t, "not ready", contract.Critical)
		r.OnUpdate(ready(testPod("gate", "registered"), true))
		after(100 * time.Millisecond)
		w.expectHealth(t, "ready", contract.Passing)
	})
}

// rebooted is a pod of a node that was rebooted, with the condition of before. Consul still has the old address.
func (w *world) rebooted(pod *corev1.Pod) *corev1.Pod {
	old := w.defined(pod)
	old.Address = "10.1.0.4"
	w.adopt(old)
	pod = gated(pod, gateOpen, contract.Registered)
	pod.Status.Conditions[0].Message = "the catalog shows web at 10.1.0.4"
	return pod
}

func TestRebootClosesTheGateUntilTheNewAddressIsThere(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := w.start(t, w.rebooted(testPod()))
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
			pod := w.rebooted(ready(testPod("gate", mode), true))
			w.sync = false
			w.start(t, pod)
			after(time.Minute)
			w.expectGate(t, "with the old address in the catalog", gateClosed, contract.AwaitingCatalog)
		})
	}
}

// TestRebootDoesNotOpenByALaggingWatch has the watch deliver the condition of before once more, after it was overwritten.
func TestRebootDoesNotOpenByALaggingWatch(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		pod := w.rebooted(ready(testPod(), true))
		w.sync = false
		w.onWrite = func(corev1.PodCondition) string { return "v" } // can't be compared
		r, _ := w.start(t, pod)
		after(time.Minute)
		w.expectGate(t, "with the old address in the catalog", gateClosed, contract.AwaitingCatalog)
		r.OnUpdate(pod.DeepCopy())
		after(time.Second)
		if got := r.Status().Gate; got.Open {
			t.Errorf("the gate is %+v with the old address in the catalog", got)
		}
	})
}

func TestReasonOfAClosedGate(t *testing.T) {
	pod := ready(testPod(), true)
	for name, c := range map[string]struct {
		pod    *corev1.Pod
		fail   func(string) error
		change func(*world)
		reason contract.Reason
		says   string
	}{
		"a pod without an IP":  {withoutIP(testPod()), nil, nil, contract.Starting, "the pod's IP"},
		"unready containers":   {testPod(), nil, nil, contract.ContainersNotReady, "app"},
		"unreachable":          {pod, failingConsul(ErrRefused), nil, contract.ConsulUnreachable, "10.0.0.1:8500"},
		"no leader":            {pod, nil, func(w *world) { w.leader = false }, contract.ConsulUnreachable, "10.0.0.1:8500 has no cluster leader"},
		"an unknown leader":    {pod, failing(errors.New("429 too many requests"), "leader"), nil, contract.ConsulUnreachable, "cluster leader: 429 too many requests"},
		"a rejection":          {pod, failing(errors.Join(ErrRejected, errors.New("lacks service:write")), "register"), nil, contract.RegistrationRejected, "service:write"},
		"invalid annotations":  {ready(testPod("heartbeat-ttl", "soon"), true), nil, nil, contract.InvalidConfiguration, "soon"},
		"a failing node check": {pod, nil, func(w *world) { w.nodeDown = []string{"Serf Health Status"} }, contract.AwaitingCatalog, "Serf Health Status"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.fail = c.fail
			if c.change != nil {
				c.change(w)
			}
			w.start(t, c.pod)
			after(10 * time.Second)
			w.expectGate(t, "after 10s", gateClosed, c.reason, c.says)
			writes := len(w.conditions())
			after(5 * time.Minute)
			if len(w.conditions()) != writes {
				t.Errorf("the same reason was written %d times more", len(w.conditions())-writes)
			}
		})
	}
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
		w.expectNeverClosed(t)
	})
	for name, annotations := range map[string][]string{
		"a loss closes":                  {"gate-policy", "continuous"},
		"gate-timeout doesn't hide that": {"gate-policy", "continuous", "gate-timeout", "10s"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			started(t, w, testPod(annotations...))
			after(time.Minute)
			w.sync = false
			w.loseWeb()
			after(500 * time.Millisecond)
			w.expectGate(t, "lost", gateClosed, contract.CatalogLost)
		})
	}
}

// TestGateTimeoutCountsFromTheClosing has the catalog and then the agent lose an instance that was ready for long.
func TestGateTimeoutCountsFromTheClosing(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		started(t, w, testPod("gate-policy", "continuous", "gate-timeout", "30s"))
		after(time.Minute)
		w.sync = false
		w.loseWeb()
		after(time.Second)
		w.set(func() { clear(w.agent) })
		after(27 * time.Second)
		w.expectGate(t, "28s after the loss", gateClosed, contract.AwaitingCatalog)
		after(3 * time.Second)
		w.expectGate(t, "31s after the loss", gateOpen, contract.TimedOut)
	})
}

// TestOpenGateReportsFailingChecks has a service's own check fail for a while.
func TestOpenGateReportsFailingChecks(t *testing.T) {
	for name, c := range map[string]struct {
		life   func(set func(own contract.Health, d time.Duration))
		says   string
		writes int
		events string
	}{
		"for a moment": {func(set func(contract.Health, time.Duration)) {
			set(contract.Critical, 10*time.Second)
			set(contract.Passing, time.Hour)
		}, "the catalog shows web at 10.1.0.5", 0, "Registered"},
		"for an hour": {func(set func(contract.Health, time.Duration)) {
			set(contract.Critical, time.Hour)
		}, "the catalog shows web at 10.1.0.5; failing checks: web: own", 1, "Registered CheckFailing!"},
		"for an hour, and then passing": {func(set func(contract.Health, time.Duration)) {
			set(contract.Critical, time.Hour)
			set(contract.Passing, time.Minute)
		}, "the catalog shows web at 10.1.0.5", 2, "Registered CheckFailing! Registered"},
		"flapping every ten seconds": {func(set func(contract.Health, time.Duration)) {
			for range 180 {
				set(contract.Critical, 10*time.Second)
				set(contract.Passing, 10*time.Second)
			}
		}, "the catalog shows web at 10.1.0.5", 0, "Registered"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.start(t, checked())
			after(time.Minute)
			writes := len(w.conditions())
			c.life(func(own contract.Health, d time.Duration) {
				w.set(func() { w.own = own })
				after(d)
			})
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
		w.sync = false
		w.loseWeb()
		after(time.Minute)
		w.expectGate(t, "lost", gateOpen, contract.CatalogLost, "the catalog showed web at 10.1.0.5 until "+lostAt.UTC().Format(time.RFC3339))
		writes := len(w.conditions())
		after(time.Hour)
		if n := len(w.conditions()) - writes; n > 0 {
			t.Errorf("the same loss was written %d times more", n)
		}
		w.expectEvents(t, "Registered CatalogLost!")
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

// TestFixedHealthWaitsForTheContainers: nobody is sent to an application that is still starting. From the first readiness on the
// fixed health stays, whatever the containers say.
func TestFixedHealthWaitsForTheContainers(t *testing.T) {
	for name, c := range map[string]struct {
		annotations []string
		starting    contract.Health
	}{
		"passing":                       {[]string{"service-health", "passing"}, contract.Critical},
		"warning":                       {[]string{"service-health", "warning"}, contract.Critical},
		"passing, where nobody waits":   {[]string{"service-health", "passing", "gate", "off"}, contract.Critical},
		"passing, with gate registered": {[]string{"service-health", "passing", "gate", "registered"}, contract.Passing},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			fixed := contract.Health(c.annotations[1])
			r, _ := w.start(t, testPod(c.annotations...))
			after(time.Minute)
			w.expectHealth(t, "starting", c.starting)
			r.OnUpdate(ready(testPod(c.annotations...), true))
			after(time.Second)
			w.expectHealth(t, "ready", fixed)
			r.OnUpdate(ready(testPod(c.annotations...), false))
			after(time.Minute)
			w.expectHealth(t, "unready again", fixed)
		})
	}
}

// TestFixedHealthOutlivesTheAgentlet: an instance that an earlier agentlet has registered as passing stays so beside containers that
// are not ready.
func TestFixedHealthOutlivesTheAgentlet(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		pod := testPod("service-health", "passing", "gate", "off")
		w.adopt(w.defined(pod))
		w.start(t, pod)
		after(time.Minute)
		w.expectHealth(t, "not ready, with a new agentlet", contract.Passing)
	})
}

// TestAGateThatWaitedForItsPatch opens by what the catalog shows, and not by what it showed when the API server began to hang.
func TestAGateThatWaitedForItsPatch(t *testing.T) {
	for _, slow := range []time.Duration{0, 500 * time.Millisecond} {
		runInWorld(t, "readings of "+slow.String(), func(t *testing.T, w *world) {
			pod := testPod()
			r, _ := w.start(t, pod)
			after(3 * time.Second)
			w.setFail(failing(context.DeadlineExceeded, "gate"))
			r.OnUpdate(ready(pod, true))
			after(2 * time.Second) // the catalog has it passing, and the patch hangs
			w.locked(func() { w.slow = map[string]time.Duration{"catalog": slow} })
			w.loseWeb()
			after(5 * time.Second)
			opened := false
			w.locked(func() {
				w.onWrite = func(c corev1.PodCondition) string {
					if c.Status == corev1.ConditionTrue && !opened {
						if opened = true; w.inCatalog(webID) != contract.Passing {
							t.Errorf("the gate opens, and the catalog has %q", w.inCatalog(webID))
						}
					}
					return "2000"
				}
			})
			w.setFail(nil)
			after(40 * time.Second)
			if !opened {
				t.Error("the gate stays closed")
			}
		})
	}
}
