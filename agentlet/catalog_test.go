package agentlet

import (
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/cost"
)

// TestReadsBackOffFromChangesOfOtherPods has the catalog change hundreds of times while a pod waits for its own check.
func TestReadsBackOffFromChangesOfOtherPods(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.own = contract.Critical
		w.start(t, ready(testPod(), true))
		after(3 * time.Minute)
		before := w.count("catalog")
		for range 1000 {
			w.set(func() {})
			after(10 * time.Millisecond)
		}
		if n := w.count("catalog") - before; n > 80 { // each counts twice: when it begins to wait, and when it ends
			t.Errorf("%d reads in the ten seconds of a thousand changes of other pods", n)
		}
		w.set(func() { w.own = contract.Passing })
		after(readBackoffMax + 100*time.Millisecond)
		w.expectGate(t, "a second after the check passes", gateOpen, contract.Registered)
	})
}

// TestOwnChangeIsReadAtOnce: however long the catalog that a pod follows has brought nothing new, what is waited for after an
// own change is soon there.
func TestOwnChangeIsReadAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := w.start(t, testPod("gate-policy", "continuous"))
		for range 600 { // changes of other pods
			w.set(func() {})
			after(100 * time.Millisecond)
		}
		r.OnUpdate(ready(testPod("gate-policy", "continuous"), true))
		after(w.syncDelay + readBackoffFirst + time.Millisecond)
		w.expectGate(t, "a moment after the readiness", gateOpen, contract.Registered)
	})
}

// TestFollowerBacksOffFurther has the catalog change hundreds of times while an open gate follows it, and nothing waits.
func TestFollowerBacksOffFurther(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		started(t, w, testPod("gate-policy", "continuous"))
		after(time.Minute)
		before := w.count("catalog")
		for range 6000 {
			w.set(func() {})
			after(10 * time.Millisecond)
		}
		if n := w.count("catalog") - before; n > 50 { // each counts twice
			t.Errorf("%d reads in the minute of thousands of changes of other pods", n)
		}
		w.sync = false
		w.loseWeb()
		after(readBackoffMaxIdle + 500*time.Millisecond)
		w.expectGate(t, "ten seconds after the loss", gateClosed, contract.CatalogLost)
	})
}

// TestFollowPause holds the figure that the plan for large clusters is computed from.
func TestFollowPause(t *testing.T) {
	pause := readBackoff(100, readCatalog{wait: idleWait}.longestPause())
	if mean := pause * 3 / 4; mean != cost.FollowPause { // the jitter takes up to half of it
		t.Errorf("a mean pause of %s, want %s", mean, cost.FollowPause)
	}
	if pause := readBackoff(100, readCatalog{wait: waitMax}.longestPause()); pause != readBackoffMax {
		t.Errorf("a pause of %s where something waits, want %s", pause, readBackoffMax)
	}
}

// TestFailingAnswerIsKept: an answer of a check whose generated parts alone differ is no change, or each would be written.
func TestFailingAnswerIsKept(t *testing.T) {
	const was = "own (request 3f0c1a8e failed)"
	c := catalog{view: &CatalogView{Instances: map[string]CatalogInstance{webID: {Failing: was}}}}
	for name, answers := range map[string]struct{ seen, want string }{
		"another request ID": {"own (request 9b7d2c41 failed)", was},
		"another answer":     {"own (503)", "own (503)"},
		"no answer":          {"", ""},
	} {
		t.Run(name, func(t *testing.T) {
			instances := map[string]CatalogInstance{webID: {Failing: answers.seen}}
			c.keepConstant(instances)
			if got := instances[webID].Failing; got != answers.want {
				t.Errorf("%q, want %q", got, answers.want)
			}
		})
	}
}

// TestReadIsSuperseded is about what a quiet pod costs, and how soon a lost answer is missed.
func TestReadIsSuperseded(t *testing.T) {
	for name, c := range map[string]struct {
		planned command
		want    bool
	}{
		"by none":             {nil, true},
		"by a later change's": {readCatalog{generation: 2, wait: waitMax}, true},
		"by a shorter one":    {readCatalog{generation: 1, wait: waitMax - 1}, true},
		"not by the same":     {readCatalog{generation: 1, wait: waitMax}, false},
		"not by a longer one": {readCatalog{generation: 1, wait: idleWait}, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := (readCatalog{generation: 1, wait: waitMax}).supersededBy(c.planned); got != c.want {
				t.Errorf("superseded: %v, want %v", got, c.want)
			}
		})
	}
}
