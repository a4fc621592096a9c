package agentlet

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestLastAnswerIsTold has the agent answer registrations or updates with an error that names something else at each try.
func TestLastAnswerIsTold(t *testing.T) {
	n := 0
	full := func(call string) error {
		n++
		return fmt.Errorf("%s: 500 open /data/services/%08x-7d1e-4a2b.tmp: no space left on device", call, n)
	}
	cases := map[string]struct {
		call  string
		until time.Duration // the gate is open before that
		gate  string        // in its message
	}{
		"registrations":              {"register", 0, "10.0.0.1:8500 answered with an error: register: 500 open /data/services/"},
		"updates of an open gate":    {"readiness", time.Minute, "the catalog shows web"},
		"heartbeats of an open gate": {"heartbeat", time.Minute, "the catalog shows web"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				var log bytes.Buffer
				w.log = slog.New(slog.NewTextHandler(&log, nil))
				r, _ := w.start(t)
				fail := func(call string) error {
					if call == c.call {
						return full(call)
					}
					return nil
				}
				if c.until == 0 {
					w.setFail(fail)
				}
				r.OnUpdate(ready(testPod(), true))
				if c.until > 0 {
					after(c.until)
					w.setFail(fail)
					r.OnUpdate(ready(testPod(), false))
				}
				after(10 * time.Second)
				if strings.Contains(w.told(), "RegistrationFailed") {
					t.Error("told before it had lasted for 15 seconds")
				}
				after(time.Minute)
				if !strings.Contains(w.last().Message, c.gate) {
					t.Errorf("the gate says %q, want %q", w.last().Message, c.gate)
				}
				if !strings.HasSuffix(w.told(), "RegistrationFailed!") {
					t.Errorf("events: %s", w.told())
				}
				writes, events, lines := len(w.conditions()), w.told(), strings.Count(log.String(), "no space left")
				after(time.Hour)
				if more := len(w.conditions()) - writes; more != 0 || w.told() != events {
					t.Errorf("%d writes and the events %q after %q in an hour of the same", more, w.told(), events)
				}
				if more := strings.Count(log.String(), "no space left") - lines; more != 0 || lines != 1 {
					t.Errorf("%d log lines, and %d more in an hour of the same", lines, more)
				}
			})
		})
	}
}

// TestAnswerAboutTheLeaderIsTold tells an agent that has none from one that can't say.
func TestAnswerAboutTheLeaderIsTold(t *testing.T) {
	for name, c := range map[string]struct {
		fail func(string) error
		says string
	}{
		"none":     {nil, "10.0.0.1:8500 has no cluster leader"},
		"an error": {failing(errors.New("ask for the leader: 429 too many requests"), "leader"), "429 too many requests"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.leader, w.fail = false, c.fail
				r, _ := w.start(t)
				r.OnUpdate(ready(testPod(), true))
				after(10 * time.Second)
				if got := w.last(); got.Reason != string(contract.ConsulUnreachable) || !strings.HasSuffix(got.Message, c.says) {
					t.Errorf("the gate says %s %q, want %q at its end", got.Reason, got.Message, c.says)
				}
			})
		})
	}
}

func TestConstant(t *testing.T) {
	for name, c := range map[string]struct {
		a, b string
		same bool
	}{
		"a UUID":        {"open a-3f0c1a8e-7b1d-4a2b-9c00-0123456789ab.tmp: full", "open a-aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee.tmp: full", true},
		"nanoseconds":   {"tmp-1732860000000000000", "tmp-1732860000000000999", true},
		"a status":      {"500 no", "429 no", false},
		"a port":        {"dial 10.0.0.1:8500", "dial 10.0.0.1:8501", false},
		"another cause": {"no space left", "read-only file system", false},
	} {
		t.Run(name, func(t *testing.T) {
			if same := constant(c.a) == constant(c.b); same != c.same {
				t.Errorf("%q and %q are taken for the same: %v", constant(c.a), constant(c.b), same)
			}
		})
	}
}

// checked is a ready pod whose service has a check of its own.
func checked(annotations ...string) *corev1.Pod {
	pod := ready(testPod(annotations...), true)
	delete(pod.Annotations, contract.ServiceNames)
	delete(pod.Annotations, contract.ServicePort)
	pod.Annotations[contract.Services] = `[{name: web, port: 8080, checks: [{name: own, http: /healthz, interval: 10s}]}]`
	return pod
}

// TestFailingCheckOfAnOpenGateIsTold has a service's own check fail for a while.
func TestFailingCheckOfAnOpenGateIsTold(t *testing.T) {
	set := func(w *world, own contract.Health) { w.set(func() { w.own = own }) }
	cases := map[string]struct {
		pod    *corev1.Pod
		life   func(w *world)
		says   string
		writes int
		events string
	}{
		"a moment": {checked(), func(w *world) {
			set(w, contract.Critical)
			after(10 * time.Second)
			set(w, contract.Passing)
			after(time.Hour)
		}, "the catalog shows web at 10.1.0.5", 0, "Registered"},
		"on and on": {checked(), func(w *world) {
			set(w, contract.Critical)
			after(time.Hour)
		}, "the catalog shows web at 10.1.0.5; failing checks: web: own", 1, "Registered CheckFailing!"},
		"and again well": {checked(), func(w *world) {
			set(w, contract.Critical)
			after(time.Hour)
			set(w, contract.Passing)
			after(time.Minute)
		}, "the catalog shows web at 10.1.0.5", 2, "Registered CheckFailing! Registered"},
		"each ten seconds another way": {checked(), func(w *world) {
			for range 180 {
				set(w, contract.Critical)
				after(10 * time.Second)
				set(w, contract.Passing)
				after(10 * time.Second)
			}
		}, "the catalog shows web at 10.1.0.5", 0, "Registered"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				r, _ := w.start(t)
				r.OnUpdate(c.pod)
				after(time.Minute)
				writes := len(w.conditions())
				c.life(w)
				if got := w.last(); got.Status != corev1.ConditionTrue || got.Message != c.says || len(w.conditions())-writes != c.writes {
					t.Errorf("after %d writes the gate says %s %q, want %d and %q", len(w.conditions())-writes, got.Status, got.Message, c.writes, c.says)
				}
				if w.told() != c.events {
					t.Errorf("events: %s, want %s", w.told(), c.events)
				}
			})
		})
	}
}

// TestLossOfAnOpenGateIsTold has the catalog lose an instance for good, under the policy that keeps the gate open.
func TestLossOfAnOpenGateIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := w.start(t)
		r.OnUpdate(checked())
		after(time.Minute)
		lostAt := time.Now()
		w.mu.Lock()
		w.sync, w.catalog = false, map[string]CatalogInstance{}
		w.touch()
		w.mu.Unlock()
		after(time.Minute)
		want := "the catalog showed web at 10.1.0.5 until " + lostAt.UTC().Format(time.RFC3339)
		if got := w.last(); got.Status != corev1.ConditionTrue || got.Reason != string(contract.CatalogLost) || got.Message != want {
			t.Errorf("the gate says %s %s %q, want open and %q", got.Status, got.Reason, got.Message, want)
		}
		writes := len(w.conditions())
		after(time.Hour)
		if len(w.conditions()) != writes || w.told() != "Registered CatalogLost!" {
			t.Errorf("%d more writes; events: %s", len(w.conditions())-writes, w.told())
		}
		w.set(func() { w.sync = true })
		after(time.Minute)
		if got := w.last(); got.Reason != string(contract.Registered) {
			t.Errorf("the gate says %s %q", got.Reason, got.Message)
		}
	})
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

// TestStatusReadsTheCatalog holds that /status knows what the catalog says now, also where the open gate has nobody read it, and that
// many who ask cost one reading a second.
func TestStatusReadsTheCatalog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		read := func() contract.Status { return *r.ReadStatus(t.Context()) }
		after(time.Hour)
		w.set(func() { w.own = contract.Critical })
		after(time.Minute)
		readings := w.count("catalog")
		if got := read().Services[0]; got.Catalog != contract.Critical || got.Failing != "own" {
			t.Errorf("a minute after its check has failed the status says %q, failing %q", got.Catalog, got.Failing)
		}
		for range 100 {
			read()
		}
		if n := w.count("catalog") - readings; n > 2 {
			t.Errorf("%d readings for a hundred who ask within a moment", n)
		}
		after(10 * time.Second)
		w.setFail(failing(errors.New("500"), "catalog"))
		began := time.Now()
		status := read()
		if took := time.Since(began); took > statusWait {
			t.Errorf("the status took %s with a catalog that can't be read", took)
		}
		if status.CatalogReadAt == nil || began.Sub(*status.CatalogReadAt) < 10*time.Second {
			t.Errorf("the catalog was last read at %v, says the status at %v", status.CatalogReadAt, began)
		}
	})
}

func TestFreezeIsLogged(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		wake time.Time
		says string
	}{
		"on time":           {now.Add(-time.Second), ""},
		"nothing was to do": {time.Time{}, ""},
		"after 55 seconds":  {now.Add(-55 * time.Second), `msg="the process did not run" seconds=55`},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			l := &loop{Registrar: New(Config{Identity: testIdentity, Logger: slog.New(slog.NewTextHandler(&log, nil))})}
			l.noticeFreeze(c.wake, now)
			if got := log.String(); (c.says == "") != (got == "") || !strings.Contains(got, c.says) {
				t.Errorf("logged %q, want %q", got, c.says)
			}
		})
	}
}

// TestNothingIsToldOfWhatIsNotWantedAnyMore has a failure end because nobody wants any more what fails, or because it works for so long
// that it has no answer yet.
func TestNothingIsToldOfWhatIsNotWantedAnyMore(t *testing.T) {
	cases := map[string]struct {
		pod  *corev1.Pod
		life func(w *world, r *Registrar)
	}{
		"a refused change is taken back": {testPod(), func(w *world, r *Registrar) {
			w.setFail(failing(fmt.Errorf("%w: 400 bad tag", ErrRejected), "register"))
			r.OnUpdate(ready(testPod("service-tags", "refused"), true))
			after(time.Minute)
			r.OnUpdate(ready(testPod(), true))
		}},
		"a change that meets a full disk is taken back": {testPod(), func(w *world, r *Registrar) {
			w.setFail(failing(errors.New("500 no space left on device"), "register"))
			r.OnUpdate(ready(testPod("service-tags", "refused"), true))
			after(time.Minute)
			r.OnUpdate(ready(testPod(), true))
		}},
		"a broken watch goes on": {testPod(), func(w *world, _ *Registrar) {
			w.fails(ErrRefused)
			w.set(func() {}) // ends the watch
			after(20 * time.Second)
			w.setFail(nil)
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				r, _ := started(t, w, c.pod)
				after(time.Minute)
				c.life(w, r)
				after(time.Minute)
				if failing := r.Status().Failing; len(failing) > 0 {
					t.Errorf("the status says that these fail: %v", failing)
				}
				after(10 * time.Minute)
				if !strings.HasSuffix(w.told(), "Registered") {
					t.Errorf("events: %s", w.told())
				}
			})
		})
	}
}
