package agentlet

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestFailuresAreRetriedWithBackoff(t *testing.T) {
	other := errors.New("500 rpc error")
	for name, c := range map[string]struct {
		fail   func(string) error
		reason contract.Reason // of a gate that is closed by it; empty where it stays open
	}{
		"404 by another server":             {failingConsul(ErrAbsent), contract.ConsulUnreachable},
		"listing services fails":            {failing(other, "instances"), contract.ConsulUnreachable},
		"listing services is rejected":      {failing(ErrRejected, "instances"), contract.RegistrationRejected},
		"reading the catalog fails":         {failing(other, "catalog"), contract.AwaitingCatalog},
		"watching fails":                    {failing(other, "changed"), ""},
		"watching breaks the connection":    {failing(ErrUnreachable, "changed"), ""},
		"a heartbeat breaks the connection": {failing(ErrUnreachable, "heartbeat"), ""},
		"heartbeats fail":                   {failing(other, "heartbeat"), ""},
		"registering fails":                 {failing(other, "register"), contract.RegistrationFailed},
		"nothing answers":                   {failingConsul(ErrUnreachable), contract.ConsulUnreachable},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.setFail(c.fail)
			w.start(t, ready(testPod(), true))
			after(10 * time.Second)
			w.expectBackoff(t)
			if got := w.last(); c.reason != "" && got.Reason != string(c.reason) {
				t.Errorf("the gate says %s %q, want %s", got.Reason, got.Message, c.reason)
			}
			w.setFail(nil)
			after(time.Minute)
			w.expectGate(t, "without the failure", gateOpen, contract.Registered)
		})
	}
}

func TestBackoff(t *testing.T) {
	other := errors.New("500 rpc error")
	for name, c := range map[string]struct {
		failures int
		policy   policy
		err      error
		want     time.Duration
	}{
		"the first":                  {0, policy{}, other, backoffFirst},
		"doubled":                    {2, policy{}, other, 4 * backoffFirst},
		"of the agent":               {100, policy{}, other, backoffAgent},
		"of another's":               {100, policy{maxBackoff: backoffOther}, other, backoffOther},
		"of a rejection":             {100, policy{}, ErrDenied, backoffOther},
		"of a broken connection":     {100, policy{maxUnreachable: backoffBreaking}, ErrLate, backoffBreaking},
		"of a connection that isn't": {100, policy{maxUnreachable: backoffBreaking}, other, backoffAgent},
	} {
		t.Run(name, func(t *testing.T) {
			if got := backoff(c.failures, c.policy, c.err); got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
}

func TestFailuresAreJoined(t *testing.T) {
	for name, c := range map[string]struct {
		errs []error
		want string
	}{
		"one":       {[]error{ErrDenied}, ErrDenied.Error()},
		"equal":     {[]error{ErrDenied, ErrDenied}, ErrDenied.Error()},
		"different": {[]error{ErrLate, ErrDenied}, ErrLate.Error() + "; " + ErrDenied.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			s := newState(testIdentity)
			for n, err := range c.errs {
				s.retries[key{"registration", string(rune('a' + n))}] = retry{err: err}
			}
			if got := s.failures(func(key, error) bool { return true }); got == nil || got.Error() != c.want {
				t.Errorf("%v, want %s", got, c.want)
			}
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
			w.start(t, ready(testPod(), true)) // all of them in the same moment
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
	logged := 0
	for i := range 100 {
		err := []error{errors.New("EOF"), errors.New("connection reset by peer")}[i%2]
		if r.isNew(err) {
			logged++
		}
		finish(s, listServices{}, answers{err: err}, time.Now())
		r = s.retries[listServices{}.key()]
	}
	if logged != 2 {
		t.Errorf("two alternating errors were logged %d times", logged)
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

// TestFailuresOfUnwantedCommandsAreDropped has a failure end because the plan no longer contains its command, or
// because the command is in flight again and has no answer yet.
func TestFailuresOfUnwantedCommandsAreDropped(t *testing.T) {
	revertedAfter := func(err error) func(*world, *Registrar) {
		return func(w *world, r *Registrar) {
			w.setFail(failing(err, "register"))
			r.OnUpdate(ready(testPod("service-tags", "failing"), true))
			after(time.Minute)
			r.OnUpdate(ready(testPod(), true))
		}
	}
	for name, fail := range map[string]func(w *world, r *Registrar){
		"a rejected change is reverted": revertedAfter(fmt.Errorf("%w: 400 bad tag", ErrRejected)),
		"a failed change is reverted":   revertedAfter(errors.New("500 no space left on device")),
		"a broken watch goes on": func(w *world, _ *Registrar) {
			w.fails(ErrRefused)
			w.set(func() {}) // ends the watch
			after(20 * time.Second)
			w.setFail(nil)
		},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			r, _ := started(t, w, testPod())
			after(time.Minute)
			fail(w, r)
			after(time.Minute)
			if failing := r.Status().Failing; len(failing) > 0 {
				t.Errorf("the status says that these fail: %v, want none", failing)
			}
			after(10 * time.Minute)
			if !strings.HasSuffix(w.eventReasons(), "Registered") {
				t.Errorf("events: %s", w.eventReasons())
			}
		})
	}
}

// TestFailureBeforeReadinessIsTold: it is known before the containers are ready.
func TestFailureBeforeReadinessIsTold(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.setFail(failing(errors.New("500 no space left on device"), "register"))
		r, _ := w.start(t, testPod())
		after(time.Minute)
		w.expectGate(t, "while it fails", gateClosed, contract.RegistrationFailed)
		w.expectEvents(t, "RegistrationFailed!")
		w.setFail(nil)
		after(time.Minute)
		w.expectGate(t, "registered", gateClosed, contract.ContainersNotReady)
		if failing := r.Status().Failing; len(failing) > 0 {
			t.Errorf("the status says that these fail: %v, want none", failing)
		}
	})
}

// TestSimultaneousFailuresAreReportedOnce: a message about several failures doesn't change by itself, so that failures
// that last cost no write and no event after their first minute.
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
	for name, c := range map[string]struct {
		names  string
		fail   map[string]error
		reason contract.Reason
		parts  []string // of the gate's message
	}{
		"one rejected service":               {"web", failing(rejected, "web"), contract.RegistrationRejected, []string{"bad web"}},
		"two rejected services":              {"web,admin", failing(rejected, "web", "admin"), contract.RegistrationRejected, []string{"bad admin", "bad web"}},
		"three rejected services":            {"web,admin,api", failing(rejected, "web", "admin", "api"), contract.RegistrationRejected, []string{"bad admin", "bad api", "bad web"}},
		"two of three services rejected":     {"web,admin,api", failing(rejected, "web", "api"), contract.RegistrationRejected, []string{"bad api", "bad web"}},
		"two services with an unknown token": {"web,admin", failing(unknownToken, "web", "admin"), contract.LoginFailed, []string{"no admin"}},
		"three services with different failures": {"web,admin,api", map[string]error{
			serviceID("web"): rejected("web"), serviceID("admin"): errors.New("register admin: 500 disk full"), serviceID("api"): ErrLate,
		}, contract.RegistrationRejected, []string{"bad web"}},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.failFor = c.fail
			w.start(t, ready(testPod("service-names", c.names), true))
			after(time.Minute)
			w.expectGate(t, "after a minute", gateClosed, c.reason, c.parts...)
			writes, events := len(w.conditions()), w.eventReasons()
			after(time.Hour)
			if n := len(w.conditions()) - writes; n != 0 {
				t.Errorf("%d gate writes in an hour in which nothing changed, the last: %s", n, w.last().Message)
			}
			w.expectEvents(t, events)
		})
	}
}

func TestWhatIsLoggedOfAnAbsence(t *testing.T) {
	for name, c := range map[string]struct {
		command command
		before  retry
		want    string
	}{
		"of a check":                          {updateHeartbeat{id: webID}, retry{}, "has lost an instance or a check"},
		"of an instance that is watched":      {watchService{id: webID}, retry{}, "has lost an instance or a check"},
		"of what is removed":                  {deregister{id: webID}, retry{}, ""},
		"of what is removed, after failures":  {deregister{id: webID}, retry{failures: 1}, "recovered"},
		"where something else answers":        {getLeader{}, retry{}, "level=WARN msg=failed"},
		"where something else answers, again": {getLeader{}, retry{failures: 1, logged: []string{constant(ErrAbsent.Error())}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			var log strings.Builder
			logFailure(c.command, c.before, ErrAbsent, turn{log: slog.New(slog.NewTextHandler(&log, nil))})
			if got := log.String(); (got == "") != (c.want == "") || !strings.Contains(got, c.want) {
				t.Errorf("logged %q, want %q", got, c.want)
			}
		})
	}
}
