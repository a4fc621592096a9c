package agentlet

import (
	"context"
	"math/rand/v2"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestForeignConditionIsPutRight has somebody close an open gate again and again, in whatever order the answers to the registrar's
// writes and the news of the pod come in. A second after the last of it the gate is open.
func TestForeignConditionIsPutRight(t *testing.T) {
	for seed := range uint64(300) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			random := rand.New(rand.NewPCG(seed, 0))
			upTo := func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most) + 1)) }
			p := &play{consulModel: newModel(ctx), pod: ready(testPod(), true), version: 1}
			p.usualLags()
			p.fail, p.onWrite = p.fault, p.write
			p.begin()
			defer func() { p.end() }()
			time.Sleep(time.Minute)
			p.meet(func() { p.newsLag, p.answerLag = upTo(30*time.Millisecond), upTo(30*time.Millisecond) })
			for range 1 + random.IntN(4) {
				p.change(func(pod *corev1.Pod) { pod.Status.Conditions, p.open = []corev1.PodCondition{foreign()}, false })
				time.Sleep(upTo(60 * time.Millisecond))
			}
			time.Sleep(time.Second)
			if c := condition(p.now(), contract.Condition); c == nil || c.Status != corev1.ConditionTrue {
				t.Fatalf("seed %d: with answers after %s and news after %s the gate stays %+v", seed, p.answerLag, p.newsLag, c)
			}
		})
	}
}

// TestStubbornForeignConditionIsNotFoughtInALoop has somebody undo each write at once, by an API server whose versions are lower than
// those that the pod was seen with, as after etcd was restored.
func TestStubbornForeignConditionIsNotFoughtInALoop(t *testing.T) {
	for name, version := range map[string]func(n int) string{
		"versions that grow":              func(n int) string { return strconv.Itoa(10_000 + n) },
		"versions of before a restore":    func(n int) string { return strconv.Itoa(10 + n) },
		"versions that can't be compared": func(int) string { return "v" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				r, _ := started(t, w, testPod())
				undone := ready(testPod(), true)
				undone.Status.Conditions, undone.ResourceVersion = []corev1.PodCondition{foreign()}, "5000"
				n := 0
				w.onWrite = func(corev1.PodCondition) string {
					n += 2
					undone := undone.DeepCopy()
					undone.ResourceVersion = version(n + 1)
					go r.OnUpdate(undone)
					return version(n)
				}
				before := w.count("gate")
				r.OnUpdate(undone)
				after(10 * time.Second)
				if writes := w.count("gate") - before; writes < 10 || writes > 21 {
					t.Errorf("%d writes in ten seconds, want two a second", writes)
				}
			})
		})
	}
}
