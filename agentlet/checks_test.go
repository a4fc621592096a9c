package agentlet

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestQuietHour(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		started(t, w, testPod())
		after(time.Minute)
		index, gates, beats := w.at(), w.count("gate"), w.count("heartbeat")
		after(time.Hour)
		if w.at() != index {
			t.Errorf("the catalog was written %d times in a quiet hour", w.at()-index)
		}
		if n := w.count("gate") - gates; n != 0 {
			t.Errorf("%d writes to the API server in a quiet hour", n)
		}
		if n := w.count("heartbeat") - beats; n < 360 || n > 420 {
			t.Errorf("%d beats in an hour, want one each 9 to 10 seconds", n)
		}
	})
}

func TestReadinessReachesConsulAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		for _, yes := range []bool{false, true, false, true} {
			r.OnUpdate(ready(testPod(), yes))
			after(10 * time.Millisecond)
			want := contract.Critical
			if yes {
				want = contract.Passing
			}
			if got := w.inCatalog(webID); got != want {
				t.Errorf("ready=%v: the catalog says %q, want %q", yes, got, want)
			}
		}
		if w.last().Status != corev1.ConditionTrue {
			t.Error("an unready pod closed the gate, which its containers' readiness covers already")
		}
	})
}

// TestLostUpdateIsMissedSoonThoughBeatsAreRare has the answer to an update never come.
func TestLostUpdateIsMissedSoonThoughBeatsAreRare(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod("heartbeat-ttl", "1h", "deregister-after", "2h"))
		w.setFail(failing(context.DeadlineExceeded, "readiness"))
		r.OnUpdate(ready(testPod("heartbeat-ttl", "1h", "deregister-after", "2h"), false))
		after(time.Second)
		w.setFail(nil)
		after(waitMax + time.Second)
		if got := w.inCatalog(webID); got != contract.Critical {
			t.Errorf("the catalog says %q of a pod that is not ready", got)
		}
	})
}

// TestLateUpdateTakenAfterAll has the agent take a change that was given up, and taken back, meanwhile: before it hears of the
// newer state, and after that.
func TestLateUpdateTakenAfterAll(t *testing.T) {
	for name, overtaking := range map[string]time.Duration{"before": 0, "after": 500 * time.Millisecond} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
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
				if got := w.inCatalog(webID); got != contract.Passing {
					t.Errorf("the catalog says %q of a ready pod", got)
				}
			})
		})
	}
}

func TestRestartThatKnowsNoWishesKeepsWhatIsThereAlive(t *testing.T) {
	for name, pod := range map[string]*corev1.Pod{
		"the API server is away":  nil,
		"invalid annotations":     gated(ready(testPod("heartbeat-ttl", "soon"), true), corev1.ConditionTrue, contract.Registered),
		"no IP in a stale status": func() *corev1.Pod { p := ready(testPod(), true); p.Status.PodIP = ""; return p }(),
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.agent[webID] = w.held(w.defined(testPod()))
				w.syncNow()
				r, _ := w.start(t)
				if pod != nil {
					r.OnUpdate(pod)
				}
				after(5 * time.Minute)
				// The shortest TTL that there may be is contract.MinHeartbeatTTL.
				if n := w.count("heartbeat"); n < 300 || n > 400 {
					t.Errorf("%d beats in five minutes, want one a second", n)
				}
				if w.inCatalog(webID) != contract.Passing || w.count("register")+w.count("deregister")+w.count("readiness") > 0 {
					t.Error("what an earlier agentlet had put did not stay as it was")
				}
				beats := w.count("heartbeat")
				r.OnUpdate(gated(ready(testPod(), true), corev1.ConditionTrue, contract.Registered))
				after(5 * time.Minute)
				if n := w.count("heartbeat") - beats; n > 40 {
					t.Errorf("%d beats in five minutes, with the TTL known", n)
				}
			})
		})
	}
}

// TestCheckOutputIsConstant: a changed output is a raft write, and which containers are not ready changes.
func TestCheckOutputIsConstant(t *testing.T) {
	outputs := map[string]bool{}
	for _, names := range []string{"app", "logs"} {
		pod := gated(testPod(), corev1.ConditionTrue, contract.Registered)
		pod.Spec.Containers[0].Name, pod.Status.ContainerStatuses[0].Name = names, names
		s := newState(testIdentity)
		s.observePod(pod, nil, time.Now())
		outputs[newUpdateReadiness(s, s.instances[webID]).output] = true
	}
	if len(outputs) != 1 {
		t.Errorf("outputs %q of a critical check, want one", slices.Collect(maps.Keys(outputs)))
	}
}

// TestFixedHealthIsTold holds that a health that an annotation says is not told as the containers'.
func TestFixedHealthIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		says string
	}{
		"critical by annotation": {ready(testPod("service-health", "critical"), true), "set by the pod's annotation agentlet.dev/service-health"},
		"warning by annotation":  {ready(testPod("service-health", "warning"), true), "set by the pod's annotation agentlet.dev/service-health"},
		"containers unready":     {testPod("gate", "registered"), "the pod's containers are not ready"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				r, _ := w.start(t)
				r.OnUpdate(c.pod)
				after(5 * time.Minute)
				if got := w.web().output; got != c.says {
					t.Errorf("the readiness check says %q, want %q", got, c.says)
				}
			})
		})
	}
}

func TestUnreadyPodIsNeverReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		r.OnUpdate(ready(testPod(), false))
		beats, registrations := w.count("heartbeat"), w.count("register")
		after(10 * time.Minute)
		if e := w.web(); e.heartbeat != contract.Passing || e.readiness != contract.Critical {
			t.Errorf("the heartbeat is %s and the readiness %s", e.heartbeat, e.readiness)
		}
		if n := w.count("heartbeat") - beats; n < 58 || w.count("register") != registrations {
			t.Errorf("%d beats and %d registrations in ten unready minutes", n, w.count("register")-registrations)
		}
	})
}

func TestRemovedCheckIsPutBackAtTheNextBeat(t *testing.T) {
	for _, check := range []string{"heartbeat", "readiness"} {
		t.Run(check, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
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
		})
	}
}
