package agentlet

import (
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestOthersChangesOnTheNodeAreNotReadOneByOne has the catalog change hundreds of times while a pod waits for its own word.
func TestOthersChangesOnTheNodeAreNotReadOneByOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.own = contract.Critical
		r, _ := w.start(t)
		r.OnUpdate(ready(testPod(), true))
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
		if got := w.last(); got.Status != corev1.ConditionTrue {
			t.Errorf("the gate says %s %q a second after the catalog's word", got.Reason, got.Message)
		}
	})
}

// TestReadingsWaitAsLongAsNobodyNeedsThem is about what a quiet pod costs, and how soon a lost answer is missed.
func TestReadingsWaitAsLongAsNobodyNeedsThem(t *testing.T) {
	for _, wait := range []time.Duration{waitMax, idleWait} {
		for _, planned := range []time.Duration{waitMax, idleWait} {
			if got := (readCatalog{wait: wait}).supersededBy(readCatalog{wait: planned}); got != (planned < wait) {
				t.Errorf("a reading of %s in flight, and one of %s planned: given up %v", wait, planned, got)
			}
		}
	}
}
