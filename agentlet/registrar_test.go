package agentlet

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// started brings a pod to an open gate and returns its registrar.
func started(t *testing.T, w *world, pod *corev1.Pod) (*Registrar, <-chan error) {
	t.Helper()
	r, ended := w.start(t)
	r.OnUpdate(pod)
	synctest.Wait()
	r.OnUpdate(ready(pod, true))
	time.Sleep(w.syncs + 100*time.Millisecond)
	synctest.Wait()
	if got := w.last(); got.Status != corev1.ConditionTrue || got.Reason != string(contract.Registered) {
		t.Fatalf("the gate is %v %s (%s), want open", got.Status, got.Reason, got.Message)
	}
	return r, ended
}

// after lets virtual time pass and everything settle.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestGateOpensWhenTheCatalogShowsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.syncs = 300 * time.Millisecond
		r, _ := w.start(t)
		r.OnUpdate(testPod())
		after(0)
		if n := w.count("register"); n != 0 {
			t.Errorf("registered %d times before the containers were ready", n)
		}
		r.OnUpdate(ready(testPod(), true))
		after(299 * time.Millisecond)
		if len(w.conditions()) != 0 {
			t.Errorf("written before the catalog had it: %+v", w.conditions())
		}
		after(2 * time.Millisecond)
		if w.last().Status != corev1.ConditionTrue {
			t.Errorf("the gate is %+v, want open", w.last())
		}
		if n := len(w.conditions()); n != 1 {
			t.Errorf("%d writes for a pod that starts in a moment, want 1: %+v", n, w.conditions())
		}
	})
}

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

func TestDrainOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.syncs = 200 * time.Millisecond
		r, ended := started(t, w, testPod())
		began := time.Now()
		r.OnUpdate(deleted(ready(testPod(), true)))
		answered := make(chan time.Duration, 1)
		go func() {
			if !r.Drain(context.Background(), time.Second) {
				t.Error("the hook was not held")
			}
			answered <- time.Since(began)
		}()
		after(201 * time.Millisecond)
		if got := w.inCatalog(webID); got != "" {
			t.Errorf("still in the catalog: %s", got)
		}
		if took := <-answered; took < 5200*time.Millisecond || took > 5300*time.Millisecond {
			t.Errorf("the hook was answered after %s, want the catalog's 200ms and drain-delay's 5s", took)
		}
		r.Terminate()
		if err := <-ended; err != nil {
			t.Errorf("Run = %v, want nil", err)
		}
	})
}

// TestTermination is the table of design: which signs of the end start the drain, and what /drain does without one.
func TestTermination(t *testing.T) {
	cases := map[string]struct {
		sign   func(*Registrar)
		drains bool
	}{
		"deletionTimestamp":              {func(r *Registrar) { r.OnUpdate(deleted(ready(testPod(), true))) }, true},
		"own preStop, API unknown":       {func(r *Registrar) { r.PreStop() }, true},
		"SIGTERM, API unknown":           {func(r *Registrar) { r.Terminate() }, true},
		"the pod is gone":                {func(r *Registrar) { r.OnDelete() }, true},
		"a successor has the name":       {func(r *Registrar) { p := testPod(); p.UID = "other"; r.OnUpdate(p) }, true},
		"evicted: the phase is Failed":   {func(r *Registrar) { p := ready(testPod(), true); p.Status.Phase = corev1.PodFailed; r.OnUpdate(p) }, true},
		"/drain alone, API unknown":      {func(*Registrar) {}, false},
		"/drain and a container unready": {func(r *Registrar) { r.OnUpdate(ready(testPod(), false)) }, false},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				r, _ := started(t, w, testPod())
				began := time.Now()
				c.sign(r)
				drained := r.Drain(t.Context(), time.Second)
				took := time.Since(began)
				if drained != c.drains {
					t.Fatalf("Drain = %v, want %v", drained, c.drains)
				}
				_, there := w.entry()
				switch {
				case c.drains && there:
					t.Error("the hook was answered with the instance still at the agent")
				case !c.drains && !there:
					t.Error("deregistered without a sign of the end")
				case !c.drains && took > 1100*time.Millisecond:
					t.Errorf("a container that restarts alone was held for %s", took)
				}
			})
		})
	}
}

func TestDrainIsBounded(t *testing.T) {
	grace := func(seconds int64, annotations ...string) *corev1.Pod {
		pod := testPod(annotations...)
		pod.Spec.TerminationGracePeriodSeconds = &seconds
		return pod
	}
	hang := func(string) error { return context.DeadlineExceeded }
	cases := map[string]struct {
		pod      *corev1.Pod
		fail     func(string) error
		min, max time.Duration
	}{
		"refused: no wait":                       {grace(30), func(string) error { return ErrRefused }, 0, 100 * time.Millisecond},
		"hanging: drain-timeout and drain-delay": {grace(60), hang, 15 * time.Second, 15100 * time.Millisecond},
		"hanging, short grace: two thirds of it": {grace(9), hang, 6 * time.Second, 6100 * time.Millisecond},
		"hanging, own drain-timeout":             {grace(60, "drain-timeout", "2s", "drain-delay", "0s"), hang, 2 * time.Second, 2100 * time.Millisecond},
		"a delay beyond the grace period":        {grace(30, "drain-delay", "10m"), nil, 20 * time.Second, 20100 * time.Millisecond},
		"grace 0":                                {grace(0), hang, 0, 100 * time.Millisecond},
		"the agent answers 500":                  {grace(30, "drain-delay", "0s"), func(string) error { return errors.New("500") }, 10 * time.Second, 10100 * time.Millisecond},
		"the catalog hangs":                      {grace(30, "drain-delay", "0s"), failing(context.DeadlineExceeded, "catalog"), 10 * time.Second, 10100 * time.Millisecond},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				r, _ := started(t, w, c.pod)
				w.setFail(c.fail)
				began := time.Now()
				r.OnUpdate(deleted(ready(c.pod, true)))
				if !r.Drain(t.Context(), time.Second) {
					t.Fatal("the hook was not held to the end of the drain")
				}
				if took := time.Since(began); took < c.min || took > c.max {
					t.Errorf("drained after %s, want %s to %s", took, c.min, c.max)
				}
			})
		})
	}
}

func TestDrainTakesOutWhatAnEarlierAgentletLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.agent[webID] = w.held(w.defined(testPod()))
		w.syncNow()
		r, _ := w.start(t)
		r.PreStop() // before the pod or the agent was seen
		if !r.Drain(t.Context(), time.Second) {
			t.Fatal("the hook was not held")
		}
		if got := w.inCatalog(webID); got != "" {
			t.Errorf("the hook was answered with the instance still in the catalog: %s", got)
		}
	})
}

func TestDrainWaitsForARegistrationUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.slow = map[string]time.Duration{"register": 300 * time.Millisecond}
		r, _ := w.start(t)
		r.OnUpdate(ready(testPod(), true))
		after(100 * time.Millisecond)
		r.OnUpdate(deleted(ready(testPod(), true)))
		r.Drain(t.Context(), time.Second)
		after(time.Minute)
		if _, there := w.entry(); there {
			t.Error("a registration overtook the removal and stayed")
		}
	})
}

func TestJobCompletesWithoutDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		pod := ready(testPod(), false)
		pod.Status.ContainerStatuses[0].State = corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
		r.OnUpdate(pod)
		began := time.Now()
		r.PreStop()
		r.Drain(t.Context(), time.Second)
		if took := time.Since(began); took > time.Second {
			t.Errorf("a finished application was waited for: %s", took)
		}
	})
}

func TestForgottenInstanceIsPutBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		started(t, w, testPod())
		after(time.Second)
		w.set(func() { delete(w.agent, webID) })
		after(time.Second)
		if w.inCatalog(webID) != contract.Passing {
			t.Error("someone's deregistration was not put right within a second")
		}
		w.set(func() {
			entry := w.agent[webID]
			entry.definition.Tags = []string{"edited"}
			w.agent[webID] = entry
		})
		after(time.Second)
		if tags := w.web().definition.Tags; len(tags) != 0 {
			t.Errorf("someone's edit was not put right within a second: tags %q", tags)
		}
	})
}

func TestAgentRestart(t *testing.T) {
	for name, lose := range map[string]bool{"data kept": false, "data lost": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				started(t, w, testPod())
				after(time.Second)
				w.set(func() {
					w.fail = failingConsul(ErrRefused)
					if lose {
						clear(w.agent)
					} else {
						entry := w.agent[webID]
						entry.heartbeat = contract.Critical
						w.agent[webID] = entry
					}
				})
				calls := w.total()
				after(2 * time.Minute)
				if n := w.total() - calls; n > 120 {
					t.Errorf("%d requests in two minutes of outage, want at most one a second", n)
				}
				w.set(func() { w.fail, w.leader = nil, false })
				registered := w.count("register")
				after(30 * time.Second)
				if lose && w.count("register") != registered {
					t.Error("registered with an agent that has no cluster leader")
				}
				w.set(func() { w.leader = true })
				after(5 * time.Second)
				if got := w.inCatalog(webID); got != contract.Passing {
					t.Errorf("5s after the leader's return the catalog says %q", got)
				}
				if n := len(w.conditions()); n != 1 {
					t.Errorf("the outage wrote the gate %d times, want the one opening", n)
				}
			})
		})
	}
}

// TestAgentThatIsBackIsToldAtOnce: the heartbeats that nobody heard slow down nothing afterwards, however they were spread.
func TestAgentThatIsBackIsToldAtOnce(t *testing.T) {
	for range 20 {
		synctest.Test(t, agentThatIsBack)
	}
}

func agentThatIsBack(t *testing.T) {
	w := newWorld()
	r, _ := started(t, w, testPod())
	after(time.Second)
	w.set(func() { w.fail = failingConsul(ErrRefused) })
	beats := w.count("heartbeat")
	after(2 * time.Minute)
	if n := w.count("heartbeat") - beats; n < 6 || n > 30 {
		t.Errorf("%d beats in two minutes of outage, want one each ten seconds or so", n)
	}
	r.OnUpdate(gated(ready(testPod(), false), corev1.ConditionTrue, contract.Registered))
	after(10 * time.Second)
	w.set(func() { w.fail = nil })
	after(backoffAgent + time.Second)
	if got := w.inCatalog(webID); got != contract.Critical {
		t.Errorf("after the agent's return the catalog says %q of a pod that became unready meanwhile", got)
	}
}

func (w *world) total() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, count := range w.calls {
		n += count
	}
	return n
}

// expectNoHurry waits for two minutes of a trouble that lasts: nothing hurries, and nobody is told the same thing again.
func (w *world) expectNoHurry(t *testing.T) {
	t.Helper()
	calls, writes := w.total(), len(w.conditions())
	after(2 * time.Minute)
	if n := w.total() - calls; n > 120 {
		t.Errorf("%d calls in two minutes, want at most one a second", n)
	}
	if n := len(w.conditions()) - writes; n > 0 {
		t.Errorf("the same reason was written %d times more", n)
	}
}

func TestLaggingCatalogIsNudgedWithAChangedDefinition(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.sync = false
		r, _ := w.start(t)
		r.OnUpdate(ready(testPod(), true))
		after(500 * time.Millisecond)
		first := w.web().definition.Meta[contract.MetaSyncGeneration]
		after(2 * time.Second)
		second := w.web().definition.Meta[contract.MetaSyncGeneration]
		if first != "" || second == "" {
			t.Errorf("nudge %q, then %q: want none, then one", first, second)
		}
		if got := w.last(); got.Reason != string(contract.AwaitingCatalog) {
			t.Errorf("the closed gate says %q, want AwaitingCatalog", got.Reason)
		}
		after(10 * time.Minute)
		if n := w.count("register"); n > 60 {
			t.Errorf("%d registrations in ten minutes, want a backoff", n)
		}
		w.set(func() { w.sync = true })
		after(time.Second)
		if w.last().Status != corev1.ConditionTrue {
			t.Error("the gate stays closed though the catalog has it")
		}
	})
}

func TestOwnCheckThatFailsIsNotNudged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.own = contract.Critical
		r, _ := w.start(t)
		r.OnUpdate(ready(testPod(), true))
		after(time.Minute)
		if n := w.count("register"); n != 1 {
			t.Errorf("registered %d times while the service's own check failed, want once", n)
		}
		if got := w.last(); got.Reason != string(contract.AwaitingCatalog) || !strings.Contains(got.Message, "failing checks: web: own") {
			t.Errorf("the closed gate says %q %q, want AwaitingCatalog and the check's name", got.Reason, got.Message)
		}
		w.set(func() { w.own = contract.Passing })
		after(time.Second)
		if w.last().Status != corev1.ConditionTrue {
			t.Error("the gate stays closed though the service's own check passes")
		}
	})
}

func TestRestartAdoptsAndKeepsTheGateOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.agent[webID] = w.held(w.defined(testPod()))
		w.syncNow()
		r, _ := w.start(t)
		r.OnUpdate(gated(ready(testPod(), true), corev1.ConditionTrue, contract.Registered))
		after(5 * time.Second)
		if n := w.count("register"); n != 0 {
			t.Errorf("an instance that is as it should be was registered %d times", n)
		}
		for _, c := range w.conditions() {
			if c.Status != corev1.ConditionTrue {
				t.Errorf("the restart closed the gate: %+v", c)
			}
		}
		if w.count("heartbeat") == 0 {
			t.Error("no heartbeat after the restart")
		}
	})
}

func TestRebootClosesTheGateUntilTheNewAddressIsThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		old := w.defined(testPod())
		old.Address = "10.1.0.4"
		w.agent[webID] = w.held(old)
		w.syncNow()
		r, _ := w.start(t)
		rebooted := gated(testPod(), corev1.ConditionTrue, contract.Registered)
		rebooted.Status.Conditions[0].Message = "the catalog shows web at 10.1.0.4"
		r.OnUpdate(rebooted)
		after(2 * time.Second)
		if got := w.last(); got.Status != corev1.ConditionFalse {
			t.Errorf("the gate says %+v with the old address in Consul, want closed", got)
		}
		r.OnUpdate(gated(ready(testPod(), true), corev1.ConditionFalse, contract.ContainersNotReady))
		after(time.Second)
		if got := w.web().definition.Address; got != "10.1.0.5" {
			t.Errorf("the agent has address %s", got)
		}
		if got := w.last(); got.Status != corev1.ConditionTrue {
			t.Errorf("the gate says %+v, want open", got)
		}
	})
}

// held is an entry of a definition that was put before the test, passing.
func (w *world) held(d Definition) agentEntry {
	return agentEntry{definition: d, readiness: contract.Passing, heartbeat: contract.Passing, checks: d.checkIDs()}
}

// defined is the first definition that a pod asks for.
func (w *world) defined(pod *corev1.Pod) Definition {
	s := newState(testIdentity)
	s.observePod(pod, nil, time.Now())
	return *s.instances[webID].want
}

func TestRegisteredModeOpensBeforeTheContainersAreReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := w.start(t)
		r.OnUpdate(testPod("gate", "registered"))
		after(100 * time.Millisecond)
		if w.last().Status != corev1.ConditionTrue || w.inCatalog(webID) != contract.Critical {
			t.Errorf("gate %v, catalog %q, want open and critical", w.last().Status, w.inCatalog(webID))
		}
		r.OnUpdate(ready(testPod("gate", "registered"), true))
		after(100 * time.Millisecond)
		if w.inCatalog(webID) != contract.Passing {
			t.Errorf("catalog %q, want passing", w.inCatalog(webID))
		}
	})
}

func TestGateModes(t *testing.T) {
	for name, c := range map[string]struct {
		annotations []string
		sync        bool
		status      corev1.ConditionStatus
		reason      contract.Reason
	}{
		"off opens a gate that is there":     {[]string{"gate", "off"}, true, corev1.ConditionTrue, contract.Registered},
		"fixed health opens with it":         {[]string{"service-health", "warning"}, true, corev1.ConditionTrue, contract.Registered},
		"gate-timeout opens anyway":          {[]string{"gate-timeout", "10s"}, false, corev1.ConditionTrue, contract.TimedOut},
		"without gate-timeout it never does": {nil, false, corev1.ConditionFalse, contract.AwaitingCatalog},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.sync = c.sync
				r, _ := w.start(t)
				r.OnUpdate(ready(testPod(c.annotations...), true))
				after(20 * time.Second)
				if got := w.last(); got.Status != c.status || got.Reason != string(c.reason) {
					t.Errorf("the gate says %q %q, want %q %q", got.Status, got.Reason, c.status, c.reason)
				}
			})
		})
	}
}

func TestAnnotationsAreFollowedLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		r.OnUpdate(ready(testPod("service-tags", "a,b", "service-names", "web,admin"), true))
		after(time.Second)
		if tags := strings.Join(w.web().definition.Tags, " "); tags != "a b" {
			t.Errorf("tags %q, want the new ones", tags)
		}
		admin := contract.ServiceID("shop", "web-1", testUID, "admin")
		if w.inCatalog(admin) != contract.Passing {
			t.Error("the added service is not there")
		}
		r.OnUpdate(ready(testPod("service-names", "web", "heartbeat-ttl", "soon"), true))
		after(2 * time.Second)
		if got := w.last(); got.Reason != string(contract.InvalidConfiguration) || got.Status != corev1.ConditionTrue {
			t.Errorf("after an invalid change the gate says %v %s, want open with InvalidConfiguration", got.Status, got.Reason)
		}
		if w.inCatalog(admin) != contract.Passing {
			t.Error("an invalid change lost the last valid registration")
		}
		r.OnUpdate(ready(testPod(), true))
		after(time.Second)
		if _, there := w.agent[admin]; there {
			t.Error("the removed service is still there")
		}
	})
}

func serviceGlobs(t *testing.T, text string) registration.Globs {
	t.Helper()
	return mustGlobs(t, registration.ParseServiceGlobs, text)
}

func tagGlobs(t *testing.T, text string) registration.Globs {
	t.Helper()
	return mustGlobs(t, registration.ParseTagGlobs, text)
}

func mustGlobs(t *testing.T, parse func(text, source string) (registration.Globs, error), text string) registration.Globs {
	t.Helper()
	globs, err := parse(text, "of a test")
	if err != nil {
		t.Fatal(err)
	}
	return globs
}

// TestAPodThatBecomesConsulIsNotFollowed: the name is refused whatever is allowed, and also of a pod that runs.
func TestAPodThatBecomesConsulIsNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		r.OnUpdate(ready(testPod("service-names", "Consul"), true))
		after(2 * time.Second)
		if got := w.last(); got.Reason != string(contract.InvalidConfiguration) || !strings.Contains(got.Message, "Consul's own servers") {
			t.Errorf("the gate says %s: %s", got.Reason, got.Message)
		}
		if len(w.agent) != 1 || w.inCatalog(webID) != contract.Passing {
			t.Errorf("%d instances at the agent", len(w.agent))
		}
	})
}

func TestTagsThatAreNotAllowedAreNotFollowed(t *testing.T) {
	labelled := func(role string) *corev1.Pod {
		pod := ready(testPod("tags-from-labels", "role"), true)
		pod.Labels = map[string]string{"role": role}
		return pod
	}
	structured := ready(testPod("services", "- {name: web, port: 8080, tags: [v2, urlprefix-/]}"), true)
	delete(structured.Annotations, contract.ServiceNames)
	delete(structured.Annotations, contract.ServicePort)
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		says string
	}{
		"flat":       {ready(testPod("service-tags", "v2,urlprefix-/"), true), `service-tags]: Forbidden: tag "urlprefix-/"`},
		"from label": {labelled("urlprefix-"), `tag "urlprefix-" (the value of label role)`},
		"structured": {structured, `services][0].tags[1]: Forbidden: tag "urlprefix-/"`},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.allowed.Tags = tagGlobs(t, "!urlprefix-*")
				r, _ := started(t, w, testPod("service-tags", "v1"))
				r.OnUpdate(test.pod)
				after(2 * time.Second)
				got := w.last()
				if got.Reason != string(contract.InvalidConfiguration) || got.Status != corev1.ConditionTrue ||
					!strings.Contains(got.Message, test.says) || !strings.Contains(got.Message, "may not register urlprefix-* (of a test)") {
					t.Errorf("the gate says %v %s: %s", got.Status, got.Reason, got.Message)
				}
				if tags := w.web().definition.Tags; w.inCatalog(webID) != contract.Passing || !slices.Equal(tags, []string{"v1"}) {
					t.Errorf("the last valid registration did not stay as it was: %q", tags)
				}
				r.OnUpdate(labelled("v3"))
				after(time.Second)
				if tags := w.web().definition.Tags; !slices.Equal(tags, []string{"v3"}) || w.last().Reason != string(contract.Registered) {
					t.Errorf("an allowed tag is not followed: %q, %s", tags, w.last().Message)
				}
			})
		})
	}
}

func TestAnnotationsWithANameThatIsNotAllowedAreNotFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.allowed.Services = serviceGlobs(t, "web,shop-*")
		r, _ := started(t, w, testPod())
		pay := contract.ServiceID("shop", "web-1", testUID, "pay")
		r.OnUpdate(ready(testPod("service-names", "web,pay", "service-tags", "a"), true))
		after(2 * time.Second)
		got := w.last()
		if got.Reason != string(contract.InvalidConfiguration) || got.Status != corev1.ConditionTrue ||
			!strings.Contains(got.Message, `service "pay"`) || !strings.Contains(got.Message, "web,shop-*") {
			t.Errorf("the gate says %v %s: %s", got.Status, got.Reason, got.Message)
		}
		if w.inCatalog(pay) != "" || w.inCatalog(webID) != contract.Passing || len(w.web().definition.Tags) > 0 {
			t.Error("the last valid registration did not stay as it was")
		}
		r.OnUpdate(ready(testPod("service-names", "web,shop-a"), true))
		after(time.Second)
		if w.inCatalog(contract.ServiceID("shop", "web-1", testUID, "shop-a")) != contract.Passing || w.last().Reason != string(contract.Registered) {
			t.Errorf("an allowed name is not followed: %s", w.last().Message)
		}
	})
}

func TestClosedGateSaysWhy(t *testing.T) {
	cases := map[string]struct {
		pod    *corev1.Pod
		fail   func(string) error
		change func(*world)
		reason contract.Reason
		says   string
	}{
		"containers":  {testPod(), nil, nil, contract.ContainersNotReady, "app"},
		"unreachable": {ready(testPod(), true), failingConsul(ErrRefused), nil, contract.ConsulUnreachable, "10.0.0.1:8500"},
		"no leader":   {ready(testPod(), true), nil, func(w *world) { w.leader = false }, contract.ConsulUnreachable, "no cluster leader"},
		"rejected": {
			ready(testPod(), true), failing(errors.Join(ErrRejected, errors.New("lacks service:write")), "register"), nil,
			contract.RegistrationRejected, "service:write",
		},
		"invalid":    {ready(testPod("heartbeat-ttl", "soon"), true), nil, nil, contract.InvalidConfiguration, "soon"},
		"node check": {ready(testPod(), true), nil, func(w *world) { w.nodeDown = []string{"Serf Health Status"} }, contract.AwaitingCatalog, "Serf Health Status"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.fail = c.fail
				if c.change != nil {
					c.change(w)
				}
				r, _ := w.start(t)
				r.OnUpdate(c.pod)
				after(10 * time.Second)
				got := w.last()
				if got.Status != corev1.ConditionFalse || got.Reason != string(c.reason) || !strings.Contains(got.Message, c.says) {
					t.Errorf("the gate says %v %s %q, want closed with %s and %q", got.Status, got.Reason, got.Message, c.reason, c.says)
				}
				writes := len(w.conditions())
				after(5 * time.Minute)
				if len(w.conditions()) != writes {
					t.Errorf("the same reason was written %d times more", len(w.conditions())-writes)
				}
			})
		})
	}
}

func TestDrainHooksStartNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		for range 1000 {
			go r.Drain(t.Context(), time.Second)
		}
		after(2 * time.Second)
		if w.count("deregister") != 0 {
			t.Error("a drain hook deregistered")
		}
	})
}
