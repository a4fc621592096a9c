package agentlet

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

const otherGate = "katalog-sync.wish.com/synced"

// otherGated is a pod that also lists another system's gate, with this status; empty: not written.
func otherGated(pod *corev1.Pod, status corev1.ConditionStatus) *corev1.Pod {
	pod = pod.DeepCopy()
	if !hasGate(pod, otherGate) {
		pod.Spec.ReadinessGates = append(pod.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: otherGate})
	}
	if status != "" {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: otherGate, Status: status, Reason: "Theirs"})
	}
	return pod
}

func migrating() *world {
	w := newWorld()
	w.gates = []string{otherGate, "not.in/this-pod"}
	return w
}

func (w *world) otherWrites() []corev1.PodCondition {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.others)
}

func TestOtherGateOpensWithTheOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := migrating()
		w.syncs = 300 * time.Millisecond
		r, _ := w.start(t)
		r.OnUpdate(otherGated(testPod(), corev1.ConditionFalse))
		r.OnUpdate(otherGated(ready(testPod(), true), corev1.ConditionFalse))
		after(299 * time.Millisecond)
		if others := w.otherWrites(); len(others) != 0 {
			t.Fatalf("written before the catalog had it: %+v", others)
		}
		after(2 * time.Millisecond)
		others := w.otherWrites()
		if len(others) != 1 || others[0].Type != otherGate || others[0].Status != corev1.ConditionTrue || others[0].Reason != string(contract.Registered) {
			t.Fatalf("others = %+v, want %s open once", others, otherGate)
		}
		if n := w.count("gate"); n != 1 {
			t.Errorf("%d writes to the API server, want both conditions in one", n)
		}
		after(time.Hour)
		if n := w.count("gate"); n != 1 {
			t.Errorf("%d writes in a quiet hour before the pod was seen again", n-1)
		}
	})
}

func TestOtherGateIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := migrating()
		r, _ := started(t, w, otherGated(testPod(), ""))
		open := gated(ready(testPod(), true), corev1.ConditionTrue, contract.Registered)
		for _, step := range []struct {
			seen corev1.ConditionStatus
			want int
		}{
			{corev1.ConditionTrue, 1},
			{corev1.ConditionTrue, 1},
			{corev1.ConditionFalse, 2}, // the old system, which had not seen it yet
			{corev1.ConditionTrue, 2},
		} {
			r.OnUpdate(otherGated(open, step.seen))
			after(time.Second)
			if n := len(w.otherWrites()); n != step.want {
				t.Errorf("seen %s: %d writes, want %d", step.seen, n, step.want)
			}
		}
	})
}

func TestOtherGateOfARestartedAgentlet(t *testing.T) {
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want int
	}{
		"open":     {otherGated(gated(ready(testPod(), true), corev1.ConditionTrue, contract.Registered), corev1.ConditionTrue), 0},
		"not open": {otherGated(gated(ready(testPod(), true), corev1.ConditionTrue, contract.Registered), ""), 1},
		"not its":  {gated(ready(testPod(), true), corev1.ConditionTrue, contract.Registered), 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := migrating()
				r, _ := w.start(t)
				r.OnUpdate(test.pod)
				after(time.Minute)
				if n := len(w.otherWrites()); n != test.want {
					t.Errorf("%d writes, want %d", n, test.want)
				}
			})
		})
	}
}

// TestOtherGateWithoutTheOwn is of a pod with gate: off, which still lists the other system's.
func TestOtherGateWithoutTheOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := migrating()
		pod := otherGated(testPod("gate", "off"), "")
		pod.Spec.ReadinessGates = pod.Spec.ReadinessGates[1:]
		r, _ := w.start(t)
		r.OnUpdate(pod)
		after(time.Second)
		if others := w.otherWrites(); len(others) != 1 || others[0].Status != corev1.ConditionTrue {
			t.Errorf("others = %+v, want it open", others)
		}
	})
}

func TestOtherGateStaysOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := migrating()
		r, _ := started(t, w, otherGated(testPod(), ""))
		r.OnUpdate(deleted(otherGated(gated(ready(testPod(), true), corev1.ConditionTrue, contract.Registered), corev1.ConditionTrue)))
		after(time.Second)
		if w.last().Reason != string(contract.Draining) {
			t.Errorf("the own gate says %s", w.last().Reason)
		}
		if others := w.otherWrites(); len(others) != 1 {
			t.Errorf("others = %+v, want the one that opened it", others)
		}
	})
}
