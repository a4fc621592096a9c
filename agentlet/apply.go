package agentlet

import (
	"context"
	"errors"
	"maps"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// outcome is what came of an action.
type outcome struct {
	action   action
	err      error
	leader   bool
	observed map[string]Observed
	hash     string
	view     CatalogView
	failure  error // of a container's probe, which is no failure of ours
	session  Session
	version  string // of the pod, with what was written
}

var errNoLeader = errors.New("no cluster leader")

func isRejected(err error) bool { return errors.Is(err, ErrRejected) }

func withSyncGeneration(meta map[string]string, n int) map[string]string {
	meta = withoutSyncGeneration(meta)
	copied := make(map[string]string, len(meta)+1)
	maps.Copy(copied, meta)
	copied[contract.MetaSyncGeneration] = strconv.Itoa(n)
	return copied
}

// handleResult takes in what came of an action. jitter spreads a duration, so that no two agentlets keep step.
func (s *state) handleResult(r outcome, now time.Time, jitter func(time.Duration) time.Duration) {
	if errors.Is(r.err, context.Canceled) {
		return // ended by ourselves, says nothing
	}
	if r.action.kind == createEvent {
		s.events.busy = false
		return
	}
	s.keepRetry(r, now, jitter)
	switch r.action.kind {
	case register, deregister, updateReadiness:
		s.writeGeneration++
	default:
	}
	s.observeRefusal(r, now)
	s.observeDenial(r, now, jitter)
	s.observeConn(r)
	switch r.action.kind {
	case getLeader:
		s.handleLeader(r)
	case listServices:
		s.handleServices(r, now)
	case watch:
		s.handleWatch(r)
	case readCatalog:
		s.handleCatalog(r, now, jitter)
	case patchStatus:
		s.handleStatusPatched(r, now)
	case probeContainer:
		s.handleProbe(r, now)
	case logIn:
		s.handleLogin(r, now, jitter)
	case logOut:
		s.handleLogout(r)
	default:
		if i := s.instances[r.action.id]; i != nil {
			s.handleInstance(i, r, now, jitter)
		}
	}
}

// observeConn notices that the agent has not answered. An update that is late proves little: the agent takes updates one by one,
// under a lock that a sync keeps through all its requests to the servers (agent/local State.SyncChanges of Consul 1.22), and one
// that has restarted refuses or breaks the connection. So nothing is looked at anew, and the next update is the question whether
// the agent is there: an outage that all pods of a node have at once would otherwise be followed by so many
// other questions of theirs that the updates never catch up.
func (s *state) observeConn(r outcome) {
	k := r.action.kind
	switch {
	case k.needsServers():
	case k.isCheckUpdate() && errors.Is(r.err, ErrLate):
		if r.action.generation == s.lateGeneration { // else it has waited in the same queue as one that was counted
			s.conn.lateUpdates++
			s.lateGeneration++
		}
	case errors.Is(r.err, ErrUnreachable):
		s.conn = agentConn{reconnected: true}
	case k.isCheckUpdate(), k == register, k == deregister: // which wait for the same lock
		s.conn.lateUpdates = 0
	}
}

// keepRetry counts failures. That what was to be removed, or written to, isn't there is an answer and no failure.
func (s *state) keepRetry(r outcome, now time.Time, jitter func(time.Duration) time.Duration) {
	l := r.action.key()
	if r.err == nil || errors.Is(r.err, ErrAbsent) && (r.action.kind == deregister || r.action.kind == patchStatus || r.action.kind == logOut) {
		delete(s.retries, l)
		return
	}
	was := s.retries[l]
	said, err := was.logged, r.err
	if was.isNew(err) {
		said = append(said, constant(err.Error()))
	}
	if was.err != nil && constant(was.err.Error()) == constant(err.Error()) {
		err = was.err // or each try would change what the gate says
	}
	if errors.Is(was.err, ErrLate) && !errors.Is(r.err, ErrLate) {
		was.failures = 0 // the trouble is another one, and may be over sooner
	}
	failures, pause := was.failures+1, backoff(was.failures, r)
	if i := s.instances[r.action.id]; r.action.kind == updateHeartbeat && i != nil && !s.conn.listed {
		failures, pause = max(was.failures, 1), i.ttl()/3 // a blind one says nothing of what can be done with a new connection
	}
	s.retries[l] = retry{failures: failures, err: err, at: now.Add(jitter(pause)), logged: said}
}

// dropRetries forgets the failures of what nobody wants any more, such as a refused registration that was taken back: they would be told
// for ever. It reports whether there were any. While the agent isn't known well enough to plan, and until its backoff is over,
// each is kept.
func (s *state) dropRetries(p *schedule, now time.Time) (dropped bool) {
	if s.terminating() || !s.agentKnown() {
		return false
	}
	for l, r := range s.retries {
		if !p.wanted[l] && p.reached(now, r.at) {
			delete(s.retries, l)
			dropped = true
		}
	}
	return dropped
}

// agentKnown reports whether enough is known of the agent to plan all that is wanted of it.
func (s *state) agentKnown() bool {
	return s.conn.answers && s.conn.leader && s.conn.listed && s.login.usable()
}

// Backoff doubles from first to a bound: short for the node's own agent, so that a restarted one is noticed within
// seconds, longer for what only a person can mend, and for the API server, which all pods share.
const (
	backoffFirst = 200 * time.Millisecond
	backoffAgent = 4 * time.Second
	backoffOther = 30 * time.Second
	// backoffBreaking is for what breaks the connection again and again, which costs a search for the agent each time, and
	// for updates that come late again and again, on top of their own wait.
	backoffBreaking = 10 * time.Second
)

func backoff(failures int, r outcome) time.Duration {
	bound := backoffAgent
	switch {
	case isRejected(r.err) || r.action.kind == patchStatus || r.action.kind == logIn:
		bound = backoffOther
	case errors.Is(r.err, ErrUnreachable) && (r.action.kind == watch || r.action.kind == updateHeartbeat || r.action.kind == updateReadiness):
		bound = backoffBreaking
	}
	return min(backoffFirst<<min(failures, 16), bound)
}

// handleLeader lets a login that failed without a leader begin at once when there is one.
func (s *state) handleLeader(r outcome) {
	s.conn.answers, s.conn.leader = !errors.Is(r.err, ErrUnreachable), r.err == nil
	if l := (action{kind: logIn}).key(); s.conn.leader && !isRejected(s.retries[l].err) {
		delete(s.retries, l)
	}
}

// handleServices takes in what the agent has, unless something was changed there meanwhile. After a lost connection
// everything is looked at anew: heartbeats go out at once, and the catalog is asked again.
func (s *state) handleServices(r outcome, now time.Time) {
	if r.err != nil || r.action.generation != s.writeGeneration {
		return
	}
	s.restoreMaintenance(r.observed)
	lost := s.conn.reconnected
	s.conn.listed, s.conn.reconnected = true, false
	if lost {
		s.catalog.generation++
		s.hurryRetries(now)
	}
	for id := range r.observed {
		if s.instances[id] == nil {
			s.instances[id] = &instance{id: id}
		}
	}
	for id, i := range s.instances {
		seen, there := r.observed[id]
		if !there {
			*i = instance{id: id, want: i.want, agent: absent, registered: i.registered, removedAt: i.removedAt, markedCritical: i.markedCritical}
			continue
		}
		if lost || i.actual == nil || i.actual.Fingerprint != seen.Fingerprint {
			i.scheduleHeartbeat(now)
			i.refreshAt, i.confirmed, i.resyncAt = now.Add(refreshEvery), false, now.Add(resyncAfter)
		}
		i.agent, i.actual, i.readiness, i.maintenanceOutput, i.registered = present, &seen, seen.Readiness, seen.MaintenanceOutput, true
		if n, ok := syncGeneration(seen.Definition.Meta); ok {
			i.syncGeneration = n
		}
	}
}

// hurryRetries lets what failed with the old connection be tried with the new one at once. What has failed over several of
// them keeps its pace: it may be what breaks them.
func (s *state) hurryRetries(now time.Time) {
	for l, r := range s.retries {
		switch {
		case l.id == "":
		case !errors.Is(r.err, ErrUnreachable):
			delete(s.retries, l)
		case r.failures == 1:
			r.at = now
			s.retries[l] = r
		}
	}
}

// handleWatch looks again when the agent's definition has changed, and after the first look at its hash, which may
// already be that of a change.
func (s *state) handleWatch(r outcome) {
	i := s.instances[r.action.id]
	switch {
	case errors.Is(r.err, ErrAbsent):
		s.conn.listed = false
	case r.err == nil && i != nil && i.hash != r.hash:
		i.hash = r.hash
		s.conn.listed = false
	}
}

// A reading that waits for something newer ends with each change on the node, which after an outage are hundreds in a row,
// of other pods: if each had every pod read again, the node's pods together would read their number squared. So what brings
// nothing new is done again after a pause that doubles from first to a bound: the pod waits no longer for the catalog's word
// than twice the time that it took, or a second more.
const (
	readBackoffFirst = 10 * time.Millisecond
	readBackoffMax   = time.Second
)

// readBackoff is the pause after that many fruitless readings; the first of them, just after a change at the agent, is usual.
func readBackoff(fruitless int) time.Duration {
	if fruitless < 2 {
		return 0
	}
	return min(readBackoffFirst<<min(fruitless-2, 16), readBackoffMax)
}

func (s *state) handleCatalog(r outcome, now time.Time, jitter func(time.Duration) time.Duration) {
	if r.err != nil {
		return
	}
	s.catalog.keepConstant(r.view.Instances)
	if s.catalog.view != nil && r.view.equal(s.catalog.view) {
		s.catalog.unchangedReads++
	} else {
		s.catalog.unchangedReads = 0
	}
	s.catalog.readAt = now.Add(jitter(readBackoff(s.catalog.unchangedReads)))
	s.catalog.view, s.catalog.observedGeneration, s.catalog.answeredAt = &r.view, r.action.generation, now
	if !s.catalog.fresh() {
		return
	}
	if s.catalog.asked != nil {
		close(s.catalog.asked)
		s.catalog.asked = nil
	}
	if s.terminating() {
		if len(r.view.Instances) == 0 && s.drain.goneAt.IsZero() {
			s.drain.goneAt = now
		}
		return
	}
	for _, i := range s.instances {
		_, there := r.view.Instances[i.id]
		switch {
		case i.confirmed && !there && !i.lost(): // behind its agent's back, which would notice at its next full sync
			i.lostAt, i.resyncAt = now, now.Add(resyncPause(i, jitter))
		case there:
			i.lostAt = time.Time{}
		}
		if i.agent == present && i.upToDate() && s.synced(i) {
			i.confirmed = true
		}
	}
}

func (s *state) handleStatusPatched(r outcome, now time.Time) {
	switch {
	case errors.Is(r.err, ErrAbsent):
		s.podDeleted(now)
	case r.err == nil:
		s.gate.written, s.gate.version, s.gate.writtenAt = &r.action.condition, r.version, now
		if order, known := s.gate.compare(s.pod); order < 0 || !known {
			s.gate.current = &r.action.condition
		} // else the watch has overtaken the answer, and may have told of others' changes since
		if len(r.action.others) > 0 {
			s.gate.othersAt = r.action.seen
		}
		s.gate.staleAddress = s.gate.staleAddress && r.action.condition.Status == corev1.ConditionTrue
	}
}

// handleInstance takes in the answer to a write about one instance.
func (s *state) handleInstance(i *instance, r outcome, now time.Time, jitter func(time.Duration) time.Duration) {
	switch {
	case r.action.kind == deregister:
		s.handleDeregistered(i, r, now)
	case r.action.kind == register && r.err != nil, errors.Is(r.err, ErrAbsent):
		i.agent, s.conn.listed = unknown, false
	case r.action.kind == updateReadiness && errors.Is(r.err, ErrLate):
		if i.readiness != r.action.health || i.maintenanceOutput != r.action.maintenanceOutput {
			i.readiness = "" // the agent may take it yet
		}
	case r.err != nil: // tried again
	case r.action.kind == register:
		s.handleRegistered(i, r, now, jitter)
	case r.action.kind == updateReadiness:
		if i.readiness != r.action.health {
			s.invalidateConfirmation(i, now, jitter) // a refresh changes nothing in the catalog
		}
		pause := refreshEvery
		if i.readiness == "" {
			pause = rewriteAfterLate
		}
		i.readiness, i.maintenanceOutput, i.refreshAt = r.action.health, r.action.maintenanceOutput, now.Add(jitter(pause))
	case r.action.kind == updateHeartbeat:
		if now.Sub(i.heartbeatDue) >= i.ttl()/2 { // the agent may have said critical meanwhile, and not been heard since
			s.invalidateConfirmation(i, now, jitter)
		}
		i.scheduleHeartbeat(now.Add(heartbeatPause(i.ttl(), jitter)))
	}
}

// heartbeatPause is the time between two heartbeats: a third of the TTL, so that two may fail, or one go
// unanswered until the next is due, less up to a tenth of it.
func heartbeatPause(ttl time.Duration, jitter func(time.Duration) time.Duration) time.Duration {
	third := ttl / 3
	return third - third/5 + jitter(third/5)
}

func (s *state) handleRegistered(i *instance, r outcome, now time.Time, jitter func(time.Duration) time.Duration) {
	put := r.action.definition
	if n, ok := syncGeneration(put.Meta); ok {
		i.syncGeneration = n
	}
	if r.action.fresh {
		i.readiness, i.maintenanceOutput = r.action.health, "" // otherwise the check has kept its state
	}
	i.actual = &Observed{Definition: put, Fingerprint: put.Fingerprint(), Readiness: i.readiness, MaintenanceOutput: i.maintenanceOutput, Checks: put.checkIDs()}
	i.agent, i.registered, i.session, s.registeredHere = present, true, r.action.session, true
	i.registeredAt, i.registeredFingerprint = now, put.Fingerprint()
	i.hash = "" // that of what was there before, which somebody may bring back before it is watched again
	i.markedCritical = i.markedCritical || r.action.markCritical
	i.scheduleHeartbeat(now.Add(heartbeatPause(put.HeartbeatTTL, jitter)))
	i.refreshAt = now.Add(jitter(refreshEvery))
	s.invalidateConfirmation(i, now, jitter)
}

// invalidateConfirmation asks the catalog anew about an instance that was changed at the agent, and sets the time of the next nudge.
func (s *state) invalidateConfirmation(i *instance, now time.Time, jitter func(time.Duration) time.Duration) {
	s.catalog.generation++
	i.confirmed = false
	i.resyncAt = now.Add(resyncPause(i, jitter))
}

func resyncPause(i *instance, jitter func(time.Duration) time.Duration) time.Duration {
	return jitter(min(resyncAfter<<min(i.syncGeneration, 8), resyncMax))
}

func (s *state) handleDeregistered(i *instance, r outcome, now time.Time) {
	if r.err != nil && !errors.Is(r.err, ErrAbsent) {
		return // tried again
	}
	removedAt := i.removedAt
	if s.terminating() && removedAt.IsZero() {
		removedAt = now
	}
	*i = instance{id: i.id, want: i.want, agent: absent, registered: i.registered, removedAt: removedAt, markedCritical: i.markedCritical}
	s.catalog.generation++
	if i.want == nil && !s.terminating() {
		delete(s.instances, i.id)
		maps.DeleteFunc(s.retries, func(l key, _ retry) bool { return l.id == i.id })
	}
}

// observeRefusal ends the drain's waiting when nothing listens at the agent's address, or Consul doesn't let us in: there is
// nobody to wait for.
func (s *state) observeRefusal(r outcome, now time.Time) {
	if s.terminating() && s.drain.refusedAt.IsZero() && (errors.Is(r.err, ErrRefused) || r.action.kind == logIn && isRejected(r.err)) {
		s.drain.refusedAt = now
	}
}
