package agentlet

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// registrationKey is of the commands that change an instance at the agent, by the instance.
const registrationKey = "registration"

// Consul's agent syncs a change at once, but a failed sync waits for its next change or full sync. So an agent whose
// catalog lags is made to sync, with a changed definition: first after resyncAfter, then with pauses up to resyncMax.
const (
	resyncAfter = 2 * time.Second
	resyncMax   = 30 * time.Second
	// reregisterInterval is the least time between two writes of a registration or a condition that does not stay as it
	// was written: somebody else may be as stubborn.
	reregisterInterval = 500 * time.Millisecond
)

// Causes of a registration.
const (
	causeFirst   = "first"
	causeChanged = "changed" // the pod asks for something else now, or somebody has changed it at the agent
	causeLost    = "lost"    // the agent had it, and has it no longer
	causeResync  = "resync"  // the catalog lags behind the agent
)

// planDefinition registers an instance that is missing, not as it should be, or registered with an earlier session. It
// deregisters one that nobody wants, and has the agent sync again where the catalog lacks what the agent has.
func planDefinition(s *state, i *instance, now time.Time, p *schedule) {
	switch {
	case i.want == nil:
		if s.defined && i.agent != absent {
			p.add(s, now, deregister{id: i.id})
		}
	case !i.upToDate(), i.login != s.login.current.ID:
		if !s.shouldRegister(i) {
			return
		}
		c := newRegister(s, i)
		p.want(c)
		again := i.registeredFingerprint == i.fingerprint && i.login == s.login.current.ID
		if s.conn.hasLeader() && (!again || p.reached(now, i.registeredAt.Add(reregisterInterval))) {
			p.add(s, now, c)
		}
	case i.notesStale() && i.readiness == s.health(i) && i.maintenanceOutput == s.maintenanceOutput() &&
		s.conn.hasLeader() && s.conn.lateUpdates == 0:
		p.add(s, now, newRegister(s, i)) // the update comes first: it takes effect also where the agent is blocked
	case (!i.confirmed || i.lost()) && s.conn.hasLeader() && s.catalog.fresh() && !s.synced(i) && p.reached(now, i.resyncAt):
		c := newRegister(s, i)
		c.cause = causeResync
		c.definition.Meta = withSyncGeneration(c.definition.Meta, i.syncGeneration+1)
		p.add(s, now, c)
	}
}

// register puts a definition at the agent.
type register struct {
	id         string
	definition Definition
	health     contract.Health
	obsolete   []string
	cause      string
	// fresh: the agent is known not to have it.
	fresh bool
	// markCritical: in the drain, as critical, because the catalog kept it.
	markCritical bool
}

func newRegister(s *state, i *instance) register {
	cause := causeChanged
	switch {
	case !i.registered:
		cause = causeFirst
	case i.agent == absent:
		cause = causeLost
	}
	return register{
		id: i.id, definition: i.definition(), health: s.health(i), cause: cause, fresh: i.agent == absent, obsolete: i.obsolete(),
	}
}

func (c register) key() key           { return key{registrationKey, c.id} }
func (register) operation() operation { return "register" }
func (register) policy() policy {
	return policy{timeout: agentTimeout, waitsForAgentLock: true, changesAgent: true}
}

func (c register) start(s *state) { s.instances[c.id].agent = unknown } // until the answer is there

func (c register) run(ctx context.Context, ports *Config) outcome {
	err := ports.Agent.Register(ctx, c.definition, c.health, c.obsolete)
	return outcome{err: err, handle: func(s *state, t turn) { s.handleRegistered(c, err, t) }}
}

func (s *state) handleRegistered(c register, err error, t turn) {
	i := s.instances[c.id]
	if i == nil {
		return
	}
	if err != nil {
		i.agent, s.conn.listed = unknown, false
		return
	}
	if c.markCritical {
		t.log.Warn("registered once more, as critical: " + notRemovedMessage(s))
	} else {
		t.metrics.registered(c.cause)
		t.log.Info("registered", "health", string(c.health), "cause", c.cause)
	}
	if n, ok := syncGeneration(c.definition.Meta); ok {
		i.syncGeneration = n
	}
	refresh := refreshEvery
	if c.fresh { // otherwise the check has kept its state
		i.readiness, i.maintenanceOutput = c.health, ""
		if c.health != contract.Critical {
			refresh = persistAfter
		}
	}
	i.actual = &Observed{
		Definition:        c.definition,
		Fingerprint:       c.definition.Fingerprint(),
		Readiness:         i.readiness,
		MaintenanceOutput: i.maintenanceOutput,
		Checks:            c.definition.checkIDs(),
	}
	i.agent, i.registered, i.login, s.registeredHere = present, true, t.login, true
	i.registeredAt, i.registeredFingerprint = t.now, i.actual.Fingerprint
	i.hash = "" // that of what was there before, which somebody may bring back before it is watched again
	i.reregisteredCritical = i.reregisteredCritical || c.markCritical
	i.scheduleHeartbeat(t.now.Add(t.jitter(persistAfter)))
	if c.fresh || i.refreshAt.IsZero() {
		i.refreshAt = t.now.Add(t.jitter(refresh))
	}
	s.invalidateConfirmation(i, t)
}

// invalidateConfirmation asks the catalog anew about an instance that was changed at the agent, and sets the time of
// the next resync.
func (s *state) invalidateConfirmation(i *instance, t turn) {
	s.catalog.generation++
	s.catalog.unchangedReads = 0 // what is waited for now is the own change, and soon there
	i.confirmed = false
	i.resyncAt = t.now.Add(resyncPause(i, t.jitter))
}

func resyncPause(i *instance, jitter func(time.Duration) time.Duration) time.Duration {
	return jitter(min(resyncAfter<<min(i.syncGeneration, 8), resyncMax))
}

func withSyncGeneration(meta map[string]string, n int) map[string]string {
	meta = withoutSyncGeneration(meta)
	copied := make(map[string]string, len(meta)+1)
	maps.Copy(copied, meta)
	copied[contract.MetaSyncGeneration] = strconv.Itoa(n)
	return copied
}

// deregister removes an instance.
type deregister struct{ id string }

func (c deregister) key() key           { return key{registrationKey, c.id} }
func (deregister) operation() operation { return "deregister" }
func (deregister) policy() policy {
	return policy{timeout: agentTimeout, waitsForAgentLock: true, changesAgent: true, absentIsSuccess: true}
}

func (c deregister) run(ctx context.Context, ports *Config) outcome {
	err := ports.Agent.Deregister(ctx, c.id)
	return outcome{err: err, handle: func(s *state, t turn) {
		i := s.instances[c.id]
		if err == nil {
			t.log.Info("deregistered")
		}
		if i != nil && (err == nil || errors.Is(err, ErrAbsent)) { // else it is tried again
			s.handleDeregistered(i, t.now)
		}
	}}
}

func (s *state) handleDeregistered(i *instance, now time.Time) {
	if s.terminating() && i.removedAt.IsZero() {
		i.removedAt = now
	}
	i.forget()
	s.catalog.generation++
	s.catalog.unchangedReads = 0
	if i.want == nil && !s.terminating() {
		delete(s.instances, i.id)
		maps.DeleteFunc(s.retries, func(k key, _ retry) bool { return k.id == i.id })
	}
}
