package agentlet

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestFailuresAreRetriedWithBackoff(t *testing.T) {
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
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.setFail(c.fail)
			w.start(t, ready(testPod(), true))
			after(10 * time.Second)
			w.expectNoHurry(t)
			if got := w.last(); c.reason != "" && got.Reason != string(c.reason) {
				t.Errorf("the gate says %s %q, want %s", got.Reason, got.Message, c.reason)
			}
			w.setFail(nil)
			after(time.Minute)
			w.expectGate(t, "without the failure", gateOpen, contract.Registered)
		})
	}
}

func TestRetriesAreSpread(t *testing.T) {
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

func TestAlternatingErrorsAreLoggedOnceEach(t *testing.T) {
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

// TestFailuresOfUnwantedCommandsAreDropped has a failure end because nobody wants any more what fails, or because it works for so long
// that it has no answer yet.
func TestFailuresOfUnwantedCommandsAreDropped(t *testing.T) {
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
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := started(t, w, c.pod)
			after(time.Minute)
			c.life(w, r)
			after(time.Minute)
			if failing := r.Status().Failing; len(failing) > 0 {
				t.Errorf("the status says that these fail: %v", failing)
			}
			after(10 * time.Minute)
			if !strings.HasSuffix(w.eventReasons(), "Registered") {
				t.Errorf("events: %s", w.eventReasons())
			}
		})
	}
}

// TestSimultaneousFailuresAreReportedOnce holds that a message which several failures have a part in doesn't change by itself: what
// goes on failing costs no write and no event after its first minute.
func TestSimultaneousFailuresAreReportedOnce(t *testing.T) {
	rejected := func(name string) error { return fmt.Errorf("register %s: %w: 400 bad %s", name, ErrRejected, name) }
	unknownToken := func(name string) error { return fmt.Errorf("register %s: %w: no %s", name, ErrUnknownToken, name) }
	failing := func(err func(string) error, names ...string) map[string]error {
		errs := map[string]error{}
		for _, name := range names {
			errs[serviceID(name)] = err(name)
		}
		return errs
	}
	cases := map[string]struct {
		names string
		fail  map[string]error
		tells []string // in the gate's message
	}{
		"one refused service":                {"web", failing(rejected, "web"), []string{"bad web"}},
		"two refused services":               {"web,admin", failing(rejected, "web", "admin"), []string{"bad admin", "bad web"}},
		"three refused services":             {"web,admin,api", failing(rejected, "web", "admin", "api"), []string{"bad admin", "bad api", "bad web"}},
		"two of three":                       {"web,admin,api", failing(rejected, "web", "api"), []string{"bad api", "bad web"}},
		"two services with an unknown token": {"web,admin", failing(unknownToken, "web", "admin"), []string{"no admin"}},
		"three of which each fails otherwise": {"web,admin,api", map[string]error{
			serviceID("web"): rejected("web"), serviceID("admin"): errors.New("register admin: 500 disk full"), serviceID("api"): ErrLate,
		}, []string{"bad web"}},
	}
	for name, c := range cases {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.failFor = c.fail
			w.start(t, ready(testPod("service-names", c.names), true))
			after(time.Minute)
			for _, part := range c.tells {
				if !strings.Contains(w.last().Message, part) {
					t.Errorf("the gate says %q, want also %q", w.last().Message, part)
				}
			}
			writes, events := len(w.conditions()), len(w.eventReasons())
			after(time.Hour)
			if n := len(w.conditions()) - writes; n != 0 {
				t.Errorf("%d gate writes in an hour in which nothing changed, the last: %s", n, w.last().Message)
			}
			if told := w.eventReasons(); len(told) != events {
				t.Errorf("events in an hour in which nothing changed: %s", told)
			}
		})
	}
}
