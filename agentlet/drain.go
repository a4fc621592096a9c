package agentlet

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// planDrain takes the pod's instances out and answers the drain hooks when that is done:
//
//   - what an earlier agentlet of this pod may have left at the agent is looked for, if that isn't known yet;
//   - every instance is deregistered, known to be there or not;
//   - then the catalog is read until it has dropped them, for drain-timeout at the most;
//   - then drain-delay passes, for clients that still hold the old list, unless no application runs any more.
//
// An agent that refuses the connection ends all waiting at once: there is nobody to wait for. It is tried on all the same
// for as long as the process lives, for it may be restarting. Both waits together never take more than
// contract.DrainShareOfGrace of the pod's grace period.
func planDrain(s *state, now time.Time, p *schedule) {
	end, _ := s.drainEnd()
	if !end.IsZero() && p.reached(now, end) {
		p.drained = true
	}
	if !s.drain.goneAt.IsZero() {
		return
	}
	removed := s.link.inspected
	if !s.link.inspected {
		p.add(s, now, action{kind: inspect, epoch: s.writes})
	}
	for _, id := range s.ids() {
		if s.instances[id].agent != absent {
			removed = false
			p.add(s, now, action{kind: deregister, id: id})
		}
	}
	if removed {
		planCatalog(s, now, p)
	}
}

// drainEnd is when the hooks may be answered as things stand, and why. Before the catalog has spoken it is when the
// patience ends.
func (s *state) drainEnd() (end time.Time, why string) {
	timeout, delay, limit := s.drainBudget()
	if s.pod != nil && !running(s.pod) {
		delay = 0
	}
	start := s.terminatingAt
	switch {
	case !s.drain.refusedAt.IsZero():
		return s.drain.refusedAt, "agent refuses connections"
	case !s.anyRegistered():
		return start, "nothing registered"
	case !s.drain.goneAt.IsZero():
		end, why = s.drain.goneAt.Add(delay), "catalog dropped it"
	default:
		end, why = start.Add(timeout+delay), "timed out"
	}
	if bound := start.Add(limit); end.After(bound) {
		end = bound
	}
	return end, why
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

// grace period that the pod has now: a deletion may have shortened the specification's.
func (s *state) grace() time.Duration {
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if s.pod != nil {
		if s.pod.Spec.TerminationGracePeriodSeconds != nil {
			seconds = *s.pod.Spec.TerminationGracePeriodSeconds
		}
		if s.pod.DeletionGracePeriodSeconds != nil {
			seconds = *s.pod.DeletionGracePeriodSeconds
		}
	}
	return time.Duration(seconds) * time.Second
}

// anyRegistered reports whether there is or may be something to take out: an instance that is or was at the agent, or
// whose presence is not known.
func (s *state) anyRegistered() bool {
	if !s.link.inspected {
		return true
	}
	for _, i := range s.instances {
		if i.registered || i.agent != absent {
			return true
		}
	}
	return false
}
