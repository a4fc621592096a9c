package agentlet

import (
	"context"
	"errors"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// checksKey is of the commands that update an instance's TTL checks, by the instance. One that can't be registered any
// more lives on as it is, so that its checks don't wait for its registration.
const checksKey = "checks"

const (
	// refreshEvery is how often an unchanged readiness check is written, up to half of it less: its TTL is a day, but somebody
	// may have removed it, and nothing else would show that. The same state once more is no raft write.
	refreshEvery = time.Minute
	// persistAfter is when the heartbeat is sent after a registration, and the readiness of a new one updated, up to half of it
	// less. Consul's agent saves the state of a TTL check with an update, not with a registration, and restores a check without
	// a saved state as critical (Agent.loadChecks of Consul 1.22). A critical one needs none, and its output would be a raft
	// write. It is long enough to stay out of a starting pod's way.
	persistAfter = time.Second
	// rewriteAfterLateUpdate: when a late update may still be queued in the agent, the readiness check is written again
	// after this time, because queued updates are applied in any order.
	rewriteAfterLateUpdate = 2 * time.Second
)

// updateTimeout is how long an update of a check may take. One that timed out stays in the agent's queue, so a short timeout only
// lengthens the queue: it waits until the next heartbeat is due, and as long as any other call. But where heartbeats are rare, an
// answer that got lost is missed for no longer than another.
func (i *instance) updateTimeout() time.Duration { return min(max(i.ttl()/3, agentTimeout), waitMax) }

// planReadiness writes an instance's state and its heartbeat. It doesn't matter whether the definition is the wanted one.
func planReadiness(s *state, i *instance, now time.Time, p *schedule) {
	switch {
	case i.readiness != s.health(i), i.maintenanceOutput != s.maintenanceOutput():
		p.add(s, now, newUpdateReadiness(s, i))
	case planHeartbeat(s, i, now, p): // before what can wait
	case p.reached(now, i.refreshAt):
		p.add(s, now, newUpdateReadiness(s, i))
	}
}

// planHeartbeat sends the heartbeat when it is due, and reports whether it is. It goes on for what an earlier agentlet
// of this pod has left while it isn't known what the pod asks for, because the API server is away or the annotations
// have become invalid: the pod is served all the same.
func planHeartbeat(s *state, i *instance, now time.Time, p *schedule) (due bool) {
	if due = p.reached(now, i.heartbeatDue); due {
		p.add(s, now, updateHeartbeat{id: i.id, timeout: i.updateTimeout(), ttl: i.ttl()})
	}
	return due
}

// planHeartbeatsWhileUnreachable keeps sending heartbeats while the agent is unreachable. An agent that is blocked in a
// sync answers late, but still applies them; without them every instance is critical when the servers return. Where the
// sync holds the agent up for longer than heartbeat-ttl, they are so for an instant all the same, until the heartbeats
// that wait are applied: the agent's own timers wait with them for one lock, which a sync keeps through all its
// requests (agent/local State.SyncChanges of Consul 1.22), 7 s for each change that the servers don't have.
func planHeartbeatsWhileUnreachable(s *state, now time.Time, p *schedule) {
	for _, i := range s.instances {
		if i.agent == present {
			planHeartbeat(s, i, now, p)
		}
	}
}

// scheduleHeartbeat sets the time of the next heartbeat. It is missed when the one after it is due.
func (i *instance) scheduleHeartbeat(at time.Time) {
	i.heartbeatDue, i.heartbeatMissedAt = at, time.Time{}
	if i.want != nil {
		i.heartbeatMissedAt = at.Add(i.want.HeartbeatTTL / 3)
	}
}

// heartbeatPause is the time between two heartbeats: a third of the TTL, so that two may fail, or one go
// unanswered until the next is due, less up to a tenth of it.
func heartbeatPause(ttl time.Duration, jitter func(time.Duration) time.Duration) time.Duration {
	third := ttl / 3
	return third - third/5 + jitter(third/5)
}

// countMissedHeartbeats counts the heartbeats that should have been delivered by now.
func (s *state) countMissedHeartbeats(now time.Time) {
	for _, i := range s.instances {
		if i.want == nil || i.want.HeartbeatTTL == 0 || s.terminating() || i.heartbeatMissedAt.IsZero() {
			continue
		}
		for !now.Before(i.heartbeatMissedAt) {
			s.heartbeatsMissed++
			i.heartbeatMissedAt = i.heartbeatMissedAt.Add(i.want.HeartbeatTTL / 3)
		}
	}
}

// updateReadiness writes the readiness check.
type updateReadiness struct {
	id     string
	health contract.Health
	output string
	// maintenanceOutput is the output where it tells of a maintenance.
	maintenanceOutput string
	timeout           time.Duration
}

// newUpdateReadiness has the same output for the same health: a changed one is a raft write.
func newUpdateReadiness(s *state, i *instance) updateReadiness {
	c := updateReadiness{id: i.id, health: s.health(i), maintenanceOutput: s.maintenanceOutput(), timeout: i.updateTimeout()}
	switch {
	case c.maintenanceOutput != "":
		c.output = c.maintenanceOutput
	case i.want != nil && i.want.Health != "" && c.health == i.want.Health:
		c.output = "set by the pod's annotation " + contract.ServiceHealth
	case c.health == contract.Critical:
		c.output = "the pod's containers are not ready"
	}
	return c
}

func (c updateReadiness) key() key           { return key{checksKey, c.id} }
func (updateReadiness) operation() operation { return "update_readiness" }
func (c updateReadiness) policy() policy {
	p := updatePolicy(c.timeout)
	p.changesAgent = true
	return p
}

func updatePolicy(timeout time.Duration) policy {
	return policy{
		timeout:           timeout,
		waitsForAgentLock: true,
		isCheckUpdate:     true,
		absentIsLoss:      true,
		maxUnreachable:    backoffBreaking,
	}
}

func (c updateReadiness) run(ctx context.Context, ports *Config) outcome {
	err := ports.Agent.Update(ctx, contract.ReadinessID(c.id), c.health, c.output)
	return outcome{err: err, handle: func(s *state, t turn) {
		if i := s.instances[c.id]; i != nil {
			s.handleReadiness(i, c, err, t)
		}
	}}
}

func (s *state) handleReadiness(i *instance, c updateReadiness, err error, t turn) {
	switch {
	case errors.Is(err, ErrAbsent):
		i.agent, s.conn.listed = unknown, false
	case errors.Is(err, ErrLate):
		if i.readiness != c.health || i.maintenanceOutput != c.maintenanceOutput {
			i.readiness = "" // the agent may take it yet
		}
	case err != nil: // tried again
	default:
		if i.readiness != c.health {
			t.log.Info("readiness check updated", "health", string(c.health))
			s.invalidateConfirmation(i, t) // a refresh changes nothing in the catalog
		}
		pause := refreshEvery
		if i.readiness == "" {
			pause = rewriteAfterLateUpdate
		}
		i.readiness, i.maintenanceOutput, i.refreshAt = c.health, c.maintenanceOutput, t.now.Add(t.jitter(pause))
	}
}

// updateHeartbeat writes the heartbeat check.
type updateHeartbeat struct {
	id           string
	timeout, ttl time.Duration
}

func (c updateHeartbeat) key() key           { return key{checksKey, c.id} }
func (updateHeartbeat) operation() operation { return "update_heartbeat" }
func (c updateHeartbeat) policy() policy {
	p := updatePolicy(c.timeout)
	p.pauseWhileUnlisted = c.ttl / 3
	return p
}

func (c updateHeartbeat) run(ctx context.Context, ports *Config) outcome {
	err := ports.Agent.Update(ctx, contract.HeartbeatID(c.id), contract.Passing, "")
	return outcome{err: err, handle: func(s *state, t turn) {
		switch i := s.instances[c.id]; {
		case i == nil:
		case errors.Is(err, ErrAbsent):
			i.agent, s.conn.listed = unknown, false
		case err == nil:
			if t.now.Sub(i.heartbeatDue) >= i.ttl()/2 { // the check may have been critical meanwhile
				s.invalidateConfirmation(i, t)
			}
			i.scheduleHeartbeat(t.now.Add(heartbeatPause(i.ttl(), t.jitter)))
		}
	}}
}
