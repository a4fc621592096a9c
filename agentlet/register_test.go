package agentlet

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestRefusedChangeKeepsTheLastGoodRegistrationAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		w.setFail(failing(ErrRejected, "register"))
		r.OnUpdate(ready(testPod("service-tags", "refused"), true))
		beats := w.count("heartbeat")
		after(10 * time.Minute)
		if n := w.count("heartbeat") - beats; n < 50 {
			t.Errorf("%d beats in ten minutes of a refused change", n)
		}
		r.OnUpdate(ready(testPod("service-tags", "refused"), false))
		after(time.Second)
		if got := w.inCatalog(webID); got != contract.Critical {
			t.Errorf("the catalog says %q of an unready pod whose change is refused", got)
		}
	})
}

func TestUnsyncedChangeIsNudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		w.set(func() { w.sync = false })
		r.OnUpdate(ready(testPod("service-tags", "primary"), true))
		after(10 * time.Second)
		if w.web().definition.Meta[contract.MetaSyncGeneration] == "" {
			t.Error("a change that the catalog does not have, though it says passing, was never nudged")
		}
	})
}

func TestAdoptedInstanceFollowsItsAnnotations(t *testing.T) {
	withCheck := []string{"service-names", "", "service-port", "", "services", "[{name: web, port: 8080, checks: [{tcp: ':8080', interval: 10s}]}]"}
	cases := map[string]struct {
		before, now []string
		holds       func(agentEntry) bool
	}{
		"a longer heartbeat": {nil, []string{"heartbeat-ttl", "1m"}, func(e agentEntry) bool { return e.definition.HeartbeatTTL == time.Minute }},
		"a check is added":   {nil, withCheck, func(e agentEntry) bool { return len(e.checks) == 3 }},
		"a check is removed": {withCheck, nil, func(e agentEntry) bool { return len(e.checks) == 2 }},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.agent[webID] = w.held(w.defined(annotated(c.before)))
				w.syncNow()
				r, _ := w.start(t)
				r.OnUpdate(gated(ready(annotated(c.before), true), corev1.ConditionTrue, contract.Registered))
				after(time.Second)
				r.OnUpdate(gated(ready(annotated(c.now), true), corev1.ConditionTrue, contract.Registered))
				after(time.Second)
				if e := w.web(); !c.holds(e) {
					t.Errorf("the agent has %+v", e)
				}
			})
		})
	}
}

func TestTagsThatOthersSetAreLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := func(meta string) *corev1.Pod {
			return annotated([]string{
				"service-names", "", "service-port", "",
				"services", "[{name: web, port: 8080, tags: [a], enable_tag_override: true, meta: {v: '" + meta + "'}}]",
			})
		}
		w := newWorld()
		r, _ := started(t, w, pod("1"))
		after(time.Second)
		w.set(func() {
			entry := w.agent[webID]
			entry.definition.Tags = []string{"theirs"}
			w.agent[webID] = entry
		})
		after(time.Second)
		r.OnUpdate(ready(pod("2"), true))
		after(time.Second)
		if e := w.web(); !slices.Equal(e.definition.Tags, []string{"theirs"}) || e.definition.Meta["v"] != "2" {
			t.Errorf("tags %q and meta %v, want theirs and the new one", e.definition.Tags, e.definition.Meta)
		}
	})
}

// TestLossBehindTheAgentsBack has the catalog lose an instance that the agent has: the agent would notice at its next full sync,
// in minutes. Where somebody waits for the catalog it is nudged, and elsewhere nobody looks.
func TestLossBehindTheAgentsBack(t *testing.T) {
	for name, c := range map[string]struct {
		annotations []string
		closed      bool // the gate, by patches that fail
		nudged      bool
	}{
		"the continuous policy":             {[]string{"gate-policy", "continuous"}, false, true},
		"a gate that has not been open yet": {nil, true, true},
		"a gate that stays open":            {nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				if c.closed {
					w.setFail(failing(errors.New("500"), "gate"))
				}
				r, _ := w.start(t)
				r.OnUpdate(ready(testPod(c.annotations...), true))
				after(time.Minute)
				readings := w.count("catalog")
				w.mu.Lock()
				delete(w.catalog, webID)
				w.touch()
				w.mu.Unlock()
				after(resyncAfter + time.Second)
				if got := w.inCatalog(webID) == contract.Passing; got != c.nudged || got != (w.web().definition.Meta[contract.MetaSyncGeneration] == "1") {
					t.Errorf("back in the catalog: %v, want %v; meta %v", got, c.nudged, w.web().definition.Meta)
				}
				if n := w.count("catalog") - readings; (n > 0) != c.nudged {
					t.Errorf("the catalog was read %d times", n)
				}
				w.setFail(nil)
				after(time.Minute)
				if got := w.last(); got.Status != corev1.ConditionTrue {
					t.Errorf("the gate says %s %s in the end", got.Status, got.Reason)
				}
				if n := w.count("register"); n > 2 {
					t.Errorf("registered %d times", n)
				}
			})
		})
	}
}

func TestLaggingCatalogIsNudgedWithAChangedDefinition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.sync = false
		r, _ := w.start(t)
		r.OnUpdate(ready(testPod(), true))
		after(500 * time.Millisecond)
		first := w.web().definition.Meta[contract.MetaSyncGeneration]
		after(2 * time.Second)
		second := w.web().definition.Meta[contract.MetaSyncGeneration]
		if first != "" || second == "" {
			t.Errorf("nudge %q, then %q: want none, then one", first, second)
		}
		if got := w.last(); got.Reason != string(contract.AwaitingCatalog) {
			t.Errorf("the closed gate says %q, want AwaitingCatalog", got.Reason)
		}
		after(10 * time.Minute)
		if n := w.count("register"); n > 60 {
			t.Errorf("%d registrations in ten minutes, want a backoff", n)
		}
		w.set(func() { w.sync = true })
		after(time.Second)
		if w.last().Status != corev1.ConditionTrue {
			t.Error("the gate stays closed though the catalog has it")
		}
	})
}

func TestOwnCheckThatFailsIsNotNudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.own = contract.Critical
		r, _ := w.start(t)
		r.OnUpdate(ready(testPod(), true))
		after(time.Minute)
		if n := w.count("register"); n != 1 {
			t.Errorf("registered %d times while the service's own check failed, want once", n)
		}
		if got := w.last(); got.Reason != string(contract.AwaitingCatalog) || !strings.Contains(got.Message, "failing checks: web: own") {
			t.Errorf("the closed gate says %q %q, want AwaitingCatalog and the check's name", got.Reason, got.Message)
		}
		w.set(func() { w.own = contract.Passing })
		after(time.Second)
		if w.last().Status != corev1.ConditionTrue {
			t.Error("the gate stays closed though the service's own check passes")
		}
	})
}
