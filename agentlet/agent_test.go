package agentlet

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

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
			readHang + waitMax + waitMax/16 + backoffAgent, func(w *world) bool { return w.last().Status == gateOpen },
		},
	}
	for name, c := range cases {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.own = c.own
			w.start(t, ready(testPod(), true))
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
	}
}

// TestHungAgentIsRestarted has an agent hang for longer than events are held back, go away and come back.
func TestHungAgentIsRestarted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		_, _ = started(t, w, testPod("heartbeat-ttl", "5m", "deregister-after", "20m"))
		after(time.Minute)
		w.fails(context.DeadlineExceeded)
		after(2 * eventInterval)
		before := w.eventReasons()
		if !strings.HasSuffix(before, string(contract.ConsulUnreachable)+"!") {
			t.Fatalf("what was told is %q", before)
		}
		w.fails(ErrRefused)
		w.breakConnections()
		after(30 * time.Second)
		if told := w.eventReasons(); told != before {
			t.Errorf("the agent is away, and what was told is %q, before %q", told, before)
		}
		heartbeats := w.count("heartbeat")
		w.setFail(nil)
		after(backoffAgent + time.Second)
		if w.count("heartbeat") == heartbeats {
			t.Error("no heartbeat, though the agent is back")
		}
	})
}

// TestUpdatesLateTogetherCountOnce: what two services' updates have waited for together is one lateness.
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
		t.Error("an answer to a removal, which waits for the same lock, says nothing")
	}
}

// TestServicesListedDuringAChangeAreIgnored is on the state alone: the order of the answers is what matters.
func TestServicesListedDuringAChangeAreIgnored(t *testing.T) {
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

// TestLateUpdatesDontMeanAnUnreachableAgent has the agent keep its updates waiting for ten minutes, and answer everything else.
func TestLateUpdatesDontMeanAnUnreachableAgent(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		_, _ = started(t, w, testPod())
		after(time.Minute)
		w.setFail(failing(context.DeadlineExceeded, "heartbeat", "readiness"))
		inspections, leaders, watches, heartbeats := w.count("instances"), w.count("leader"), w.count("changed"), w.count("heartbeat")
		after(10 * time.Minute)
		if n := w.count("instances") - inspections; n > 0 {
			t.Errorf("the agent's instances were read %d times, though it has only been slow to write", n)
		}
		tries := w.count("heartbeat") - heartbeats
		if tries < 20 || tries > 61 {
			t.Errorf("%d heartbeats in ten minutes, want one after the other, each with the time until the next is due", tries)
		}
		if n := w.count("leader") - leaders; n > 0 {
			t.Errorf("the agent was asked %d times whether it is there, which the next heartbeat will show", n)
		}
		w.expectEvents(t, "Registered ConsulUnreachable!")
		if w.count("changed")-watches < 20 {
			t.Error("the watch stays on a connection that may be gone")
		}
		w.expectGate(t, "late updates", gateOpen, contract.Registered)
		w.setFail(nil)
		after(30 * time.Second)
		w.expectHealth(t, "with the agent quick again", contract.Passing)
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
		runInWorld(t, name, func(t *testing.T, w *world) {
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
			w.expectHealth(t, "5s after the leader's return", contract.Passing)
			if n := len(w.conditions()); n != 1 {
				t.Errorf("the outage wrote the gate %d times, want the one opening", n)
			}
		})
	}
}

// TestReturnedAgentIsUpdatedAtOnce: the heartbeats that nobody heard slow down nothing afterwards, however they were spread.
func TestReturnedAgentIsUpdatedAtOnce(t *testing.T) {
	for range 20 {
		synctest.Test(t, returnedAgent)
	}
}

func returnedAgent(t *testing.T) {
	w := newWorld()
	r, _ := started(t, w, testPod())
	after(time.Second)
	w.set(func() { w.fail = failingConsul(ErrRefused) })
	heartbeats := w.count("heartbeat")
	after(2 * time.Minute)
	if n := w.count("heartbeat") - heartbeats; n < 6 || n > 30 {
		t.Errorf("%d heartbeats in two minutes of outage, want one each ten seconds or so", n)
	}
	r.OnUpdate(gated(ready(testPod(), false), gateOpen, contract.Registered))
	after(10 * time.Second)
	w.set(func() { w.fail = nil })
	after(backoffAgent + time.Second)
	w.expectHealth(t, "unready since the outage", contract.Critical)
}

func TestRestartAdoptsAndKeepsTheGateOpen(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.adopt(w.defined(testPod()))
		w.start(t, gated(ready(testPod(), true), gateOpen, contract.Registered))
		after(5 * time.Second)
		if n := w.count("register"); n != 0 {
			t.Errorf("an instance that is as it should be was registered %d times", n)
		}
		for _, c := range w.conditions() {
			if c.Status != gateOpen {
				t.Errorf("the restart closed the gate: %+v", c)
			}
		}
		if w.count("heartbeat") == 0 {
			t.Error("no heartbeat after the restart")
		}
	})
}
