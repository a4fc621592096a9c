package agentlet

import (
	"context"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Event is a turn in the pod's life that a person who looks at the pod should see. It becomes a Kubernetes event.
type Event struct {
	Warning bool
	Reason  contract.Reason
	// Message of at most contract.MaxEventMessage bytes, without anything secret.
	Message string
	At      time.Time
}

// Times of the events. There are a few reasons, and each is used once in eventInterval at the most, so that a pod whose agent
// comes and goes creates no more than a handful in that time.
const (
	eventInterval = 5 * time.Minute
	// problemAfter is how long Consul must be out of reach, refuse, or fail a check before there is an event: a restart of
	// the agent, which every pod of its node would report, takes less.
	problemAfter = 15 * time.Second
	// eventGrace is how long an ended drain keeps the process for an event that is under way.
	eventGrace = time.Second
)

// eventState is what the pod's events have said. An event is tried once: it is news, and no place to look something up.
type eventState struct {
	// last is the last event, or what the condition says that an earlier agentlet of this pod wrote; that has no message.
	last eventSpec
	// desired is the event that there should be, and since when that is so.
	desired      eventSpec
	desiredSince time.Time
	// at is when there was last an event of each reason.
	at map[contract.Reason]time.Time
	// busy: one is under way.
	busy bool
}

// eventSpec is an event that there should be; without a reason, none.
type eventSpec struct {
	warning bool
	reason  contract.Reason
	message string
	// hold is how long it has to be so before it is created.
	hold time.Duration
	// once: there is no second one of this reason, whatever its message says.
	once bool
}

// setDesired notes which event there should be from now on.
func (t *eventState) setDesired(n eventSpec, now time.Time) {
	if n.reason != t.desired.reason {
		t.desiredSince = now
	}
	n.message = printable(n.message, contract.MaxEventMessage)
	t.desired = n
}

// begin notes that an event is being created.
func (t *eventState) begin(e Event) {
	if t.at == nil {
		t.at = map[contract.Reason]time.Time{}
	}
	t.last, t.at[e.Reason], t.busy = eventSpec{warning: e.Warning, reason: e.Reason, message: e.Message}, e.At, true
}

// isNew reports whether the notice says something new.
func (t *eventState) isNew(n eventSpec) bool {
	if n.once && !t.at[n.reason].IsZero() {
		return false
	}
	return n.reason != "" && (n.reason != t.last.reason || t.last.message != "" && n.message != t.last.message)
}

// due is the event to create, if there is one, and when: when it has held long enough and its reason was not used for a while.
func (t *eventState) due(terminating bool, now time.Time) (event Event, at time.Time, ok bool) {
	if !t.isNew(t.desired) {
		return Event{}, at, false
	}
	at = t.at[t.desired.reason].Add(eventInterval)
	if !terminating {
		at = later(at, t.desiredSince.Add(t.desired.hold))
	}
	return Event{t.desired.warning, t.desired.reason, t.desired.message, now}, at, true
}

// planEvents creates the event that is due. The gate goes first: a rollout waits for it.
func planEvents(s *state, now time.Time, p *schedule) {
	if s.pod == nil || s.gone || p.has(patchStatus{}.key()) {
		return
	}
	if event, at, ok := s.events.due(s.terminating(), now); ok && p.reached(now, at) {
		p.add(s, now, createEvent{event})
	}
}

// eventPending reports whether an event is under way, or about to be.
func (s *state) eventPending(now time.Time) bool {
	_, at, ok := s.events.due(s.terminating(), now)
	return s.events.busy || ok && s.pod != nil && !s.gone && !now.Before(at)
}

// createEvent makes a Kubernetes event, and tries once: it is news, and no place to look something up.
type createEvent struct{ event Event }

func (createEvent) key() key             { return key{name: "event"} }
func (createEvent) operation() operation { return "create_event" }
func (createEvent) policy() policy {
	return policy{timeout: 5 * time.Second, asks: elsewhere, once: true}
}

func (c createEvent) start(s *state) { s.events.begin(c.event) }

func (c createEvent) run(ctx context.Context, ports *Config) outcome {
	return outcome{err: ports.Kube.CreateEvent(ctx, c.event), handle: func(s *state, _ turn) { s.events.busy = false }}
}

// desiredEvent is the event that there should be now. It is not the gate's status: an open gate stays open in an outage, and pods
// without one have events, too.
func desiredEvent(s *state, gate gateStatus, now time.Time) eventSpec {
	if s.terminating() {
		return desiredEndEvent(s, now)
	}
	problem, wrong := agentProblem(s)
	switch {
	case s.pod == nil:
		return eventSpec{}
	case s.unserved.reason != "":
		return eventSpec{warning: !s.unserved.open, reason: s.unserved.reason, message: s.unserved.message}
	case s.invalid != "":
		return warning(contract.InvalidConfiguration, s.invalid)
	case s.portConflict != "":
		return warning(contract.PortConflict, s.portConflict)
	case s.reg == nil || s.ip() == "":
		return closedEvent(s, gate)
	case gate.reason == contract.TimedOut:
		return warning(contract.TimedOut, gate.message)
	case lost(s):
		return warning(contract.CatalogLost, lostMessage)
	case problem != "" && problem != contract.ConsulUnreachable:
		return held(problem, wrong)
	case problem != "" && s.conn.phase != connUnknown:
		return held(contract.ConsulUnreachable, s.identity.agent()+" is out of reach")
	case problem != "": // it isn't known yet whether the agent is away
		return closedEvent(s, gate)
	case s.inMaintenance():
		return eventSpec{
			reason:  contract.Maintenance,
			message: "the application has taken itself out of passing: " + s.overrides.reason,
		}
	case !s.lostAt().IsZero():
		return held(contract.CatalogLost, lostMessage)
	case checksFail(s):
		return held(contract.CheckFailing, "in the catalog, with failing checks: "+failingChecks(s))
	// Where there is no gate that would say so, an instance that an earlier agentlet has put is no news.
	case gate.reason == contract.Registered && allSatisfyGate(s) && (hasGate(s.pod, contract.Condition) || s.registeredHere):
		return eventSpec{reason: contract.Registered, message: s.openMessage(time.Time{}, "")}
	}
	return closedEvent(s, gate)
}

// closedEvent is the event of a gate that stays closed though nothing is known to be wrong. That the application is slow is
// normal, and told once: which containers it waits for may change all the time.
func closedEvent(s *state, gate gateStatus) eventSpec {
	switch {
	case gate.open || !hasGate(s.pod, contract.Condition):
		return eventSpec{}
	case gate.reason == contract.Starting, gate.reason == contract.ContainersNotReady:
		return eventSpec{reason: gate.reason, message: gate.message, hold: problemAfter, once: true}
	}
	return held(gate.reason, gate.message)
}

func desiredEndEvent(s *state, now time.Time) eventSpec {
	end, how := s.drainEnd()
	switch {
	case how == drainDropped:
		return eventSpec{reason: contract.Drained, message: "the catalog has dropped every instance"}
	case how == drainRefused:
		return warning(contract.ConsulUnreachable,
			s.identity.agent()+" refuses connections, or the login, so the pod ends with its instances registered")
	case how == drainTimedOut && !now.Before(end) && s.notRemoved(now):
		return warning(contract.DrainTimedOut, notRemovedMessage(s))
	case how == drainTimedOut && !now.Before(end):
		return warning(contract.DrainTimedOut, "the catalog was not seen to drop every instance in time, and the pod ends all the same")
	}
	return eventSpec{}
}

func warning(reason contract.Reason, message string) eventSpec {
	return eventSpec{warning: true, reason: reason, message: message}
}

// held is a warning of what may be over in a moment.
func held(reason contract.Reason, message string) eventSpec {
	return eventSpec{warning: true, reason: reason, message: message, hold: problemAfter}
}

// restoreLast takes the condition that was found at the start for the last event.
func (s *state) restoreLast(c *corev1.PodCondition) {
	if c != nil && !s.gate.staleAddress {
		s.events.last.reason = contract.Reason(c.Reason)
	}
}
