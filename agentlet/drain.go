package agentlet

import (
	"errors"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// drain is the termination's progress.
type drain struct {
	// goneAt is when the catalog had dropped every instance; refusedAt when the agent refused the connection.
	goneAt, refusedAt time.Time
}

// planDrain takes the pod's instances out and answers the drain hooks when that is done:
//
//   - what an earlier agentlet of this pod may have left at the agent is looked for, if that isn't known yet;
//   - every instance is deregistered, known to be there or not;
//   - then the catalog is read until it has dropped them, for drain-timeout at the most;
//   - then drain-delay passes, for clients that still hold the old list, unless no application runs any more;
//   - last of all, and at the latest when the process ends, it logs out of Consul's ACL system.
//
// An agent that refuses the connection or the login ends all waiting at once: there is nobody to wait for. It is tried on
// all the same for as long as the process lives, for it may be restarting. Both waits together never take more than
// contract.DrainShareOfGrace of the pod's grace period.
func planDrain(s *state, now time.Time, p *schedule) {
	end, _ := s.drainEnd()
	if !end.IsZero() && p.reached(now, end) {
		p.drained = true
	}
	over := p.drained && s.signals.sigterm
	if !s.drain.goneAt.IsZero() || over {
		planLastLogout(s, now, p)
	}
	// A process that ends with nothing left at the agent has nothing to ask any more, and no use for one more session.
	if s.drain.goneAt.IsZero() && (!over || !s.removed()) && planLogin(s, now, p) {
		planRemoval(s, now, p)
	}
}

// planRemoval takes out what is at the agent, and then reads the catalog until it has dropped it.
func planRemoval(s *state, now time.Time, p *schedule) {
	if !s.conn.listed {
		p.add(s, now, listServices{generation: s.writeGeneration})
	}
	parting := false
	for id, i := range s.instances {
		switch {
		case i.agent != absent && i.reregisteredCritical && !p.drained && s.passes(i):
			parting = true // until the catalog has it as critical
		case i.agent != absent && !p.drained && s.waitsForProxy(i) && !p.reached(now, s.terminatingAt.Add(proxyFirst)):
			// the proxy first
		case i.agent != absent:
			p.add(s, now, deregister{id: id})
		case !i.reregisteredCritical && i.want != nil && s.catalog.fresh() && s.passes(i) &&
			p.reached(now, i.removedAt.Add(notRemovedGrace)):
			p.add(s, now, register{id: id, definition: i.definition(), health: contract.Critical, fresh: true, markCritical: true})
		}
	}
	if s.removed() || parting {
		planCatalog(s, now, p, waitMax)
	}
}

// proxyFirst bounds how long a service waits for its mesh proxy to be out, for which an agent that is well takes
// milliseconds: the drain's time is that of the service's direct clients, too.
const proxyFirst = time.Second

// waitsForProxy reports whether an instance waits until its mesh proxy is out, by which others come to it. It doesn't
// wait for one that can't be removed.
func (s *state) waitsForProxy(i *instance) bool {
	proxy := s.proxyOf(i)
	return proxy != nil && proxy.agent != absent && s.retries[deregister{id: proxy.id}.key()].failures == 0
}

// notRemovedGrace is how long the catalog may keep what its agent has removed until something is wrong: an agent whose own token
// lacks node:write is told by the servers that it may not remove it, and lets it be. The catalog would show the pod as
// passing for as long as there is the node. So it is put once more, as critical, which the pod's own token may do.
const notRemovedGrace = 3 * time.Second

// passes reports whether the catalog, as last read, has the instance as passing.
func (s *state) passes(i *instance) bool {
	return s.catalog.view != nil && s.catalog.view.Instances[i.id].Health == contract.Passing
}

// notRemoved reports whether the catalog keeps what its agent was asked to remove a while ago.
func (s *state) notRemoved(now time.Time) bool {
	for _, i := range s.instances {
		if i.removedAt.IsZero() || s.catalog.view == nil || now.Before(i.removedAt.Add(notRemovedGrace)) {
			continue
		}
		if _, there := s.catalog.view.Instances[i.id]; there && (i.reregisteredCritical || s.catalog.fresh()) {
			return true
		}
	}
	return false
}

// notRemovedMessage says what a person must do then.
func notRemovedMessage(s *state) string {
	return s.identity.agent() + " has removed the pod's instances and the catalog keeps them: " +
		"the agent's own token has to have node:write for its node"
}

// abortTerminationAfter is how long after the grace period a pod is still waited for that only the own preStop hook says ends.
const abortTerminationAfter = 30 * time.Second

// planEnd lets the process end after the drain and the containers' own hooks, with a moment for the event of it and for the
// logout; and without being told to, when the end that the kubelet's hook announced never came: a kubelet that restarts forgets
// an eviction.
func planEnd(s *state, now time.Time, p *schedule) {
	if s.signals == (signals{preStop: true}) {
		p.aborted = p.reached(now, s.terminatingAt.Add(s.grace()+abortTerminationAfter))
	}
	if !p.drained || !s.signals.sigterm {
		return
	}
	end, _ := s.drainEnd()
	if s.triesOn(end, now, p) || s.awaitsHooks(now, p) {
		return
	}
	told := !s.eventPending(now) || p.reached(now, end.Add(eventGrace))
	p.ended = s.loggedOut(now, later(end, s.sigtermAt), p) && told
}

// triesOn reports whether the process goes on after a drain that has failed, to remove its instances after all. As one of the
// pod's containers it gets SIGTERM at the beginning of the termination; a native sidecar gets it when the application has ended,
// and has tried for as long. It holds the pod's end up for lastTries at the most.
func (s *state) triesOn(end, now time.Time, p *schedule) bool {
	return s.pod != nil && amongContainers(s.pod) && running(s.pod) && !s.removed() && !p.reached(now, end.Add(lastTries))
}

// lastTries is longer than a Consul agent takes to restart.
const lastTries = 15 * time.Second

// How a drain ends, or would end as things stand.
const (
	drainWaiting  = "waiting"   // as yet
	drainDropped  = "dropped"   // the catalog has no instance of the pod any more
	drainTimedOut = "timed_out" // drain-timeout is over
	drainRefused  = "refused"   // the agent refuses connections, or Consul the login
	drainNothing  = "nothing"   // there was nothing to take out
)

// drainEnd is when the hooks may be answered as things stand, and why. Before the catalog has spoken it is when the
// patience ends.
func (s *state) drainEnd() (end time.Time, how string) {
	timeout, delay, limit := s.drainBudget()
	if s.pod != nil && !running(s.pod) || s.neverPassed() {
		delay = 0
	}
	start := s.terminatingAt
	switch {
	case !s.drain.refusedAt.IsZero():
		return s.drain.refusedAt, drainRefused
	case !s.anyRegistered():
		return start, drainNothing
	case !s.drain.goneAt.IsZero():
		end, how = s.drain.goneAt.Add(delay), drainDropped
	default:
		end, how = start.Add(timeout+delay), drainTimedOut
	}
	if bound := start.Add(limit); end.After(bound) {
		end = bound
	}
	return end, how
}

// neverPassed reports whether no client was ever sent to the pod: its containers were never ready, and no instance was more
// than critical. With gate registered others may have come to it before.
func (s *state) neverPassed() bool { return s.conn.listed && !s.fixedHealthCounts() }

// progress of a drain: how it ended and how long that took, drain-delay left out. No outcome: it has not begun.
type progress struct {
	outcome string
	began   time.Time
	took    time.Duration
}

// at is how long it has taken until now.
func (p progress) at(now time.Time) time.Duration {
	if p.outcome == drainWaiting {
		return now.Sub(p.began)
	}
	return p.took
}

func (s *state) progress(now time.Time) progress {
	if !s.terminating() {
		return progress{}
	}
	end, how := s.drainEnd()
	switch {
	case how == drainDropped:
		end = s.drain.goneAt
	case how == drainTimedOut && now.Before(end):
		how = drainWaiting
	}
	return progress{outcome: how, began: s.terminatingAt, took: end.Sub(s.terminatingAt)}
}

// drainBudget is how long to wait for Consul, how long to wait after it, and how long both may take together, under the
// pod's live grace period.
func (s *state) drainBudget() (timeout, delay, limit time.Duration) {
	grace := s.grace()
	limit = time.Duration(float64(grace) * contract.DrainShareOfGrace)
	timeout = min(contract.DefaultDrainTimeout, grace/3)
	if s.reg != nil {
		delay = s.reg.Settings.DrainDelay
		if s.reg.Settings.DrainTimeout > 0 {
			timeout = s.reg.Settings.DrainTimeout
		}
	}
	return min(timeout, limit), delay, limit
}

// observeRefusal ends the drain's waiting when nothing listens at the agent's address, or Consul doesn't let us in: there is
// nobody to wait for.
func (s *state) observeRefusal(c command, err error, now time.Time) {
	refused := errors.Is(err, ErrRefused) || c.key() == (logIn{}).key() && isRejected(err)
	if refused && s.terminating() && s.drain.refusedAt.IsZero() {
		s.drain.refusedAt = now
	}
}
