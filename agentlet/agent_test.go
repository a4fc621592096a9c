package agentlet

import (
	"context"
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestLostAnswers has calls hang while the change that they wait for happens, as on a connection that is open at this end alone:
// their answers never come.
func TestLostAnswers(t *testing.T) {
	for name, c := range map[string]struct {
		own      contract.Health // of the service's own check, until it changes
		fail     func(string) error
		hang     time.Duration
		change   func(w *world)
		within   time.Duration
		restored func(w *world) bool
	}{
		"an edit of the service, while nothing answers": {
			contract.Passing, failingConsul(context.DeadlineExceeded), 50 * time.Second,
			func(w *world) { w.editWeb(edited) },
			agentTimeout + backoffBreaking + time.Second, func(w *world) bool { return len(w.web().definition.Tags) == 0 },
		},
		"a change in the catalog that the gate waits for": {
			contract.Critical, failing(context.DeadlineExceeded, "catalog"), time.Second,
			func(w *world) { w.set(func() { w.own = contract.Passing }) },
			readHang + waitMax + waitMax/16 + backoffAgent, func(w *world) bool { return w.last().Status == gateOpen },
		},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.own = c.own
			w.start(t, ready(testPod(), true))
			after(3 * time.Minute)
			w.setFail(c.fail)
			c.change(w)
			after(c.hang)
			if c.restored(w) {
				t.Fatal("no answer was lost")
			}
			w.setFail(nil)
			after(c.within)
			if !c.restored(w) {
				t.Errorf("not restored %s after the end", c.within)
			}
		})
	}
}

// TestHungAgentIsRestarted has an agent hang for longer than events are held back, stop and start again.
func TestHungAgentIsRestarted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		started(t, w, testPod("heartbeat-ttl", "5m", "deregister-after", "20m"))
		after(time.Minute)
		w.fails(context.DeadlineExceeded)
		after(2 * eventInterval)
		w.expectEvents(t, "Registered ConsulUnreachable!")
		w.fails(ErrRefused)
		w.breakConnections()
		after(30 * time.Second)
		w.expectEvents(t, "Registered ConsulUnreachable!")
		heartbeats := w.count("heartbeat")
		w.setFail(nil)
		after(backoffAgent + time.Second)
		if w.count("heartbeat") == heartbeats {
			t.Error("no heartbeat, though the agent answers again")
		}
	})
}

// TestUpdatesLateTogetherCountOnce: two services' updates that were in flight together have waited for the same sync.
func TestUpdatesLateTogetherCountOnce(t *testing.T) {
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
		t.Error("the answer to a deregistration, which waits for the same lock, does not count")
	}
}

// TestServicesListedDuringAChangeAreIgnored is on the state alone, because the order of the answers matters.
func TestServicesListedDuringAChangeAreIgnored(t *testing.T) {
	now := time.Now()
	s := newState(testIdentity)
	s.observePod(ready(testPod(), true), nil, now)
	s.conn = agentConn{phase: connected}
	list := plan(s, now).work[listServices{}.key()]
	s.writeGeneration++ // a registration begins
	finish(s, list, answers{observed: map[string]Observed{}}, now)
	if s.conn.listed {
		t.Error("a list from before a change was taken for one from after it")
	}
	if plan(s, now).work[listServices{}.key()] == nil {
		t.Error("the services are not listed again")
	}
}

// TestLateUpdatesDontMeanAnUnreachableAgent has updates time out for ten minutes, and all other calls answered.
func TestLateUpdatesDontMeanAnUnreachableAgent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		started(t, w, testPod())
		after(time.Minute)
		w.setFail(failing(context.DeadlineExceeded, "heartbeat", "readiness"))
		lists, leaders, watches, heartbeats := w.count("instances"), w.count("leader"), w.count("changed"), w.count("heartbeat")
		after(10 * time.Minute)
		if n := w.count("instances") - lists; n > 0 {
			t.Errorf("the services were listed %d times, though the agent has only been slow to write", n)
		}
		if n := w.count("heartbeat") - heartbeats; n < 20 || n > 61 {
			t.Errorf("%d heartbeats in ten minutes, want one after the other, each with the time until the next is due", n)
		}
		if n := w.count("leader") - leaders; n > 0 {
			t.Errorf("the agent was asked %d times for its leader, want none: the next heartbeat will show whether it answers", n)
		}
		if w.count("changed")-watches < 20 {
			t.Error("the watch stays on a connection that may be gone")
		}
		w.expectEvents(t, "Registered ConsulUnreachable!")
		w.expectGate(t, "with late updates", gateOpen, contract.Registered)
		w.setFail(nil)
		after(30 * time.Second)
		w.expectHealth(t, "with updates in time", contract.Passing)
		w.expectEvents(t, "Registered ConsulUnreachable! Registered")
	})
}

func TestLostOrEditedInstanceIsRestored(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		started(t, w, testPod())
		after(time.Second)
		w.set(func() { delete(w.agent, webID) })
		after(time.Second)
		w.expectHealth(t, "a second after somebody's deregistration", contract.Passing)
		w.editWeb(edited)
		after(time.Second)
		if tags := w.web().definition.Tags; len(tags) != 0 {
			t.Errorf("the tags are %q a second after somebody's edit, want none", tags)
		}
	})
}

func TestAgentRestart(t *testing.T) {
	for name, lose := range map[string]bool{"data kept": false, "data lost": true} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			started(t, w, testPod())
			after(time.Second)
			w.fails(ErrRefused)
			if lose {
				w.set(func() { clear(w.agent) })
			} else {
				w.editWeb(func(e *agentEntry) { e.heartbeat = contract.Critical })
			}
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
			w.expectHealth(t, "5s after the leader's return", contract.Passing)
			w.expectOneCondition(t)
		})
	}
}

// TestReturnedAgentIsUpdatedAtOnce: heartbeats that failed in an outage slow down nothing afterwards, however they were spread.
func TestReturnedAgentIsUpdatedAtOnce(t *testing.T) {
	for range 20 {
		inWorld(t, func(t *testing.T, w *world) {
			r, _ := started(t, w, testPod())
			after(time.Second)
			w.fails(ErrRefused)
			w.set(func() {}) // ends the watch
			heartbeats := w.count("heartbeat")
			after(2 * time.Minute)
			if n := w.count("heartbeat") - heartbeats; n < 6 || n > 30 {
				t.Errorf("%d heartbeats in two minutes of outage, want one each ten seconds or so", n)
			}
			r.OnUpdate(gated(ready(testPod(), false), gateOpen, contract.Registered))
			after(10 * time.Second)
			w.setFail(nil)
			after(backoffAgent + time.Second)
			w.expectHealth(t, "unready since the outage", contract.Critical)
		})
	}
}

func TestRestartAdoptsAndKeepsTheGateOpen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.adopt(w.defined(testPod()))
		w.start(t, opened())
		after(5 * time.Second)
		if n := w.count("register"); n != 0 {
			t.Errorf("an instance that is up to date was registered %d times", n)
		}
		w.expectNeverClosed(t)
		if w.count("heartbeat") == 0 {
			t.Error("no heartbeat after the restart")
		}
	})
}
