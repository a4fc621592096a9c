package agentlet

import (
	"fmt"
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

// Times of the events. There are a few reasons, and each is told once in tellAgain at the most, so that a pod whose agent
// comes and goes tells no more than a handful in that time.
const (
	tellAgain = 5 * time.Minute
	// troubleAfter is how long Consul must be out of reach, refuse, or fail a check before that is told: a restart of the agent,
	// which every pod of its node would tell of, takes less.
	troubleAfter = 15 * time.Second
	// tellGrace is how long an ended drain keeps the process for an event that is under way.
	tellGrace = time.Second
)

// telling is what the pod's events have said. An event is tried once: it is news, and no place to look something up.
type telling struct {
	// told is what was told last, or what the condition says that an earlier agentlet of this pod wrote; that has no message.
	told notice
	// want is what should be told, and since when that is so.
	want      notice
	wantSince time.Time
	// at is when each reason was told last.
	at map[contract.Reason]time.Time
	// busy: one is under way.
	busy bool
}

// notice is what there is to tell; without a reason, nothing.
type notice struct {
	warning bool
	reason  contract.Reason
	message string
	// hold is how long it has to be so before it is told.
	hold time.Duration
}

// wish notes what should be told from now on.
func (t *telling) wish(n notice, now time.Time) {
	if n.reason != t.want.reason {
		t.wantSince = now
	}
	n.message = printable(n.message, contract.MaxEventMessage)
	t.want = n
}

// begin notes that a notice is being told.
func (t *telling) begin(e Event) {
	if t.at == nil {
		t.at = map[contract.Reason]time.Time{}
	}
	t.told, t.at[e.Reason], t.busy = notice{warning: e.Warning, reason: e.Reason, message: e.Message}, e.At, true
}

// news reports whether the notice says something new.
func (t *telling) news(n notice) bool {
	return n.reason != "" && (n.reason != t.told.reason || t.told.message != "" && n.message != t.told.message)
}

// planEvents tells what is to be told, when it has held long enough and its reason has not been told for a while.
func planEvents(s *state, now time.Time, p *schedule) {
	t := &s.telling
	if s.pod == nil || s.gone || !t.news(t.want) {
		return
	}
	due := t.at[t.want.reason].Add(tellAgain)
	if !s.terminating() {
		due = later(due, t.wantSince.Add(t.want.hold))
	}
	if p.reached(now, due) {
		p.add(s, now, action{kind: tell, event: Event{t.want.warning, t.want.reason, t.want.message, now}})
	}
}

// notable is what there is to tell now. It is not the gate's verdict: an open gate stays open in an outage, and pods
// without one have something to tell, too.
func notable(s *state, now time.Time) notice {
	if s.terminating() {
		return notableEnd(s, now)
	}
	wrong, found := trouble(s)
	switch {
	case s.pod == nil:
		return notice{}
	case s.mistakes != "":
		return warning(contract.InvalidConfiguration, s.mistakes)
	case s.portConflict != "":
		return warning(contract.PortConflict, s.portConflict)
	case s.reg == nil || s.ip() == "":
		return notice{}
	case s.gate.want.reason == contract.TimedOut:
		return warning(contract.TimedOut, s.gate.want.message)
	case lost(s):
		return warning(contract.CatalogLost, lostMessage)
	case found && wrong.reason != contract.ConsulUnreachable:
		return held(wrong.reason, wrong.message)
	case found && (s.link.answers || s.retries[action{kind: findLeader}.lane()].failures > 0):
		return held(contract.ConsulUnreachable, "the Consul agent at "+s.identity.ConsulAddress+" is out of reach")
	case found:
		return notice{} // it isn't known yet whether the agent is away
	case s.maintained():
		return notice{reason: contract.Maintenance, message: "the application has taken itself out of passing: " + s.words.reason}
	case s.reg != nil && !s.lostAt().IsZero():
		return held(contract.CatalogLost, lostMessage)
	case checksFail(s):
		return held(contract.CheckFailing, "in the catalog, with failing checks: "+failingChecks(s))
	// Where there is no gate that would say so, an instance that an earlier agentlet has put is no news.
	case s.gate.want.reason == contract.Registered && allShown(s) && (hasGate(s.pod, contract.Condition) || s.registeredHere):
		return notice{reason: contract.Registered, message: registeredMessage(s)}
	}
	return notice{}
}

func notableEnd(s *state, now time.Time) notice {
	end, how := s.drainEnd()
	switch {
	case how == drainDropped:
		return notice{reason: contract.Drained, message: "the catalog has dropped every instance"}
	case how == drainRefused:
		return warning(contract.ConsulUnreachable, fmt.Sprintf(
			"the Consul agent at %s refuses connections, or the login, so the pod ends with its instances registered", s.identity.ConsulAddress))
	case how == drainTimedOut && !now.Before(end) && s.kept(now):
		return warning(contract.DrainTimedOut, keptMessage(s))
	case how == drainTimedOut && !now.Before(end):
		return warning(contract.DrainTimedOut, "the catalog was not seen to drop every instance in time, and the pod ends all the same")
	}
	return notice{}
}

func warning(reason contract.Reason, message string) notice {
	return notice{warning: true, reason: reason, message: message}
}

// held is a warning of what may be over in a moment.
func held(reason contract.Reason, message string) notice {
	return notice{warning: true, reason: reason, message: message, hold: troubleAfter}
}

// recall takes the condition that was found at the start for what has been told.
func (s *state) recall(c *corev1.PodCondition) {
	if c != nil && !s.gate.moved {
		s.telling.told.reason = contract.Reason(c.Reason)
	}
}
