package agentlet

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// failing makes these calls fail with err.
func failing(err error, calls ...string) func(string) error {
	return func(call string) error {
		if slices.Contains(calls, call) {
			return err
		}
		return nil
	}
}

// failingConsul makes all calls to Consul fail with err.
func failingConsul(err error) func(string) error {
	return func(call string) error {
		if toConsul(call) {
			return err
		}
		return nil
	}
}

// fails makes all calls to Consul fail from now on.
func (w *world) fails(err error) { w.setFail(failingConsul(err)) }

func (w *world) setFail(fail func(string) error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail = fail
}

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

func TestFailuresAreNotHurried(t *testing.T) {
	other := errors.New("500 rpc error")
	cases := map[string]struct {
		fail   func(string) error
		reason contract.Reason // of a gate that is closed by it; empty where it stays open
	}{
		"404 from whatever listens there": {failing(ErrAbsent, "leader", "instances", "changed", "catalog", "heartbeat", "readiness", "register"), contract.ConsulUnreachable},
		"the agent can't be read":         {failing(other, "instances"), contract.ConsulUnreachable},
		"it may not be read":              {failing(ErrRejected, "instances"), contract.RegistrationRejected},
		"the catalog can't be read":       {failing(other, "catalog"), contract.AwaitingCatalog},
		"watching fails":                  {failing(other, "changed"), ""},
		"watches are cut off":             {failing(ErrUnreachable, "changed"), ""},
		"heartbeats are cut off":          {failing(ErrUnreachable, "heartbeat"), ""},
		"beating fails":                   {failing(other, "heartbeat"), ""},
		"registering fails":               {failing(other, "register"), contract.RegistrationFailed},
		"nothing answers":                 {failing(ErrUnreachable, "leader", "instances", "changed", "catalog", "heartbeat", "readiness", "register"), contract.ConsulUnreachable},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.setFail(c.fail)
				r, _ := w.start(t)
				r.OnUpdate(ready(testPod(), true))
				after(10 * time.Second)
				w.expectNoHurry(t)
				if got := w.last(); c.reason != "" && got.Reason != string(c.reason) {
					t.Errorf("the gate says %s %q, want %s", got.Reason, got.Message, c.reason)
				}
				w.setFail(nil)
				after(time.Minute)
				if w.last().Status != corev1.ConditionTrue {
					t.Error("the gate stays closed though all is well")
				}
			})
		})
	}
}

// TestLostAnswers has calls hang for a moment in which what they wait for happens, as on a connection that is open at this end
// alone: their answers never come.
func TestLostAnswers(t *testing.T) {
	cases := map[string]struct {
		own     contract.Health // of the service's own check, until it changes
		calls   []string
		hang    time.Duration
		change  func(w *world)
		within  time.Duration
		righted func(w *world) bool
	}{
		"somebody edits the service while nothing answers": {
			contract.Passing,
			[]string{"leader", "instances", "changed", "catalog", "heartbeat", "readiness", "register"},
			50 * time.Second,
			func(w *world) {
				entry := w.agent[webID]
				entry.definition.Tags = []string{"edited"}
				w.agent[webID] = entry
			}, agentTimeout + backoffBreaking + time.Second, func(w *world) bool { return len(w.web().definition.Tags) == 0 },
		},
		"the catalog's word that the gate waits for": {
			contract.Critical,
			[]string{"catalog"},
			time.Second, func(w *world) { w.own = contract.Passing },
			readHang + waitMax + waitMax/16 + backoffAgent, func(w *world) bool { return w.last().Status == corev1.ConditionTrue },
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.own = c.own
				r, _ := w.start(t)
				r.OnUpdate(ready(testPod(), true))
				after(3 * time.Minute)
				w.setFail(failing(context.DeadlineExceeded, c.calls...))
				w.set(func() { c.change(w) })
				after(c.hang)
				if c.righted(w) {
					t.Fatal("nothing was lost")
				}
				w.setFail(nil)
				after(c.within)
				if !c.righted(w) {
					t.Errorf("not put right %s after the end", c.within)
				}
			})
		})
	}
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

// TestHungAgentIsRestarted has an agent hang for longer than events are held back, go away and come back.
func TestHungAgentIsRestarted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		_, _ = started(t, w, testPod("heartbeat-ttl", "5m", "deregister-after", "20m"))
		after(time.Minute)
		w.fails(context.DeadlineExceeded)
		after(2 * eventInterval)
		before := w.told()
		if !strings.HasSuffix(before, string(contract.ConsulUnreachable)+"!") {
			t.Fatalf("what was told is %q", before)
		}
		w.fails(ErrRefused)
		w.breakConnections()
		after(30 * time.Second)
		if told := w.told(); told != before {
			t.Errorf("the agent is away, and what was told is %q, before %q", told, before)
		}
		beats := w.count("heartbeat")
		w.setFail(nil)
		after(backoffAgent + time.Second)
		if w.count("heartbeat") == beats {
			t.Error("no heartbeat, though the agent is back")
		}
	})
}

// TestLateTogetherIsLateOnce: what two services' updates have waited for together is one lateness.
func TestLateTogetherIsLateOnce(t *testing.T) {
	late := func(s *state, generation int) {
		s.observeConn(updateHeartbeat{}.policy(), ErrLate, begun{lateGeneration: generation})
	}
	s := newState(testIdentity)
	s.conn = connection()
	late(s, 0)
	late(s, 0)
	if s.conn.unhealthy() {
		t.Error("two updates that were late together count twice")
	}
	late(s, 1)
	if !s.conn.unhealthy() {
		t.Error("two updates that were late, one after the other, count once")
	}
	s.observeConn(deregister{}.policy(), ErrAbsent, begun{})
	if s.conn.unhealthy() {
		t.Error("an answer to a removal, which waits for the same lock, says nothing")
	}
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

func TestRebootDoesNotOpenOnTheOldAddress(t *testing.T) {
	for _, mode := range []string{"passing", "registered"} {
		t.Run(mode, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				old := w.defined(testPod("gate", mode))
				old.Address = "10.1.0.4"
				w.agent[webID] = w.held(old)
				w.syncNow()
				w.sync = false
				rebooted := gated(ready(testPod("gate", mode), true), corev1.ConditionTrue, contract.Registered)
				rebooted.Status.Conditions[0].Message = "the catalog shows web at 10.1.0.4"
				r, _ := w.start(t)
				r.OnUpdate(rebooted)
				after(time.Minute)
				if got := w.last(); got.Status != corev1.ConditionFalse {
					t.Errorf("the gate says %v %s while the catalog has the old address", got.Status, got.Reason)
				}
			})
		})
	}
}

func TestStaleStatusAfterARebootIsNotBelieved(t *testing.T) {
	identity := testIdentity
	identity.PodIP = "10.1.0.9"
	s := newState(identity)
	s.observePod(gated(ready(testPod(), true), corev1.ConditionTrue, contract.Registered), nil, time.Now())
	if s.ready() || s.gate.open() {
		t.Errorf("ready %v, open %v by a status with another address, want neither", s.ready(), s.gate.open())
	}
	if got := s.instances[webID].want.Address; got != "10.1.0.9" {
		t.Errorf("address %s, want the container's own", got)
	}
	fresh := ready(testPod(), true)
	fresh.Status.PodIP = "10.1.0.9"
	s.observePod(fresh, nil, time.Now())
	if !s.ready() {
		t.Error("not ready by a status with the own address")
	}
}

func TestPodEnded(t *testing.T) {
	over := func(policy corev1.RestartPolicy, exit int32, phase corev1.PodPhase) func(*Registrar) {
		return func(r *Registrar) {
			pod := testPod()
			pod.Spec.RestartPolicy, pod.Status.Phase = policy, phase
			for i := range pod.Status.ContainerStatuses {
				pod.Status.ContainerStatuses[i].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: exit}}
			}
			r.OnUpdate(pod)
		}
	}
	for name, c := range map[string]struct {
		sign      func(r *Registrar)
		calledOff bool
		want      bool
	}{
		"the process alone":           {sign: func(*Registrar) {}},
		"the container alone":         {sign: (*Registrar).PreStop},
		"called off":                  {sign: (*Registrar).PreStop, calledOff: true},
		"deleted":                     {sign: func(r *Registrar) { r.OnUpdate(deleted(ready(testPod(), true))) }, want: true},
		"gone":                        {sign: (*Registrar).OnDelete, want: true},
		"finished":                    {sign: over(corev1.RestartPolicyNever, 1, corev1.PodFailed), want: true},
		"completed":                   {sign: over(corev1.RestartPolicyOnFailure, 0, corev1.PodRunning), want: true},
		"failed, to be started again": {sign: over(corev1.RestartPolicyOnFailure, 1, corev1.PodRunning)},
		"failed for good":             {sign: over(corev1.RestartPolicyNever, 1, corev1.PodRunning), want: true},
		"to be started again":         {sign: over(corev1.RestartPolicyAlways, 0, corev1.PodRunning)},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, ended := started(t, newWorld(), testPod())
				c.sign(r)
				if !c.calledOff {
					r.Terminate()
				}
				if err := <-ended; errors.Is(err, ErrTerminationAborted) != c.calledOff {
					t.Errorf("ended with %v", err)
				}
				if got := r.PodEnded(); got != c.want {
					t.Errorf("the pod has ended: %t, want %t", got, c.want)
				}
			})
		})
	}
}

func TestAnnouncedEndThatNeverComes(t *testing.T) {
	for name, c := range map[string]struct {
		sign      func(r *Registrar)
		calledOff bool
	}{
		"the kubelet's hook alone": {func(*Registrar) {}, true},
		"a deletion too":           {func(r *Registrar) { r.OnUpdate(deleted(ready(testPod(), true))) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				r, ended := started(t, w, testPod()) // its grace period is the default of 30 s
				r.PreStop()
				c.sign(r)
				after(59 * time.Second)
				select {
				case err := <-ended:
					t.Fatalf("ended within the grace period: %v", err)
				default:
				}
				after(2 * time.Second)
				select {
				case err := <-ended:
					if !c.calledOff || !errors.Is(err, ErrTerminationAborted) {
						t.Errorf("ended with %v", err)
					}
				default:
					if c.calledOff {
						t.Error("the pod is left without a registrar")
					}
				}
				if !c.calledOff {
					return
				}
				again, _ := w.start(t)
				again.OnUpdate(gated(ready(testPod(), true), corev1.ConditionFalse, contract.Draining))
				after(time.Second)
				if w.inCatalog(webID) != contract.Passing || w.last().Status != corev1.ConditionTrue {
					t.Errorf("the next start has it %q in the catalog, and the gate %s", w.inCatalog(webID), w.last().Status)
				}
			})
		})
	}
}

func TestNobodyRetriesInStep(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const pods = 50
		var mu sync.Mutex
		at := map[int64]int{} // requests by the tenth of a second
		began := time.Now()
		for range pods {
			w := newWorld()
			w.setFail(func(call string) error {
				if !toConsul(call) {
					return nil
				}
				mu.Lock()
				defer mu.Unlock()
				at[time.Since(began).Milliseconds()/100]++
				return ErrRefused
			})
			r, _ := w.start(t) // all of them in the same moment
			r.OnUpdate(ready(testPod(), true))
		}
		after(5 * time.Minute)
		mu.Lock()
		defer mu.Unlock()
		total, most := 0, 0
		for tenth, n := range at {
			if tenth > 1200 {
				total, most = total+n, max(most, n)
			}
		}
		t.Logf("%d pods made %d requests in the last minutes of an outage, at most %d in a tenth of a second", pods, total, most)
		// One in three seconds each, so fewer than two in a tenth of a second of all of them.
		if most > pods/4 || total == 0 {
			t.Errorf("%d of %d pods tried again in the same tenth of a second", most, pods)
		}
	})
}

func TestFailuresThatTakeTurnsAreToldOnceEach(t *testing.T) {
	var r retry
	s := newState(testIdentity)
	told := 0
	for i := range 100 {
		err := []error{errors.New("EOF"), errors.New("connection reset by peer")}[i%2]
		if r.isNew(err) {
			told++
		}
		finish(s, listServices{}, answers{err: err}, time.Now())
		r = s.retries[listServices{}.key()]
	}
	if told != 2 {
		t.Errorf("two failures that take turns were told %d times", told)
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

func TestAgentThatComesBackDuringTheEndIsCleanedUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		w.setFail(failing(ErrRefused, "leader", "instances", "changed", "catalog", "heartbeat", "readiness", "register", "deregister"))
		r.OnUpdate(deleted(ready(testPod(), true)))
		began := time.Now()
		r.Drain(t.Context(), time.Second)
		if took := time.Since(began); took > time.Second {
			t.Errorf("an agent that refuses was waited for: %s", took)
		}
		after(time.Second)
		w.setFail(nil)
		after(10 * time.Second)
		if _, there := w.entry(); there {
			t.Error("the instance stayed, though the agent came back while the application was ending")
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

// annotated is testPod with these annotations; an empty value removes the key.
func annotated(pairs []string) *corev1.Pod {
	pod := testPod(pairs...)
	for i := 0; i+1 < len(pairs); i += 2 {
		if pairs[i+1] == "" {
			delete(pod.Annotations, contract.Prefix+pairs[i])
		}
	}
	return pod
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

func TestContinuousPolicy(t *testing.T) {
	t.Run("an added service closes nothing", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld()
			w.syncs = 50 * time.Millisecond
			r, _ := started(t, w, testPod("gate-policy", "continuous"))
			r.OnUpdate(ready(testPod("gate-policy", "continuous", "service-names", "web,admin"), true))
			after(time.Second)
			for _, c := range w.conditions() {
				if c.Status != corev1.ConditionTrue {
					t.Errorf("the gate closed: %s %s", c.Reason, c.Message)
				}
			}
		})
	})
	for name, annotations := range map[string][]string{
		"a loss closes":                   {"gate-policy", "continuous"},
		"gate-timeout does not hide that": {"gate-policy", "continuous", "gate-timeout", "10s"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				started(t, w, testPod(annotations...))
				after(time.Minute)
				w.mu.Lock()
				w.sync = false
				delete(w.catalog, webID)
				w.touch()
				w.mu.Unlock()
				after(500 * time.Millisecond)
				if got := w.last(); got.Status != corev1.ConditionFalse || got.Reason != string(contract.CatalogLost) {
					t.Errorf("the gate says %v %s, want closed with CatalogLost", got.Status, got.Reason)
				}
			})
		})
	}
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

// TestReadingsBetweenChangesProveNothing is on the state alone: the order of the answers is what matters.
func TestReadingsBetweenChangesProveNothing(t *testing.T) {
	now := time.Now()
	s := newState(testIdentity)
	s.observePod(ready(testPod(), true), nil, now)
	s.conn = agentConn{phase: connected}
	asked := plan(s, now).work[listServices{}.key()]
	s.writeGeneration++ // a registration begins
	finish(s, asked, answers{observed: map[string]Observed{}}, now)
	if s.conn.listed {
		t.Error("a list that was asked for before a change was taken for what is there after it")
	}
	if again := plan(s, now).work[listServices{}.key()]; again == nil {
		t.Error("the agent is not asked again")
	}
}

func TestConditionsThatLagAreNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
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

func TestConditionTakenAwayComesBackWithTheCatalogsWord(t *testing.T) {
	for name, c := range map[string]struct {
		passing bool
		reason  contract.Reason
	}{
		"it still has the instance": {true, contract.Registered},
		"it has lost it meanwhile":  {false, contract.AwaitingCatalog},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				r, _ := started(t, w, testPod())
				seen := ready(testPod(), true)
				seen.Status.Conditions = []corev1.PodCondition{w.last()}
				r.OnUpdate(seen)
				after(time.Hour)
				w.mu.Lock()
				w.sync = false
				if !c.passing {
					delete(w.catalog, webID)
				}
				w.mu.Unlock()
				r.OnUpdate(ready(testPod(), true))
				after(1500 * time.Millisecond) // a closed gate's reason has to hold for a second
				if got := w.last(); len(w.conditions()) != 2 || got.Reason != string(c.reason) {
					t.Errorf("%d writes, the last one %s %s, want a second one, %s", len(w.conditions()), got.Status, got.Reason, c.reason)
				}
			})
		})
	}
}

func TestTransitionTimeIsKeptWhereTheStatusStays(t *testing.T) {
	earlier := metav1.NewTime(time.Now().Add(-time.Hour))
	current := &corev1.PodCondition{Status: corev1.ConditionTrue, LastTransitionTime: earlier}
	if got := (gateStatus{open: true}).condition(current, time.Now()).LastTransitionTime; !got.Equal(&earlier) {
		t.Errorf("True to True: %s, want %s", got, earlier)
	}
	if got := (gateStatus{}).condition(current, time.Now()).LastTransitionTime; got.Equal(&earlier) {
		t.Error("True to False kept the old time")
	}
}

func TestPortConflictKeepsTheGateClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := w.start(t)
		r.PortConflict(errors.New("address already in use"))
		r.OnUpdate(ready(testPod(), true))
		after(5 * time.Second)
		if got := w.last(); got.Status != corev1.ConditionFalse || got.Reason != string(contract.PortConflict) {
			t.Errorf("the gate says %v %s, want closed with PortConflict", got.Status, got.Reason)
		}
		r.PortConflict(nil)
		after(time.Second)
		if w.last().Status != corev1.ConditionTrue {
			t.Error("the gate stays closed though the port is open")
		}
	})
}

func TestNotReady(t *testing.T) {
	always := corev1.ContainerRestartPolicyAlways
	pod := &corev1.Pod{
		Spec: corev1.PodSpec{
			InitContainers: []corev1.Container{
				{Name: contract.ContainerName, RestartPolicy: &always}, {Name: "proxy", RestartPolicy: &always}, {Name: "setup"},
			},
			Containers: []corev1.Container{{Name: "app"}, {Name: "logs"}},
		},
	}
	status := func(name string) corev1.ContainerStatus { return corev1.ContainerStatus{Name: name, Ready: true} }
	cases := map[string]struct {
		init, main []corev1.ContainerStatus
		exclude    []string
		want       string
	}{
		"nothing is known yet":            {nil, nil, nil, "proxy app logs"},
		"native sidecars count":           {nil, []corev1.ContainerStatus{status("app"), status("logs")}, nil, "proxy"},
		"the agentlet itself doesn't":     {[]corev1.ContainerStatus{status("proxy")}, []corev1.ContainerStatus{status("app"), status("logs")}, nil, ""},
		"nor do init containers that end": {[]corev1.ContainerStatus{status("proxy")}, []corev1.ContainerStatus{status("app"), status("logs")}, nil, ""},
		"nor do excluded ones":            {[]corev1.ContainerStatus{status("proxy")}, []corev1.ContainerStatus{status("app")}, []string{"logs"}, ""},
	}
	for name, c := range cases {
		pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses = c.init, c.main
		s := newState(testIdentity)
		s.pod, s.reg = pod, &registration.Registration{Settings: registration.Settings{Exclude: c.exclude}}
		if got := strings.Join(s.notReady(), " "); got != c.want {
			t.Errorf("%s: %q is not ready, want %q", name, got, c.want)
		}
	}
}

func TestDrainBudget(t *testing.T) {
	seconds := func(n int64) *int64 { return &n }
	cases := map[string]struct {
		spec, live           *int64
		settings             registration.Settings
		timeout, delay, most time.Duration
	}{
		"the default grace period":    {nil, nil, registration.Settings{DrainDelay: 5 * time.Second}, 10 * time.Second, 5 * time.Second, 20 * time.Second},
		"a third of a short one":      {seconds(9), nil, registration.Settings{}, 3 * time.Second, 0, 6 * time.Second},
		"the deletion's is the live":  {seconds(60), seconds(6), registration.Settings{}, 2 * time.Second, 0, 4 * time.Second},
		"an annotation, within limit": {seconds(30), nil, registration.Settings{DrainTimeout: time.Minute}, 20 * time.Second, 0, 20 * time.Second},
	}
	for name, c := range cases {
		s := newState(testIdentity)
		s.pod = testPod()
		s.pod.Spec.TerminationGracePeriodSeconds, s.pod.DeletionGracePeriodSeconds = c.spec, c.live
		s.reg = &registration.Registration{Settings: c.settings}
		timeout, delay, most := s.drainBudget()
		if timeout != c.timeout || delay != c.delay || most != c.most {
			t.Errorf("%s: %s, %s, at most %s, want %s, %s, %s", name, timeout, delay, most, c.timeout, c.delay, c.most)
		}
	}
}

func TestDefineAimsAtThePod(t *testing.T) {
	reg := &registration.Registration{Services: []registration.Service{{
		Name: "web", Port: 80, Address: registration.HostIP,
		TaggedAddresses: map[string]registration.TaggedAddress{"lan": {Address: registration.PodIP, Port: 80}},
		Checks: []registration.Check{
			{HTTP: "http://:8080/health"}, {TCP: ":6379"}, {GRPC: ":9090/web"},
		},
	}}}
	for ip, want := range map[string][4]string{
		"10.1.0.5": {"10.1.0.5", "http://10.1.0.5:8080/health", "10.1.0.5:6379", "10.1.0.5:9090/web"},
		"fd00::5":  {"fd00::5", "http://[fd00::5]:8080/health", "[fd00::5]:6379", "[fd00::5]:9090/web"},
	} {
		d := define(testIdentity, ip, "", reg)[0]
		if d.Address != testIdentity.HostIP || d.TaggedAddresses["lan"].Address != want[0] {
			t.Errorf("addresses %s and %v", d.Address, d.TaggedAddresses)
		}
		if got := [4]string{want[0], d.Checks[0].HTTP, d.Checks[1].TCP, d.Checks[2].GRPC}; got != want {
			t.Errorf("checks %q, want %q", got, want)
		}
	}
	if reg.Services[0].Checks[0].HTTP != "http://:8080/health" {
		t.Error("the registration itself was changed")
	}
}

func TestDualStack(t *testing.T) {
	tagged := func(tag, address string) map[string]registration.TaggedAddress {
		return map[string]registration.TaggedAddress{tag: {Address: address, Port: 8080}}
	}
	own := []string{"service-names", "", "service-port", "", "services", "[{name: web, port: 8080, tagged_addresses: {lan_ipv6: {address: '${POD_IP}'}}}]"}
	node := []string{"service-names", "", "service-port", "", "services", "[{name: web, port: 8080, address: '${HOST_IP}'}]"}
	cases := map[string]struct {
		annotations, ips []string
		want             map[string]registration.TaggedAddress
	}{
		"one family":                     {nil, []string{"10.1.0.5"}, nil},
		"IPv4 first":                     {nil, []string{"10.1.0.5", "fd00::5"}, tagged("lan_ipv6", "fd00::5")},
		"IPv6 first":                     {nil, []string{"fd00::5", "10.1.0.5"}, tagged("lan_ipv4", "10.1.0.5")},
		"the pod's own word":             {own, []string{"10.1.0.5", "fd00::5"}, tagged("lan_ipv6", "10.1.0.5")},
		"at the node's address":          {node, []string{"10.1.0.5", "fd00::5"}, nil},
		"a status of before the restart": {nil, []string{"10.1.0.4", "fd00::4"}, nil},
	}
	for name, c := range cases {
		identity := testIdentity
		identity.PodIP = c.ips[0]
		if c.ips[0] == "10.1.0.4" {
			identity.PodIP = "10.1.0.5"
		}
		pod := annotated(c.annotations)
		pod.Status.PodIP, pod.Status.PodIPs = c.ips[0], nil
		for _, ip := range c.ips {
			pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
		}
		s := newState(identity)
		s.observePod(pod, nil, time.Now())
		if got := s.instances[webID].want.TaggedAddresses; !maps.Equal(got, c.want) {
			t.Errorf("%s: tagged addresses %v, want %v", name, got, c.want)
		}
	}
}

func TestDrainEndsWithItsCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		began := time.Now()
		if r.Drain(ctx, time.Hour) || time.Since(began) > 0 {
			t.Error("a caller that has gone was waited for")
		}
	})
}

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

// TestLateUpdatesAreNotAnAgentThatIsAway has the agent keep its updates waiting for ten minutes, and answer everything else.
func TestLateUpdatesAreNotAnAgentThatIsAway(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		_, _ = started(t, w, testPod())
		after(time.Minute)
		w.setFail(failing(context.DeadlineExceeded, "heartbeat", "readiness"))
		inspections, leaders, watches, beats := w.count("instances"), w.count("leader"), w.count("changed"), w.count("heartbeat")
		after(10 * time.Minute)
		if n := w.count("instances") - inspections; n > 0 {
			t.Errorf("the agent's instances were read %d times, though it has only been slow to write", n)
		}
		tries := w.count("heartbeat") - beats
		if tries < 20 || tries > 61 {
			t.Errorf("%d beats in ten minutes, want one after the other, each with the time until the next is due", tries)
		}
		if n := w.count("leader") - leaders; n > 0 {
			t.Errorf("the agent was asked %d times whether it is there, which the next heartbeat will show", n)
		}
		if told := w.told(); !strings.HasSuffix(told, string(contract.ConsulUnreachable)+"!") {
			t.Errorf("%d late heartbeats in a row, and what was told is %q", tries, told)
		}
		if w.count("changed")-watches < 20 {
			t.Error("the watch stays on a connection that may be gone")
		}
		if got := w.last(); got.Status != corev1.ConditionTrue {
			t.Errorf("the gate says %s %q", got.Reason, got.Message)
		}
		w.setFail(nil)
		after(30 * time.Second)
		if got := w.inCatalog(webID); got != contract.Passing {
			t.Errorf("the catalog says %q after the agent is quick again", got)
		}
		if told := w.told(); !strings.HasSuffix(told, string(contract.Registered)) {
			t.Errorf("the agent is quick again, and what was told is %q", told)
		}
	})
}
