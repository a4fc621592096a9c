package agentlet

import (
	"context"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestQuietHour(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		started(t, w, testPod())
		after(time.Minute)
		index, gates, heartbeats := w.changes(), w.count("gate"), w.count("heartbeat")
		after(time.Hour)
		if w.changes() != index {
			t.Errorf("the catalog was written %d times in a quiet hour", w.changes()-index)
		}
		if n := w.count("gate") - gates; n != 0 {
			t.Errorf("%d writes to the API server in a quiet hour", n)
		}
		if n := w.count("heartbeat") - heartbeats; n < 360 || n > 420 {
			t.Errorf("%d heartbeats in an hour, want one each 9 to 10 seconds", n)
		}
	})
}

func TestReadinessReachesConsulAtOnce(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		for _, yes := range []bool{false, true, false, true} {
			r.OnUpdate(ready(testPod(), yes))
			after(10 * time.Millisecond)
			want := contract.Critical
			if yes {
				want = contract.Passing
			}
			w.expectHealth(t, fmt.Sprintf("ready %v", yes), want)
		}
		w.expectGate(t, "after unready containers", gateOpen, contract.Registered)
	})
}

// TestLostUpdateTimesOutSoonThoughHeartbeatsAreRare loses the answer to an update.
func TestLostUpdateTimesOutSoonThoughHeartbeatsAreRare(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod("heartbeat-ttl", "1h", "deregister-after", "2h"))
		w.setFail(failing(context.DeadlineExceeded, "readiness"))
		r.OnUpdate(ready(testPod("heartbeat-ttl", "1h", "deregister-after", "2h"), false))
		after(time.Second)
		w.setFail(nil)
		after(waitMax + time.Second)
		w.expectHealth(t, "an unready pod", contract.Critical)
	})
}

// TestLateUpdateIsCorrected has the agent apply an update that timed out, before and after the update that replaces it.
func TestLateUpdateIsCorrected(t *testing.T) {
	for name, delay := range map[string]time.Duration{"before the next": 0, "after the next": 500 * time.Millisecond} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := started(t, w, testPod())
			w.setFail(failing(context.DeadlineExceeded, "readiness"))
			r.OnUpdate(ready(testPod(), false))
			after(time.Second)
			r.OnUpdate(ready(testPod(), true))
			after(9 * time.Second) // a third of the TTL in all
			w.setFail(nil)
			after(delay)
			if err := w.Update(t.Context(), contract.ReadinessID(webID), contract.Critical, ""); err != nil {
				t.Fatal(err)
			}
			after(rewriteAfterLateUpdate + time.Second)
			w.expectHealth(t, "a ready pod", contract.Passing)
		})
	}
}

func TestRestartWithoutDefinitionsKeepsInstancesAlive(t *testing.T) {
	for name, pods := range map[string][]*corev1.Pod{
		"the API server is unreachable": nil,
		"invalid annotations":           {opened("heartbeat-ttl", "soon")},
		"no IP in a stale status":       {ready(withoutIP(testPod()), true)},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.adopt(w.defined(testPod()))
			r, _ := w.start(t, pods...)
			after(5 * time.Minute)
			// The instance's TTL may be as short as contract.MinHeartbeatTTL.
			if n := w.count("heartbeat"); n < 300 || n > 400 {
				t.Errorf("%d heartbeats in five minutes, want one a second", n)
			}
			if w.inCatalog(webID) != contract.Passing || w.count("register")+w.count("deregister")+w.count("readiness") > 0 {
				t.Error("the instance of an earlier agentlet was changed")
			}
			heartbeats := w.count("heartbeat")
			r.OnUpdate(opened())
			after(5 * time.Minute)
			if n := w.count("heartbeat") - heartbeats; n > 40 {
				t.Errorf("%d heartbeats in five minutes, with the TTL known", n)
			}
		})
	}
}

// TestReadinessCheckOutput: the output tells a health that an annotation sets from that of the containers. It doesn't name the
// containers that are not ready, because they change, and a changed output is a raft write.
func TestReadinessCheckOutput(t *testing.T) {
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		says string
	}{
		"critical by annotation": {ready(testPod("service-health", "critical"), true), "set by the pod's annotation agentlet.dev/service-health"},
		"warning by annotation":  {ready(testPod("service-health", "warning"), true), "set by the pod's annotation agentlet.dev/service-health"},
		"unready containers":     {testPod("gate", "registered"), "the pod's containers are not ready"},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.start(t, c.pod)
			after(5 * time.Minute)
			if got := w.web().output; got != c.says {
				t.Errorf("the readiness check says %q, want %q", got, c.says)
			}
		})
	}
}

func TestUnreadyPodIsNeverReaped(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		r.OnUpdate(ready(testPod(), false))
		heartbeats, registrations := w.count("heartbeat"), w.count("register")
		after(10 * time.Minute)
		if e := w.web(); e.heartbeat != contract.Passing || e.readiness != contract.Critical {
			t.Errorf("the heartbeat is %s and the readiness %s", e.heartbeat, e.readiness)
		}
		if n := w.count("heartbeat") - heartbeats; n < 58 || w.count("register") != registrations {
			t.Errorf("%d heartbeats and %d registrations in ten unready minutes", n, w.count("register")-registrations)
		}
	})
}

func TestRemovedCheckIsRestoredAtItsNextUpdate(t *testing.T) {
	for _, check := range []string{"heartbeat", "readiness"} {
		runInWorld(t, check, func(t *testing.T, w *world) {
			started(t, w, testPod())
			after(time.Second)
			w.editWeb(func(e *agentEntry) { e.removeCheck(check) })
			next := 10 * time.Second // a third of the TTL
			if check == "readiness" {
				next = refreshEvery
			}
			after(next + 100*time.Millisecond)
			if n := len(w.web().checks); n != 2 {
				t.Errorf("%d checks after %s", n, next)
			}
		})
	}
}
