package agentlet

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// gateStatus is what the gate should say. Its message holds nothing that changes by itself, or it would be written for ever.
type gateStatus struct {
	open    bool
	reason  contract.Reason
	message string
	// hold is how long it has to be so before it is written.
	hold time.Duration
}

// decideGate decides what the gate should say now.
func decideGate(s *state, now time.Time) gateStatus {
	v := evaluateGate(s, now)
	v.message = printable(v.message, contract.MaxConditionMessage)
	return v
}

func evaluateGate(s *state, now time.Time) gateStatus {
	switch {
	case s.terminating() && s.notRemoved(now):
		return gateStatus{reason: contract.Draining, message: "the pod terminates; " + notRemovedMessage(s)}
	case s.terminating():
		return gateStatus{reason: contract.Draining, message: "the pod terminates"}
	case s.unserved.reason != "":
		return s.unserved
	case s.mode() == contract.GateOff:
		return gateStatus{open: true, reason: contract.Registered, message: contract.Gate + " is off"}
	case s.gate.open() && !lost(s):
		return evaluateOpen(s)
	case s.portConflict != "":
		return gateStatus{reason: contract.PortConflict, message: s.portConflict}
	case s.reg == nil && s.invalid != "":
		return gateStatus{reason: contract.InvalidConfiguration, message: s.invalid}
	case s.pod == nil || s.reg == nil:
		return gateStatus{reason: contract.Starting, message: "waiting for the pod's first status"}
	case s.ip() == "":
		return gateStatus{reason: contract.Starting, message: "waiting for the pod's IP"}
	}
	v := evaluateClosed(s, now)
	if s.invalid != "" {
		v.message += "; keeping the last valid annotations: " + s.invalid
	}
	return v
}

// evaluateOpen keeps an open gate open, and says so where the annotations that the pod has now can't be followed. Until the
// catalog shows what is wanted now, it says what it said.
func evaluateOpen(s *state) gateStatus {
	current := s.gate.current
	switch {
	case s.invalid != "" && s.reg == nil && s.defined:
		return gateStatus{open: true, reason: contract.InvalidConfiguration, message: "not registered: " + s.invalid}
	case s.invalid != "":
		return gateStatus{
			open:    true,
			reason:  contract.InvalidConfiguration,
			message: "keeping the last valid registration: " + s.invalid,
		}
	case checksFail(s):
		return gateStatus{
			open:    true,
			reason:  contract.Registered,
			hold:    problemAfter,
			message: s.openMessage(time.Time{}, "failing checks: "+failingChecks(s)),
		}
	case s.reg != nil && (allSatisfyGate(s) || current.Reason == string(contract.InvalidConfiguration)):
		return gateStatus{open: true, reason: contract.Registered, message: s.openMessage(time.Time{}, "")}
	case s.reg != nil && !s.lostAt().IsZero():
		return gateStatus{
			open: true, reason: contract.CatalogLost, hold: problemAfter,
			message: s.openMessage(s.lostAt(), ""),
		}
	}
	return gateStatus{open: true, reason: contract.Reason(current.Reason), message: current.Message}
}

// lost reports whether an open gate has to close: under the continuous policy, when the catalog no longer has an
// instance that it has shown since it was put. Not knowing closes nothing.
func lost(s *state) bool {
	return s.reg != nil && s.reg.Settings.GatePolicy == contract.GateContinuous &&
		slices.ContainsFunc(s.wanted, (*instance).lost)
}

func evaluateClosed(s *state, now time.Time) gateStatus {
	registered := s.mode() == contract.GateRegistered
	due, bounded := s.timeoutAt()
	problem, wrong := agentProblem(s)
	switch {
	case allSatisfyGate(s) && (registered || s.ready()):
		return gateStatus{open: true, reason: contract.Registered, message: s.openMessage(time.Time{}, "")}
	case lost(s):
		return gateStatus{reason: contract.CatalogLost, message: lostMessage}
	case bounded && !now.Before(due):
		return gateStatus{
			open:   true,
			reason: contract.TimedOut,
			message: fmt.Sprintf("opened: %s=%s expired before the catalog confirmed the registration", contract.GateTimeout,
				s.reg.Settings.GateTimeout),
		}
	case problem != "":
		return gateStatus{reason: problem, message: wrong}
	case !registered && !s.ready():
		return gateStatus{reason: contract.ContainersNotReady, message: "not ready: " + strings.Join(s.notReady(), ", ")}
	case s.inMaintenance():
		return gateStatus{reason: contract.AwaitingCatalog, message: "in maintenance mode, set by the application"}
	case s.cause(readCatalog{}) != "":
		return gateStatus{reason: contract.AwaitingCatalog, message: "reading the catalog failed" + s.cause(readCatalog{})}
	case s.catalog.view != nil && len(s.catalog.view.FailingNodeChecks) > 0:
		return gateStatus{
			reason:  contract.AwaitingCatalog,
			message: "the Consul node's own checks fail: " + strings.Join(s.catalog.view.FailingNodeChecks, ", "),
		}
	}
	if failing := failingChecks(s); failing != "" {
		return gateStatus{reason: contract.AwaitingCatalog, message: "in the catalog, with failing checks: " + failing}
	}
	return gateStatus{reason: contract.AwaitingCatalog, message: "waiting until the catalog shows every service"}
}

const lostMessage = "the catalog has lost an instance"

// lostAt is since when the catalog lacks an instance that it had shown; zero where it lacks none.
func (s *state) lostAt() (first time.Time) {
	for _, i := range s.wanted {
		if i.lost() && (first.IsZero() || i.lostAt.Before(first)) {
			first = i.lostAt
		}
	}
	return first
}

// failingChecks names the services' own checks that don't pass in the catalog, as last read, with what they answered; empty when
// all pass.
func failingChecks(s *state) string {
	var failing []string
	for _, i := range s.wanted {
		if seen, there := s.inCatalog(i); there && seen.Failing != "" {
			failing = append(failing, i.want.Name+": "+seen.Failing)
		}
	}
	return strings.Join(failing, "; ")
}

// checksFail reports whether a check of a service's own fails though the containers are ready, and has run: one that is new fails
// until then.
func checksFail(s *state) bool {
	return s.ready() && slices.ContainsFunc(s.wanted, func(i *instance) bool {
		seen, there := s.inCatalog(i)
		return there && seen.Answered
	})
}

// timeoutAt is when gate-timeout opens a closed gate: counted from when the containers became ready, or from when an
// open gate had to close.
func (s *state) timeoutAt() (at time.Time, ok bool) {
	if s.reg == nil || s.reg.Settings.GateTimeout == 0 || !s.ready() {
		return at, false
	}
	at = s.readySince
	if s.gate.closedAt.After(at) {
		at = s.gate.closedAt
	}
	return at.Add(s.reg.Settings.GateTimeout), true
}

// allSatisfyGate reports whether the catalog, read after the last change at the agent, has every service as it should be, on a
// node whose own checks pass: what a client that asks for passing instances would see.
func allSatisfyGate(s *state) bool {
	if len(s.wanted) == 0 || !s.catalog.fresh() || len(s.catalog.view.FailingNodeChecks) > 0 {
		return false
	}
	for _, i := range s.wanted {
		if i.agent != present || !i.upToDate() || !s.satisfiesGate(i) {
			return false
		}
	}
	return true
}

// satisfiesGate reports whether the catalog, as last read, has the instance as the gate wants it. A maintenance opens
// no gate, whoever asked for it.
func (s *state) satisfiesGate(i *instance) bool {
	seen, there := s.inCatalog(i)
	return there && (s.mode() == contract.GateRegistered || seen.Health == s.health(i) && !s.inMaintenance())
}

// openMessage is the gate's message where the catalog shows the services, or did until a time, with what else there is to say.
func (s *state) openMessage(until time.Time, more string) string {
	m := openMessage{services: make([]string, 0, len(s.reg.Services)), address: s.ip(), until: until.UTC(), more: more}
	for _, service := range s.reg.Services {
		m.services = append(m.services, service.Name)
	}
	return m.String()
}
