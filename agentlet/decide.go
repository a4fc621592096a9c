package agentlet

import "time"

// decision is what the registrar publishes: the pod's gate, and an event.
type decision struct {
	gate  gateStatus
	event eventSpec
}

// decide what the gate and the event should say, from what is known. It changes nothing and asks nobody: two
// evaluations of one state give equal decisions.
func decide(s *state, now time.Time) decision {
	gate := decideGate(s, now)
	return decision{gate: gate, event: desiredEvent(s, gate, now)}
}

// commit takes a decision over, and notes since when it is so.
func (s *state) commit(d decision, now time.Time) {
	s.gate.setWant(d.gate, now)
	s.events.setDesired(d.event, now)
}
