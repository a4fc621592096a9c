package agentlet

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
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
			w.expectHealth(t, fmt.Sprintf("ready=%v", yes), want)
		}
		w.expectGate(t, "after unready containers", gateOpen, contract.Registered)
	})
}

// TestLostUpdateTimesOutSoonThoughHeartbeatsAreRare has the answer to an update never come.
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

// TestLateUpdateIsCorrected has the agent take a change that was given up, and taken back, meanwhile: before it mustOverride of the
// newer state, and after that.
func TestLateUpdateIsCorrected(t *testing.T) {
	for name, overtaking := range map[string]time.Duration{"before": 0, "after": 500 * time.Millisecond} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := started(t, w, testPod())
			w.setFail(failing(context.DeadlineExceeded, "readiness"))
			r.OnUpdate(ready(testPod(), false))
			after(time.Second)
			r.OnUpdate(ready(testPod(), true))
			after(9 * time.Second) // a third of the TTL in all
			w.setFail(nil)
			after(overtaking)
			if err := w.Update(t.Context(), contract.ReadinessID(webID), contract.Critical, ""); err != nil {
				t.Fatal(err)
			}
			after(rewriteAfterLate + time.Second)
			w.expectHealth(t, "a ready pod", contract.Passing)
		})
	}
}

func TestRestartWithoutDefinitionsKeepsInstancesAlive(t *testing.T) {
	for name, pod := range map[string]*corev1.Pod{
		"the API server is away":  nil,
		"invalid annotations":     gated(ready(testPod("heartbeat-ttl", "soon"), true), gateOpen, contract.Registered),
		"no IP in a stale status": func() *corev1.Pod { p := ready(testPod(), true); p.Status.PodIP = ""; return p }(),
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.adopt(w.defined(testPod()))
			r, _ := w.start(t)
			if pod != nil {
				r.OnUpdate(pod)
			}
			after(5 * time.Minute)
			// The shortest TTL that there may be is contract.MinHeartbeatTTL.
			if n := w.count("heartbeat"); n < 300 || n > 400 {
				t.Errorf("%d heartbeats in five minutes, want one a second", n)
			}
			if w.inCatalog(webID) != contract.Passing || w.count("register")+w.count("deregister")+w.count("readiness") > 0 {
				t.Error("what an earlier agentlet had put did not stay as it was")
			}
			heartbeats := w.count("heartbeat")
			r.OnUpdate(gated(ready(testPod(), true), gateOpen, contract.Registered))
			after(5 * time.Minute)
			if n := w.count("heartbeat") - heartbeats; n > 40 {
				t.Errorf("%d heartbeats in five minutes, with the TTL known", n)
			}
		})
	}
}

// TestCheckOutputIsConstant: a changed output is a raft write, and which containers are not ready changes.
func TestCheckOutputIsConstant(t *testing.T) {
	outputs := map[string]bool{}
	for _, names := range []string{"app", "logs"} {
		pod := gated(testPod(), gateOpen, contract.Registered)
		pod.Spec.Containers[0].Name, pod.Status.ContainerStatuses[0].Name = names, names
		s := newState(testIdentity)
		s.observePod(pod, nil, time.Now())
		outputs[newUpdateReadiness(s, s.instances[webID]).output] = true
	}
	if len(outputs) != 1 {
		t.Errorf("outputs %q of a critical check, want one", slices.Collect(maps.Keys(outputs)))
	}
}

// TestReadinessCheckOutput holds that a health that an annotation says is not told as the containers'.
func TestReadinessCheckOutput(t *testing.T) {
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		says string
	}{
		"critical by annotation": {ready(testPod("service-health", "critical"), true), "set by the pod's annotation agentlet.dev/service-health"},
		"warning by annotation":  {ready(testPod("service-health", "warning"), true), "set by the pod's annotation agentlet.dev/service-health"},
		"containers unready":     {testPod("gate", "registered"), "the pod's containers are not ready"},
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
			w.mu.Lock()
			entry := w.agent[webID]
			entry.checks = slices.DeleteFunc(slices.Clone(entry.checks), func(id string) bool { return strings.HasSuffix(id, check) })
			w.agent[webID] = entry
			w.mu.Unlock()
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
