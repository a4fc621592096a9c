package agentlet

import (
	"slices"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// plan decides which commands should be in flight, from what is known. It changes nothing and asks nobody.
func plan(s *state, now time.Time) schedule {
	p := newSchedule()
	if s.terminating() {
		planDrain(s, now, &p)
	} else {
		planProbes(s, now, &p)
		planLife(s, now, &p)
	}
	planGate(s, now, &p)
	planEvents(s, now, &p)
	planEnd(s, now, &p)
	return p
}

// planLife keeps the pod's instances as the pod asks for: first a connection with the agent, then a session, then what
// the agent has.
func planLife(s *state, now time.Time, p *schedule) {
	if !s.conn.hasLeader() {
		p.add(s, now, getLeader{})
	}
	switch {
	case !s.conn.answers():
		planHeartbeatsWhileUnreachable(s, now, p)
		return
	case !planLogin(s, now, p):
		return
	case !s.conn.listed:
		planHeartbeatsWhileUnreachable(s, now, p)
		p.add(s, now, listServices{generation: s.writeGeneration})
		return
	}
	waits := s.conn.hasLeader() && (s.catalog.view == nil || s.catalog.asked != nil)
	for _, i := range s.instances {
		waits = planInstance(s, i, now, p) || waits
	}
	switch {
	case waits:
		planCatalog(s, now, p, waitMax)
	case s.followsCatalog():
		planCatalog(s, now, p, idleWait)
	}
	planOldLogout(s, now, p)
}

// planInstance keeps one instance as the pod asks for, and reports whether it waits for the catalog.
func planInstance(s *state, i *instance, now time.Time, p *schedule) (waits bool) {
	planDefinition(s, i, now, p)
	if i.agent == present && !s.defined {
		planHeartbeat(s, i, now, p)
	}
	if i.want == nil || i.agent != present {
		return false
	}
	planReadiness(s, i, now, p)
	var watching command = watchService{id: i.id, hash: i.hash, lateGeneration: s.lateGeneration}
	p.want(watching)                 // one that breaks the connection keeps its pace until it is begun again
	if i.confirmed || i.hash != "" { // one that was begun goes on: it isn't answered when only the health changes
		p.add(s, now, watching)
	}
	return !s.updatesReadiness(i) && (!i.confirmed || s.gateWaits(now, p))
}

// updatesReadiness reports whether the agent is being told of another state, for the first time. What the catalog shows before it
// knows says nothing of that state, and to read it would only hold the update up.
func (s *state) updatesReadiness(i *instance) bool {
	return i.readiness != "" && i.readiness != s.health(i) && s.retries[key{checksKey, i.id}].failures == 0
}

// gateWaits reports whether a closed gate waits for the catalog. While it waits for the containers, or a moment for its own patch
// alone, it does not: a reading that is given up a moment later goes on at the servers. While a patch takes long the catalog is
// read on, because the gate must not open by what it showed before.
func (s *state) gateWaits(now time.Time, p *schedule) bool {
	return s.waits() && !s.gate.open() && s.mode() != contract.GateOff && (s.ready() || s.mode() == contract.GateRegistered) &&
		(!s.gate.want.open || s.retries[patchStatus{}.key()].failures > 0 || p.reached(now, s.gate.wantSince.Add(patchMoment)))
}

// patchMoment is longer than a patch takes, by far, and shorter than anything that a person notices.
const patchMoment = time.Second

// followsCatalog reports whether the catalog is read on when nothing waits for it: under the continuous policy, and
// where a service has checks of its own, whose results only Consul knows.
func (s *state) followsCatalog() bool {
	return s.reg != nil && (s.reg.Settings.GatePolicy == contract.GateContinuous ||
		slices.ContainsFunc(s.reg.Services, func(service registration.Service) bool { return len(service.Checks) > 0 }))
}
