package agentlet

import (
	"context"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func (w *world) otherWrites() []corev1.PodCondition {
	return read(w, func() []corev1.PodCondition { return slices.Clone(w.others) })
}

func TestOtherGateOpensWithTheOwn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.gates = otherGates()
		w.syncDelay = 300 * time.Millisecond
		r, _ := w.start(t, otherGated(testPod(), gateClosed))
		r.OnUpdate(otherGated(ready(testPod(), true), gateClosed))
		after(299 * time.Millisecond)
		if others := w.otherWrites(); len(others) != 0 {
			t.Fatalf("written before the catalog had it: %+v", others)
		}
		after(2 * time.Millisecond)
		others := w.otherWrites()
		if len(others) != 1 || others[0].Type != otherGate || others[0].Status != gateOpen || others[0].Reason != string(contract.Registered) {
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
	inWorld(t, func(t *testing.T, w *world) {
		w.gates = otherGates()
		r, _ := started(t, w, otherGated(testPod(), ""))
		open := opened()
		for _, step := range []struct {
			seen corev1.ConditionStatus
			want int
		}{
			{gateOpen, 1},
			{gateOpen, 1},
			{gateClosed, 2}, // by the old system, which had not seen it yet
			{gateOpen, 2},
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
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		want int
	}{
		"an open gate":  {otherGated(opened(), gateOpen), 0},
		"a closed gate": {otherGated(opened(), ""), 1},
		"no gate":       {opened(), 0},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.gates = otherGates()
			w.start(t, c.pod)
			after(time.Minute)
			if n := len(w.otherWrites()); n != c.want {
				t.Errorf("%d writes, want %d", n, c.want)
			}
		})
	}
}

// TestOtherGateWithoutTheOwn: a pod with gate: off still lists the other system's gate.
func TestOtherGateWithoutTheOwn(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.gates = otherGates()
		w.start(t, otherGated(ungated(), ""))
		after(time.Second)
		if others := w.otherWrites(); len(others) != 1 || others[0].Status != gateOpen {
			t.Errorf("others = %+v, want it open", others)
		}
	})
}

func TestOtherGateStaysOpen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.gates = otherGates()
		r, _ := started(t, w, otherGated(testPod(), ""))
		r.OnUpdate(deleted(otherGated(opened(), gateOpen)))
		after(time.Second)
		w.expectGate(t, "terminating", gateClosed, contract.Draining)
		if others := w.otherWrites(); len(others) != 1 {
			t.Errorf("others = %+v, want the one that opened it", others)
		}
	})
}

func TestLaggingConditionsAreIgnored(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		writes := len(w.conditions())
		r.OnUpdate(ready(testPod(), true)) // the watch has not yet seen the written condition
		after(time.Second)
		if n := len(w.conditions()) - writes; n != 0 {
			t.Errorf("a lagging watch caused %d writes", n)
		}
		opened := w.last()
		seen := ready(testPod(), true)
		seen.Status.Conditions, seen.ResourceVersion = []corev1.PodCondition{opened}, "1001"
		r.OnUpdate(seen)
		taken := seen.DeepCopy()
		taken.Status.Conditions, taken.ResourceVersion = nil, "1001"
		r.OnUpdate(taken) // somebody really removed it
		after(time.Second)
		if n := len(w.conditions()) - writes; n != 1 {
			t.Errorf("a removed condition caused %d writes, want 1", n)
		}
	})
}

func TestRemovedConditionIsRestoredFromTheCatalog(t *testing.T) {
	for name, c := range map[string]struct {
		passing bool
		status  corev1.ConditionStatus
		reason  contract.Reason
	}{
		"which has the instance":      {true, gateOpen, contract.Registered},
		"which has lost the instance": {false, gateClosed, contract.AwaitingCatalog},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := started(t, w, testPod())
			seen := ready(testPod(), true)
			seen.Status.Conditions = []corev1.PodCondition{w.last()}
			r.OnUpdate(seen)
			after(time.Hour)
			w.locked(func() {
				w.sync = false
				if !c.passing {
					delete(w.catalog, webID)
				}
			})
			r.OnUpdate(ready(testPod(), true))
			after(1500 * time.Millisecond) // a closed gate's reason has to hold for a second
			w.expectGate(t, "restored", c.status, c.reason)
			if n := len(w.conditions()); n != 2 {
				t.Errorf("%d writes, want the opening and one more", n)
			}
		})
	}
}

func TestTransitionTimeIsKeptWhereTheStatusStays(t *testing.T) {
	earlier := metav1.NewTime(time.Now().Add(-time.Hour))
	current := &corev1.PodCondition{Status: gateOpen, LastTransitionTime: earlier}
	if got := (gateStatus{open: true}).condition(current, time.Now()).LastTransitionTime; !got.Equal(&earlier) {
		t.Errorf("True to True: %s, want %s", got, earlier)
	}
	if got := (gateStatus{}).condition(current, time.Now()).LastTransitionTime; got.Equal(&earlier) {
		t.Error("True to False kept the old time")
	}
}

// TestForeignConditionIsOverwritten has somebody close an open gate again and again, in whatever order the answers to
// the registrar's writes and the changes of the pod arrive. A second after the last change the gate is open.
func TestForeignConditionIsOverwritten(t *testing.T) {
	for name, versionPrefix := range map[string]string{
		"versions that can be compared":   "",
		"versions that can't be compared": "v",
	} {
		t.Run(name, func(t *testing.T) {
			for seed := range uint64(300) {
				synctest.Test(t, func(t *testing.T) { closeByHand(t, seed, versionPrefix) })
			}
		})
	}
}

func closeByHand(t *testing.T, seed uint64, versionPrefix string) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	random := rand.New(rand.NewPCG(seed, 0))
	upTo := func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most) + 1)) }
	p := &play{consulModel: newModel(ctx), pod: ready(testPod(), true), version: 1, versionPrefix: versionPrefix}
	p.usualDelays()
	p.fail, p.onWrite = p.fault, p.write
	p.begin()
	defer func() { p.end() }()
	time.Sleep(time.Minute)
	p.update(func() { p.watchDelay, p.answerDelay = upTo(30*time.Millisecond), upTo(30*time.Millisecond) })
	for range 1 + random.IntN(4) {
		p.change(func(pod *corev1.Pod) { pod.Status.Conditions, p.open = []corev1.PodCondition{foreign()}, false })
		time.Sleep(upTo(60 * time.Millisecond))
	}
	time.Sleep(time.Second)
	if c := condition(p.now(), contract.Condition); c == nil || c.Status != gateOpen {
		t.Fatalf("seed %d: with answers after %s and changes after %s the gate stays %+v", seed, p.answerDelay, p.watchDelay, c)
	}
}

// TestForeignConditionIsOverwrittenAtAPace has somebody undo each write at once, by an API server whose versions are lower than
// those that the pod was seen with, as after etcd was restored.
func TestForeignConditionIsOverwrittenAtAPace(t *testing.T) {
	for name, version := range map[string]func(n int) string{
		"versions that grow":              func(n int) string { return strconv.Itoa(10_000 + n) },
		"versions of before a restore":    func(n int) string { return strconv.Itoa(10 + n) },
		"versions that can't be compared": func(int) string { return "v" },
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := started(t, w, testPod())
			undone := ready(testPod(), true)
			undone.Status.Conditions, undone.ResourceVersion = []corev1.PodCondition{foreign()}, "5000"
			n := 0
			w.onWrite = func(corev1.PodCondition) string {
				n += 2
				undone := undone.DeepCopy()
				undone.ResourceVersion = version(n + 1)
				time.AfterFunc(time.Millisecond, func() { r.OnUpdate(undone) }) // after the answer: not all versions tell the order
				return version(n)
			}
			before := w.count("gate")
			r.OnUpdate(undone)
			after(10 * time.Second)
			if writes := w.count("gate") - before; writes < 10 || writes > 21 {
				t.Errorf("%d writes in ten seconds, want two a second", writes)
			}
		})
	}
}
