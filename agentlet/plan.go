package agentlet

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// kind of an action.
type kind string

const (
	getLeader       kind = "get_leader"       // does the agent answer, and know a leader?
	listServices    kind = "list_services"    // which of our instances has the agent?
	register        kind = "register"         // put the definition
	deregister      kind = "deregister"       // remove the instance
	updateReadiness kind = "update_readiness" // write the readiness check
	updateHeartbeat kind = "update_heartbeat" // write the heartbeat check
	watch           kind = "watch"            // wait until the agent's definition changes
	readCatalog     kind = "read_catalog"
	patchStatus     kind = "patch_status"
	createEvent     kind = "create_event"
	// probeContainer runs a container's own probe.
	probeContainer kind = "probe_container"
	logIn          kind = "login"
	logOut         kind = "logout"
)

// kinds are all of them.
func kinds() []kind {
	return []kind{getLeader, listServices, register, deregister, updateReadiness, updateHeartbeat, watch, readCatalog, patchStatus, createEvent, probeContainer, logIn, logOut}
}

// isBlockingQuery reports whether the kind waits for somebody else, and may be ended when nobody asks for it any more.
func (k kind) isBlockingQuery() bool { return k == watch || k == readCatalog || k == probeContainer }

// needsServers reports whether the kind needs more than the node's agent, so that waiting in vain says nothing of the agent.
func (k kind) needsServers() bool { return k == readCatalog || k == logIn || k == logOut }

// isCheckUpdate reports whether the kind updates a check, for which the agent may have to wait for its own lock.
func (k kind) isCheckUpdate() bool { return k == updateHeartbeat || k == updateReadiness }

// key is a queue of one: at most one action of a lane is under way.
type key struct{ name, id string }

func (l key) compare(other key) int {
	return cmp.Or(cmp.Compare(l.name, other.name), cmp.Compare(l.id, other.id))
}

// action is what a lane should be doing.
type action struct {
	kind              kind
	id                string // of the instance
	definition        Definition
	health            contract.Health
	cause             string // of the registration
	fresh             bool   // register: the agent is known not to have it
	markCritical      bool   // register: as critical, because the catalog kept it
	output            string
	maintenanceOutput string // updateReadiness: the part of the output that tells of a maintenance
	obsolete          []string
	hash              string
	index             uint64
	wait              time.Duration // readCatalog: at most, for something newer; beat and updateReadiness: at most, for the answer
	generation        int           // what it was begun in: readCatalog the catalog's, inspect the writes, watch, beat and updateReadiness the lates
	condition         corev1.PodCondition
	event             Event
	// others are conditions of another system to write with it, seen is the pod that lacks them.
	others  []corev1.PodCondition
	seen    *corev1.Pod
	probe   *registration.Probe
	session int // that the call is made with; logout: that it ends
}

// superseded reports whether a long action under way is no longer the one that is planned.
func (a action) superseded(planned action) bool {
	return planned.generation != a.generation || planned.hash != a.hash || planned.session != a.session || planned.wait < a.wait
}

func (a action) key() key {
	switch a.kind {
	case getLeader:
		return key{name: "link"}
	case listServices:
		return key{name: "inspect"}
	case watch:
		return key{"watch", a.id}
	case readCatalog:
		return key{name: "catalog"}
	case patchStatus:
		return key{name: "gate"}
	case createEvent:
		return key{name: "event"}
	case probeContainer:
		return key{"container", a.id}
	case logIn:
		return key{name: "login"}
	case logOut:
		return key{name: "logout"}
	case updateReadiness, updateHeartbeat:
		return key{"health", a.id} // one that can't be put any more lives on as it is
	case register, deregister:
	}
	return key{"agent", a.id}
}

// schedule is what should be going on now.
type schedule struct {
	work map[key]action
	// wanted are the lanes with work, and those whose work waits.
	wanted map[key]bool
	// wake is when to plan again though nothing has happened; zero: never.
	wake time.Time
	// drained: the drain hooks may be answered. ended: and the process has been told to end, and has told what there was and logged out.
	drained, ended bool
	// aborted: the end was announced, and never came.
	aborted bool
}

// Times of the plan. Consul's agent syncs a change at once, but a failed sync waits for its next change or full sync, so
// a catalog that lags is nudged with a changed definition, first after resyncAfter.
const (
	resyncAfter = 2 * time.Second
	resyncMax   = 30 * time.Second
	// reregisterInterval is the least time after which a registration or a condition is written once more because it has not stayed as it
	// was: somebody else may be as stubborn.
	reregisterInterval = 500 * time.Millisecond
	// waitMax bounds a reading of the catalog that the gate, a nudge or the drain waits for: an answer can get lost, on a
	// connection that is open at this end alone, and is missed for no longer. idleWait is for one that nothing waits for.
	waitMax  = 30 * time.Second
	idleWait = 5 * time.Minute
	// conditionDebounce is how long a closed gate's reason must hold before it is written, so that a pod that starts in a moment
	// costs one write and not four.
	conditionDebounce = time.Second
	// refreshEvery is how often an unchanged readiness check is written, up to half of it less: its TTL is a day, but somebody
	// may have removed it, and nothing else would tell. The same state once more is no raft write.
	refreshEvery = time.Minute
	// rewriteAfterLate is when it is written once more after it wasn't known, for instance because a change of it came late: the agent
	// takes what it has kept waiting in any order.
	rewriteAfterLate = 2 * time.Second
)

// plan decides what each lane should be doing, from what is known. It changes nothing and asks nobody.
func plan(s *state, now time.Time) schedule {
	p := schedule{work: map[key]action{}, wanted: map[key]bool{}}
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

// add puts an action on its lane, or the end of the lane's backoff into the schedule.
func (p *schedule) add(s *state, now time.Time, a action) {
	p.want(a)
	if r := s.retries[a.key()]; now.Before(r.at) {
		p.wakeAt(r.at)
		return
	}
	if a.kind != logOut {
		a.session = s.login.session.ID
	}
	p.work[a.key()] = a
}

// want keeps what is known of an action's failures, also where it isn't added yet.
func (p *schedule) want(a action) { p.wanted[a.key()] = true }

func (p *schedule) wakeAt(at time.Time) {
	if !at.IsZero() && (p.wake.IsZero() || at.Before(p.wake)) {
		p.wake = at
	}
}

// reached reports whether a time has come, and sees to it that it is noticed otherwise.
func (p *schedule) reached(now, at time.Time) bool {
	if now.Before(at) {
		p.wakeAt(at)
		return false
	}
	return true
}

func planLife(s *state, now time.Time, p *schedule) {
	if !s.conn.answers || !s.conn.leader {
		p.add(s, now, action{kind: getLeader})
	}
	switch {
	case !s.conn.answers:
		planHeartbeatsWhileUnreachable(s, now, p)
		return
	case !planLogin(s, now, p):
		return
	case !s.conn.listed:
		planHeartbeatsWhileUnreachable(s, now, p)
		p.add(s, now, action{kind: listServices, generation: s.writeGeneration})
		return
	}
	await := s.conn.leader && (s.catalog.view == nil || s.catalog.asked != nil)
	for _, id := range s.ids() {
		i := s.instances[id]
		planDefinition(s, i, now, p)
		if i.agent == present && !s.defined {
			planHeartbeat(s, i, now, p)
		}
		if i.want == nil || i.agent != present {
			continue
		}
		planReadiness(s, i, now, p)
		watching := action{kind: watch, id: id, hash: i.hash, generation: s.lateGeneration}
		p.want(watching) // one that breaks the connection keeps its pace until it is begun again
		if i.confirmed {
			p.add(s, now, watching)
		}
		await = await || !i.confirmed || !s.gate.open() && s.mode() != contract.GateOff
	}
	switch {
	case await:
		planCatalog(s, now, p, waitMax)
	case s.followsCatalog():
		planCatalog(s, now, p, idleWait)
	}
	planOldLogout(s, now, p)
}

// followsCatalog reports whether the catalog is read on when nothing waits for it: under the continuous policy, and where a service
// has checks of its own, whose results only Consul knows.
func (s *state) followsCatalog() bool {
	return s.reg != nil && (s.reg.Settings.GatePolicy == contract.GateContinuous ||
		slices.ContainsFunc(s.reg.Services, func(service registration.Service) bool { return len(service.Checks) > 0 }))
}

// planDefinition puts what is missing, not as it should be, or was put with an earlier session, takes out what nobody
// wants, and nudges a catalog that lacks what the agent has.
func planDefinition(s *state, i *instance, now time.Time, p *schedule) {
	switch {
	case i.want == nil:
		if s.defined && i.agent != absent {
			p.add(s, now, action{kind: deregister, id: i.id})
		}
	case !i.upToDate(), i.session != s.login.session.ID:
		registering := newRegister(s, i)
		p.want(registering)
		again := i.registeredFingerprint == i.wantedFingerprint() && i.session == s.login.session.ID
		if s.shouldRegister(i) && s.conn.leader && (!again || p.reached(now, i.registeredAt.Add(reregisterInterval))) {
			p.add(s, now, registering)
		}
	case (!i.confirmed || i.lost()) && s.conn.leader && s.catalog.fresh() && !s.synced(i) && p.reached(now, i.resyncAt):
		nudge := newRegister(s, i)
		nudge.cause = causeResync
		nudge.definition.Meta = withSyncGeneration(nudge.definition.Meta, i.syncGeneration+1)
		p.add(s, now, nudge)
	}
}

// Causes of a registration.
const (
	causeFirst   = "first"
	causeChanged = "changed" // the pod asks for something else now, or somebody has changed it at the agent
	causeLost    = "lost"    // the agent had it, and has it no longer
	causeResync  = "resync"  // the catalog lags behind the agent
)

func newRegister(s *state, i *instance) action {
	cause := causeChanged
	switch {
	case !i.registered:
		cause = causeFirst
	case i.agent == absent:
		cause = causeLost
	}
	return action{
		kind: register, id: i.id, definition: i.definition(), health: s.health(i), cause: cause, fresh: i.agent == absent,
		obsolete: i.obsolete(),
	}
}

// planReadiness writes an instance's state and its sign of life. It doesn't matter whether the definition is the wanted one.
func planReadiness(s *state, i *instance, now time.Time, p *schedule) {
	switch {
	case i.readiness != s.health(i), i.maintenanceOutput != s.maintenanceOutput():
		p.add(s, now, newUpdateReadiness(s, i))
	case planHeartbeat(s, i, now, p): // before what can wait
	case p.reached(now, i.refreshAt):
		p.add(s, now, newUpdateReadiness(s, i))
	}
}

// planHeartbeat writes the sign of life when it is due, and reports whether it is. It goes on for what an earlier agentlet of this
// pod has left while the pod's wishes are not known, because the API server is away or the annotations have become invalid: the
// pod is served all the same.
func planHeartbeat(s *state, i *instance, now time.Time, p *schedule) (due bool) {
	if due = p.reached(now, i.heartbeatDue); due {
		p.add(s, now, action{kind: updateHeartbeat, id: i.id, wait: i.updateTimeout(), generation: s.lateGeneration})
	}
	return due
}

// planHeartbeatsWhileUnreachable goes on beating what was there when the agent last answered. While Consul's servers are away, an agent that
// waits for them with a sync answers too late, if at all, and yet takes a heartbeat: without one, all its instances would be
// critical when the servers are back. Where the sync holds the agent up for longer than heartbeat-ttl, they are so for an instant
// all the same, until the heartbeats that wait are taken: the agent's own timers wait with them for one lock, which a sync keeps through
// all its requests (agent/local State.SyncChanges of Consul 1.22), 7 s for each change that the servers don't have.
func planHeartbeatsWhileUnreachable(s *state, now time.Time, p *schedule) {
	for _, id := range s.ids() {
		if i := s.instances[id]; i.agent == present {
			planHeartbeat(s, i, now, p)
		}
	}
}

// newUpdateReadiness writes the readiness check. Its output stays the same for the same health: a changed one is a raft write.
func newUpdateReadiness(s *state, i *instance) action {
	health, excuse := s.health(i), s.maintenanceOutput()
	output := excuse
	switch {
	case excuse != "":
	case i.want != nil && i.want.Health != "":
		output = "set by the pod's annotation " + contract.ServiceHealth
	case health == contract.Critical:
		output = "the pod's containers are not ready"
	}
	return action{kind: updateReadiness, id: i.id, health: health, output: output, maintenanceOutput: excuse, wait: i.updateTimeout(), generation: s.lateGeneration}
}

// planCatalog reads the catalog, and then waits for something newer, each time for this long at the most.
func planCatalog(s *state, now time.Time, p *schedule, wait time.Duration) {
	a := action{kind: readCatalog, generation: s.catalog.generation, wait: wait}
	p.want(a)
	if s.catalog.fresh() {
		if !p.reached(now, s.catalog.readAt) {
			return
		}
		a.index = s.catalog.view.Index
	}
	p.add(s, now, a)
}

func planGate(s *state, now time.Time, p *schedule) {
	if s.pod == nil || s.gone || !s.waits() {
		return
	}
	if due, ok := s.timeoutAt(); ok && !s.gate.open() {
		p.reached(now, due)
	}
	want, current := s.gate.want, s.gate.current
	others := s.closedOthers(now)
	if want.matches(current) && len(others) == 0 {
		return
	}
	write := action{kind: patchStatus, condition: want.condition(current, now), others: others, seen: s.pod}
	p.want(write) // also while it waits, as where the reason changes to and fro
	closedBefore := current == nil || current.Status != corev1.ConditionTrue
	hold := want.hold
	if closedBefore && !want.open && want.reason != contract.Draining {
		hold = conditionDebounce
	}
	if len(others) == 0 && !p.reached(now, s.gate.wantSince.Add(hold)) {
		return
	}
	if want.matches(s.gate.written) && len(others) == 0 && !p.reached(now, s.gate.writtenAt.Add(reregisterInterval)) {
		return
	}
	p.add(s, now, write)
}
