package agentlet

import (
	"context"
	"errors"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// agentConn is the connection with the node's Consul agent.
type agentConn struct {
	phase connPhase
	// listed: it is known which of the pod's instances the agent has.
	listed bool
	// reconnected: the connection was broken, so that the agent may have restarted since.
	reconnected bool
	// lateUpdates counts the updates in a row, none of them begun before the one before it was late, that were not answered in time.
	lateUpdates int
}

// connPhase is how far the connection goes.
type connPhase int

const (
	// connUnknown: nobody has asked yet, or not since the connection broke.
	connUnknown connPhase = iota
	// connUnreachable: the agent did not answer the last question for its leader, or the connection broke after it had none.
	connUnreachable
	// connNoLeader: it answers, late updates aside, and has no cluster leader.
	connNoLeader
	connected
)

// answers reports whether the agent has answered the last request, late updates aside.
func (c agentConn) answers() bool { return c.phase >= connNoLeader }

// hasLeader reports whether the agent can reach its servers.
func (c agentConn) hasLeader() bool { return c.phase == connected }

// unhealthy reports whether the agent counts as unreachable in what the gate and the metrics say: nothing answers, or
// two updates in a row were late. One late update may have been held up by a sync.
func (c agentConn) unhealthy() bool { return !c.answers() || c.lateUpdates > 1 }

// agentKnown reports whether enough is known of the agent to plan all that is wanted of it.
func (s *state) agentKnown() bool {
	return s.conn.hasLeader() && s.conn.listed && s.login.usable()
}

// observeConn notices that the agent has not answered. A late update proves little. The agent takes updates one by one,
// under a lock that a sync keeps through all its requests to the servers (agent/local State.SyncChanges of Consul 1.22).
// An agent that has restarted refuses or breaks the connection instead. So after a late update nothing is read anew, and
// the next update shows whether the agent is there. Otherwise an outage of a node's agent would be followed by so many
// questions of all its pods that the updates never catch up.
func (s *state) observeConn(p policy, err error, b begun) {
	switch {
	case p.asks != nodeAgent:
	case p.isCheckUpdate && errors.Is(err, ErrLate):
		if b.lateGeneration == s.lateGeneration { // else it has waited in the same queue as one that was counted
			s.conn.lateUpdates++
			s.lateGeneration++
		}
	case errors.Is(err, ErrUnreachable):
		phase := connUnknown
		if s.conn.phase == connUnreachable || s.conn.phase == connNoLeader {
			phase = connUnreachable // it was not well before, either
		}
		s.conn = agentConn{phase: phase, reconnected: true}
	case p.waitsForAgentLock:
		s.conn.lateUpdates = 0
	}
}

// agentTimeout bounds requests that the agent answers at once.
const agentTimeout = 5 * time.Second

var errNoLeader = errors.New("no cluster leader")

// getLeader asks whether the agent answers, and has a cluster leader.
type getLeader struct{}

func (getLeader) key() key             { return key{name: "leader"} }
func (getLeader) operation() operation { return "get_leader" }
func (getLeader) policy() policy       { return policy{timeout: agentTimeout} }

func (getLeader) run(ctx context.Context, ports *Config) outcome {
	leader, err := ports.View.HasLeader(ctx)
	if err == nil && !leader {
		err = errNoLeader
	}
	return outcome{err: err, handle: func(s *state, _ turn) { s.handleLeader(err) }}
}

// handleLeader lets a login that failed without a leader begin at once when there is one.
func (s *state) handleLeader(err error) {
	switch {
	case errors.Is(err, ErrUnreachable):
		s.conn.phase = connUnreachable
	case err != nil:
		s.conn.phase = connNoLeader
	default:
		s.conn.phase = connected
		if k := (logIn{}).key(); !isRejected(s.retries[k].err) {
			delete(s.retries, k)
		}
	}
}

// listServices asks which of the pod's instances the agent has. generation is of the writes at the agent.
type listServices struct{ generation int }

func (listServices) key() key             { return key{name: "services"} }
func (listServices) operation() operation { return "list_services" }
func (listServices) policy() policy       { return policy{timeout: agentTimeout} }

func (c listServices) run(ctx context.Context, ports *Config) outcome {
	observed, err := ports.View.Instances(ctx, ports.Identity.Prefix())
	return outcome{err: err, handle: func(s *state, t turn) {
		if err == nil && c.generation == s.writeGeneration {
			s.handleServices(observed, t.now)
		}
	}}
}

// handleServices takes in what the agent has. After a lost connection everything is looked at anew: heartbeats go out
// at once, and the catalog is asked again.
func (s *state) handleServices(observed map[string]Observed, now time.Time) {
	s.restoreMaintenance(observed)
	reconnected := s.conn.reconnected
	s.conn.listed, s.conn.reconnected = true, false
	if reconnected {
		s.catalog.generation++
		s.hurryRetries(now)
	}
	for id := range observed {
		if s.instances[id] == nil {
			s.instances[id] = &instance{id: id}
		}
	}
	for id, i := range s.instances {
		seen, there := observed[id]
		if !there {
			i.forget()
			continue
		}
		s.everReady = s.everReady || seen.Readiness == contract.Passing || seen.Readiness == contract.Warning
		if reconnected || i.actual == nil || i.actual.Fingerprint != seen.Fingerprint {
			i.scheduleHeartbeat(now)
			i.refreshAt, i.confirmed, i.resyncAt = now.Add(refreshEvery), false, now.Add(resyncAfter)
		}
		i.agent, i.actual, i.readiness, i.maintenanceOutput, i.registered = present, &seen, seen.Readiness, seen.MaintenanceOutput, true
		if n, ok := syncGeneration(seen.Definition.Meta); ok {
			i.syncGeneration = n
		}
	}
}

// watchService waits until the agent's definition of an instance has another hash.
type watchService struct {
	id, hash string
	// lateGeneration that it began in: what waits on a connection from before an update came late is asked again.
	lateGeneration int
}

func (c watchService) key() key           { return key{"watch", c.id} }
func (watchService) operation() operation { return "watch" }
func (watchService) policy() policy {
	return policy{absentIsLoss: true, maxUnreachable: backoffBreaking}
}

func (c watchService) supersededBy(planned command) bool { return planned != command(c) }

func (c watchService) run(ctx context.Context, ports *Config) outcome {
	hash, err := ports.View.Changed(ctx, c.id, c.hash)
	return outcome{err: err, handle: func(s *state, _ turn) { s.handleWatch(c.id, hash, err) }}
}

// handleWatch looks again when the agent's definition has changed, and after the first look at its hash, which may
// already be that of a change.
func (s *state) handleWatch(id, hash string, err error) {
	i := s.instances[id]
	switch {
	case errors.Is(err, ErrAbsent):
		s.conn.listed = false
	case err == nil && i != nil && i.hash != hash:
		i.hash = hash
		s.conn.listed = false
	}
}

// agentProblem is what is wrong between the registrar and its Consul agent; without a reason, nothing is.
func agentProblem(s *state) (reason contract.Reason, message string) {
	switch {
	case !s.conn.answers():
		return contract.ConsulUnreachable, s.identity.agent() + " is unreachable" + s.cause(getLeader{})
	case !s.conn.hasLeader():
		if err := s.retries[getLeader{}.key()].err; err != nil && !errors.Is(err, errNoLeader) {
			return contract.ConsulUnreachable, s.identity.agent() + " did not say whether it has a cluster leader: " + err.Error()
		}
		return contract.ConsulUnreachable, s.identity.agent() + " has no cluster leader"
	}
	if err := loginFailure(s); err != nil {
		return contract.LoginFailed, "ACL login by way of " + s.identity.ConsulAddress + " failed: " + err.Error()
	}
	if err := rejection(s); err != nil {
		return contract.RegistrationRejected, s.identity.agent() + " refused: " + err.Error()
	}
	if err := lastError(s); err != nil {
		return contract.RegistrationFailed, s.identity.agent() + " answered with an error: " + err.Error()
	}
	switch {
	case s.conn.unhealthy():
		return contract.ConsulUnreachable, s.identity.agent() + ": TTL check updates time out; the agent may be blocked on its servers"
	case !s.conn.listed && s.cause(listServices{}) != "":
		return contract.ConsulUnreachable, s.identity.agent() + ": listing services failed" + s.cause(listServices{})
	}
	return "", ""
}

// rejection holds the answers by which the agent refused us, or is nil.
func rejection(s *state) error {
	services := listServices{}.key()
	return s.failures(func(k key, err error) bool {
		return (k.name == registrationKey || k == services) && isRejected(err)
	})
}

// lastError holds what else the agent answered last to registrations and updates, whatever its code: 500 for a full
// disk, 429. Nil where nothing failed, or where it is an outage or a loss that is looked into anyway.
func lastError(s *state) error {
	return s.failures(func(k key, err error) bool {
		return (k.name == registrationKey || k.name == checksKey) && !isRejected(err) && !errors.Is(err, ErrUnreachable) &&
			!errors.Is(err, ErrAbsent)
	})
}
