package agentlet

import (
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestReadsBackOffFromChangesOfOtherPods has the catalog change hundreds of times while a pod waits for its own word.
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
			t.Errorf("%d readings in the ten seconds of a thousand changes of others", n)
		}
		w.set(func() { w.own = contract.Passing })
		after(readBackoffMax + 100*time.Millisecond)
		w.expectGate(t, "a second after the check passes", gateOpen, contract.Registered)
	})
}

// TestShorterWaitSupersedesARead is about what a quiet pod costs, and how soon a lost answer is missed.
func TestShorterWaitSupersedesARead(t *testing.T) {
	for _, wait := range []time.Duration{waitMax, idleWait} {
		for _, planned := range []time.Duration{waitMax, idleWait} {
			if got := (readCatalog{wait: wait}).supersededBy(readCatalog{wait: planned}); got != (planned < wait) {
				t.Errorf("a reading of %s in flight, and one of %s planned: given up %v", wait, planned, got)
			}
		}
	}
}
