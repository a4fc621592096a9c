package agentlet

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestNothingIsRequestedBeforeTheLogin(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl = true
		w.agent[webID] = w.held(w.defined(testPod()))
		w.setFail(failing(errors.New("500"), "login"))
		w.start(t, ready(testPod(), true))
		after(10 * time.Second)
		if n := w.count("instances") + w.count("register") + w.count("catalog"); n > 0 {
			t.Errorf("%d calls without a token: services that they don't show would be taken for absent", n)
		}
		w.expectGate(t, "without a login", gateClosed, contract.LoginFailed, "500")
		writes, logins := len(w.conditions()), w.count("login")
		after(10 * time.Minute)
		if len(w.conditions()) != writes {
			t.Errorf("the same reason was written %d times more", len(w.conditions())-writes)
		}
		if n := w.count("login") - logins; n > 45 {
			t.Errorf("%d logins in ten minutes of failures", n)
		}
		w.setFail(nil)
		after(time.Minute)
		w.expectGate(t, "with a login", gateOpen, contract.Registered)
		w.expectEvents(t, "LoginFailed! Registered")
	})
}

func TestNoLoginWithoutALeader(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl, w.leader = true, false
		w.start(t, ready(testPod(), true))
		after(time.Minute)
		if n := w.count("login"); n > 0 {
			t.Errorf("%d logins without a leader", n)
		}
	})
}

func TestRenewalRegistersAgainBeforeTheOldTokenEnds(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl, w.renew = true, 40*time.Minute
		r, _ := started(t, w, testPod())
		after(19 * time.Minute)
		for w.count("login") < 2 {
			after(time.Second)
		}
		after(time.Second)
		if got := w.web().token; got != 2 || w.tokens() != 2 {
			t.Errorf("after the renewal the agent has the instance with token %d of %d, want the second of 2", got, w.tokens())
		}
		after(15 * time.Second)
		if w.tokens() != 1 {
			t.Errorf("%d tokens, want the new one alone", w.tokens())
		}
		after(4 * time.Hour)
		if n := w.count("login"); n < 6 || n > 13 {
			t.Errorf("%d logins in four and a half hours of 20 to 40 minutes each", n)
		}
		w.expectHealth(t, "renewed several times", contract.Passing)
		w.expectOneCondition(t)
		if got := w.web().definition.Meta[contract.MetaSyncGeneration]; got != "" {
			t.Error("a renewal resynced the catalog")
		}
		r.OnUpdate(ready(testPod(), false))
		after(time.Second)
		w.expectHealth(t, "unready, with the second token", contract.Critical)
	})
}

func TestFailedRenewalKeepsTheOldToken(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl, w.renew = true, 40*time.Minute
		started(t, w, testPod())
		w.setFail(failing(ErrRejected, "login"))
		after(time.Hour)
		w.expectHealth(t, "after failed renewals", contract.Passing)
		w.expectOneCondition(t)
		if w.tokens() != 1 {
			t.Errorf("%d tokens, want the first one alone", w.tokens())
		}
		heartbeats := w.count("heartbeat")
		after(time.Minute)
		if w.count("heartbeat") == heartbeats {
			t.Error("no heartbeats while the renewal fails")
		}
	})
}

// TestOldTokensAreKeptWhileTheAgentHasThem: the agent keeps the token of a registration, and a new one reaches it with
// the next one.
func TestOldTokensAreKeptWhileTheAgentHasThem(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl, w.renew = true, 40*time.Minute
		started(t, w, testPod())
		w.setFail(failing(errors.New("500"), "register"))
		after(time.Hour)
		if n := w.count("login"); n < 2 || w.tokens() != n {
			t.Errorf("%d tokens of %d logins, want all", w.tokens(), n)
		}
		w.setFail(nil)
		for range 3 { // a renewal may fall into this minute, and keeps the token before it for a moment
			if after(time.Minute); w.tokens() == 1 {
				return
			}
		}
		t.Errorf("%d tokens, want the last one alone", w.tokens())
	})
}

func TestUnknownTokenIsReplaced(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl = true
		r, _ := started(t, w, testPod())
		w.set(func() { clear(w.alive) })
		after(20 * time.Second) // a heartbeat notices it
		if got := w.web().token; got != 2 || w.tokens() != 1 {
			t.Errorf("the agent has the instance with token %d of %d, want a new one", got, w.tokens())
		}
		w.expectOneCondition(t)
		r.OnUpdate(ready(testPod(), false))
		after(time.Second)
		w.expectHealth(t, "unready, with the second token", contract.Critical)
	})
}

func TestLeaderLetsAFailedLoginBeTriedAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		err  error
		kept bool
	}{"that failed without a leader": {ErrLate, false}, "that was rejected": {ErrDenied, true}} {
		t.Run(name, func(t *testing.T) {
			s := newState(testIdentity)
			s.retries[(logIn{}).key()] = retry{err: c.err}
			s.handleLeader(nil)
			if _, kept := s.retries[(logIn{}).key()]; kept != c.kept {
				t.Errorf("the backoff is kept: %v, want %v", kept, c.kept)
			}
		})
	}
}

func TestUnknownTokenOfAnEarlierSessionIsIgnored(t *testing.T) {
	for name, c := range map[string]struct {
		session int
		lost    bool
	}{"the session in use": {2, true}, "an earlier session": {1, false}} {
		t.Run(name, func(t *testing.T) {
			s := newState(testIdentity)
			s.login.needed, s.login.current = true, Session{ID: 2}
			s.observeDenial(updateHeartbeat{}, ErrUnknownToken, turn{begun: begun{login: c.session}, now: time.Now(), jitter: still})
			if s.login.lost != c.lost {
				t.Errorf("lost: %v, want %v", s.login.lost, c.lost)
			}
		})
	}
}

func TestLoginsAfterALossAreSpread(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var at []time.Duration
		for range 20 {
			w := newWorld()
			w.acl = true
			started(t, w, testPod("heartbeat-ttl", "3s"))
			began := time.Now()
			w.set(func() { clear(w.alive) })
			for w.count("login") < 2 && time.Since(began) < time.Minute {
				after(10 * time.Millisecond)
			}
			at = append(at, time.Since(began))
		}
		if spread := slices.Max(at) - slices.Min(at); spread < 500*time.Millisecond {
			t.Errorf("20 registrars log in within %s of one another", spread)
		}
	})
}

// TestConsulThatForgetsItsTokensAtOnce: each login is followed by a pause, however often Consul loses its token.
func TestConsulThatForgetsItsTokensAtOnce(t *testing.T) {
	for name, c := range map[string]struct {
		change func(r *Registrar)
		wait   time.Duration
		most   int
	}{
		"in the pod's life": {func(r *Registrar) { r.OnUpdate(ready(testPod(), false)) }, 10 * time.Minute, 30},
		"in the drain":      {(*Registrar).Terminate, 20 * time.Second, 25},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.acl = true
			r, _ := started(t, w, testPod())
			w.setFail(func(call string) error {
				if w.count("login") > 1000 { // without a pause the test would never end
					return nil
				}
				return failingWithToken(call)
			})
			c.change(r)
			after(c.wait)
			if n := w.count("login"); n > c.most {
				t.Errorf("%d logins in %s, want at most %d", n, c.wait, c.most)
			}
		})
	}
}

// failingWithToken is a Consul that knows no token.
func failingWithToken(call string) error {
	if call == "leader" || call == "login" || call == "logout" {
		return nil
	}
	return failingConsul(ErrUnknownToken)(call)
}

func TestUnknownStaticTokenIsRetriedWithBackoff(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl, w.renew = true, 15*time.Second
		w.setFail(failingWithToken)
		w.start(t, ready(testPod(), true))
		after(30 * time.Second)
		w.expectGate(t, "with an unknown token", gateClosed, contract.LoginFailed, "does not know the token")
		w.expectBackoff(t)
	})
}

func TestDeniedRegistrationIsRetriedWithANewLogin(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl = true
		w.setFail(func(call string) error {
			if call == "register" && w.count("login") < 3 { // a new binding rule counts for later logins only
				return ErrDenied
			}
			return nil
		})
		w.start(t, ready(testPod(), true))
		after(5 * time.Second)
		w.expectGate(t, "denied", gateClosed, contract.RegistrationRejected)
		logins := w.count("login")
		after(20 * time.Second)
		if n := w.count("login") - logins; n > 0 {
			t.Errorf("%d logins in the first seconds of a denial", n)
		}
		after(4 * time.Minute)
		w.expectGate(t, "with a login that may register", gateOpen, contract.Registered)
		if w.tokens() != 1 {
			t.Errorf("%d tokens, want 1", w.tokens())
		}
	})
}

func TestRestartRegistersAgainWithItsOwnToken(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl = true
		w.alive[100] = true
		w.adopt(w.defined(testPod()))
		w.editWeb(func(e *agentEntry) { e.token = 100 }) // of the earlier process
		w.start(t, opened())
		after(5 * time.Second)
		if got := w.web().token; got != 1 {
			t.Errorf("the agent has the instance with token %d, want the first one of this process", got)
		}
		w.expectNeverClosed(t)
	})
}

// TestLogoutIsTheLast is about the order of the last calls, how long the end takes, and how many tokens are left.
func TestLogoutIsTheLast(t *testing.T) {
	for name, c := range map[string]struct {
		fail   func(string) error
		tokens int
		max    time.Duration // from SIGTERM, which comes with the drain's end
	}{
		"no failure":                 {nil, 0, 10 * time.Millisecond},
		"the catalog never drops it": {failing(context.DeadlineExceeded, "catalog"), 0, 10 * time.Millisecond},
		"the agent hangs":            {failingConsul(context.DeadlineExceeded), 1, 10 * time.Millisecond},
		"the agent refuses":          {failingConsul(ErrRefused), 1, 10 * time.Millisecond},
		"deregistration is denied":   {failing(ErrDenied, "deregister"), 1, 10 * time.Millisecond},
		"deregistration is denied, and the event is late": {func(call string) error {
			return cmp.Or(failing(ErrDenied, "deregister")(call), failing(context.DeadlineExceeded, "event")(call))
		}, 1, eventGrace + 10*time.Millisecond},
		"logout fails":                 {failing(errors.New("500"), "logout"), 1, 2010 * time.Millisecond},
		"logout hangs":                 {failing(context.DeadlineExceeded, "logout"), 1, 2010 * time.Millisecond},
		"the agent refuses the logout": {failing(ErrRefused, "logout"), 1, 10 * time.Millisecond},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.acl = true
			r, ended := started(t, w, testPod("drain-delay", "0s"))
			var order []string
			var mu sync.Mutex
			w.setFail(func(call string) error {
				if call == "deregister" || call == "logout" {
					mu.Lock()
					defer mu.Unlock()
					order = append(order, call)
				}
				if c.fail != nil {
					return c.fail(call)
				}
				return nil
			})
			r.OnUpdate(deleted(ready(testPod("drain-delay", "0s"), true)))
			if !r.Drain(t.Context(), time.Second) {
				t.Fatal("the hook was not held")
			}
			began := time.Now()
			r.Terminate()
			if err := <-ended; err != nil {
				t.Error(err)
			}
			if took := time.Since(began); took > c.max {
				t.Errorf("the process ended %s after SIGTERM, want at most %s", took, c.max)
			}
			if w.tokens() != c.tokens {
				t.Errorf("%d tokens are left, want %d", w.tokens(), c.tokens)
			}
			if i := slices.Index(order, "logout"); i >= 0 && slices.Contains(order[i:], "deregister") {
				t.Errorf("the last calls are %q, want the logout last", order)
			}
		})
	}
}

// TestAgentWithoutNodeWrite is about an agent that removes services only for itself: the catalog keeps them.
func TestAgentWithoutNodeWrite(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl, w.keeps = true, true
		r, ended := started(t, w, testPod())
		deletes(r)
		began := time.Now()
		after(4 * time.Second)
		w.expectHealth(t, "terminating", contract.Critical)
		w.expectGate(t, "terminating", gateClosed, contract.Draining, "node:write")
		r.Drain(t.Context(), time.Second)
		if took := time.Since(began); took > 15*time.Second {
			t.Errorf("drained after %s", took)
		}
		r.Terminate()
		<-ended
		if w.registered() || w.tokens() != 0 {
			t.Errorf("at the agent: %v, tokens: %d, want neither", w.registered(), w.tokens())
		}
		if n := w.count("register"); n != 2 {
			t.Errorf("%d registrations, want one in the pod's life and one in the drain", n)
		}
		if n := len(w.conditions()); n != 3 {
			t.Errorf("the gate was written %d times: %+v", n, w.conditions())
		}
	})
}

func TestDrainWithAnExpiredTokenLogsInAgain(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl = true
		r, _ := started(t, w, testPod("drain-delay", "0s"))
		w.locked(func() { clear(w.alive) })
		r.OnUpdate(deleted(ready(testPod("drain-delay", "0s"), true)))
		began := time.Now()
		r.Drain(t.Context(), time.Second)
		if took := time.Since(began); took > time.Second || w.inCatalog(webID) != "" {
			t.Errorf("drained after %s, the catalog says %q", took, w.inCatalog(webID))
		}
		after(time.Second)
		if w.tokens() != 0 {
			t.Errorf("%d tokens are left", w.tokens())
		}
	})
}

func TestDrainWithoutALogin(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.acl = true
		w.setFail(failing(ErrRejected, "login"))
		r, _ := w.start(t, ready(testPod(), true))
		after(time.Minute)
		began := time.Now()
		deletes(r)
		r.Drain(t.Context(), time.Second)
		if took := time.Since(began); took > time.Second {
			t.Errorf("drained after %s, want no wait for a login that is rejected", took)
		}
	})
}
