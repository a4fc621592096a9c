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
	findLeader  kind = "get_leader"       // does the agent answer, and know a leader?
	inspect     kind = "list_services"    // which of our instances has the agent?
	register    kind = "register"         // put the definition
	deregister  kind = "deregister"       // remove the instance
	setHealth   kind = "update_readiness" // write the readiness check
	beat        kind = "update_heartbeat" // write the heartbeat check
	watch       kind = "watch"            // wait until the agent's definition changes
	readCatalog kind = "read_catalog"
	setGate     kind = "patch_status"
	tell        kind = "create_event"
	// probeContainer runs a container's own probe.
	probeContainer kind = "probe_container"
	logIn          kind = "login"
	logOut         kind = "logout"
)

// kinds are all of them.
func kinds() []kind {
	return []kind{findLeader, inspect, register, deregister, setHealth, beat, watch, readCatalog, setGate, tell, probeContainer, logIn, logOut}
}

// long reports whether the kind waits for somebody else, and may be ended when nobody asks for it any more.
func (k kind) long() bool { return k == watch || k == readCatalog || k == probeContainer }

// far reports whether the kind needs more than the node's agent, so that waiting in vain says nothing of the agent.
func (k kind) far() bool { return k == readCatalog || k == logIn || k == logOut }

// updates reports whether the kind updates a check, for which the agent may have to wait for its own lock.
func (k kind) updates() bool { return k == beat || k == setHealth }

// lane is a queue of one: at most one action of a lane is under way.
type lane struct{ name, id string }

func (l lane) compare(other lane) int {
	return cmp.Or(cmp.Compare(l.name, other.name), cmp.Compare(l.id, other.id))
}

// action is what a lane should be doing.
type action struct {
	kind       kind
	id         string // of the instance
	definition Definition
	health     contract.Health
	cause      string // of the registration
	fresh      bool   // register: the agent is known not to have it
	parting    bool   // register: as critical, because the catalog kept it
	output     string
	excuse     string // setHealth: the part of the output that tells of a maintenance
	obsolete   []string
	hash       string
	index      uint64
	wait       time.Duration // readCatalog: at most, for something newer; beat and setHealth: at most, for the answer
	epoch      int           // what it was begun in: readCatalog the catalog's, inspect the writes, watch, beat and setHealth the lates
	condition  corev1.PodCondition
	event      Event
	// others are conditions of another system to write with it, seen is the pod that lacks them.
	others  []corev1.PodCondition
	seen    *corev1.Pod
	probe   *registration.Probe
	session int // that the call is made with; logout: that it ends
}

// outlived reports whether a long action under way is no longer the one that is planned.
func (a action) outlived(planned action) bool {
	return planned.epoch != a.epoch || planned.hash != a.hash || planned.session != a.session || planned.wait < a.wait
}

func (a action) lane() lane {
	switch a.kind {
	case findLeader:
		return lane{name: "link"}
	case inspect:
		return lane{name: "inspect"}
	case watch:
		return lane{"watch", a.id}
	case readCatalog:
		return lane{name: "catalog"}
	case setGate:
		return lane{name: "gate"}
	case tell:
		return lane{name: "event"}
	case probeContainer:
		return lane{"container", a.id}
	case logIn:
		return lane{name: "login"}
	case logOut:
		return lane{name: "logout"}
	case setHealth, beat:
		return lane{"health", a.id} // one that can't be put any more lives on as it is
	case register, deregister:
	}
	return lane{"agent", a.id}
}

// schedule is what should be going on now.
type schedule struct {
	work map[lane]action
	// wanted are the lanes with work, and those whose work waits.
	wanted map[lane]bool
	// wake is when to plan again though nothing has happened; zero: never.
	wake time.Time
	// drained: the drain hooks may be answered. ended: and the process has been told to end, and has told what there was and logged out.
	drained, ended bool
	// calledOff: the end was announced, and never came.
	calledOff bool
}

// Times of the plan. Consul's agent syncs a change at once, but a failed sync waits for its next change or full sync, so
// a catalog that lags is nudged with a changed definition, first after nudgeAfter.
const (
	nudgeAfter = 2 * time.Second
	nudgeMax   = 30 * time.Second
	// againAfter is the least time after which a registration or a condition is written once more because it has not stayed as it
	// was: somebody else may be as stubborn.
	againAfter = 500 * time.Millisecond
	// awaitFor bounds a reading of the catalog that the gate, a nudge or the drain waits for: an answer can get lost, on a
	// connection that is open at this end alone, and is missed for no longer. quietFor is for one that nothing waits for.
	awaitFor = 30 * time.Second
	quietFor = 5 * time.Minute
	// settle is how long a closed gate's reason must hold before it is written, so that a pod that starts in a moment
	// costs one write and not four.
	settle = time.Second
	// refreshEvery is how often an unchanged readiness check is written, up to half of it less: its TTL is a day, but somebody
	// may have removed it, and nothing else would tell. The same state once more is no raft write.
	refreshEvery = time.Minute
	// overtaken is when it is written once more after it wasn't known, for instance because a change of it came late: the agent
	// takes what it has kept waiting in any order.
	overtaken = 2 * time.Second
)

// plan decides what each lane should be doing, from what is known. It changes nothing and asks nobody.
func plan(s *state, now time.Time) schedule {
	p := schedule{work: map[lane]action{}, wanted: map[lane]bool{}}
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
	if r := s.retries[a.lane()]; now.Before(r.at) {
		p.wakeAt(r.at)
		return
	}
	if a.kind != logOut {
		a.session = s.login.session.ID
	}
	p.work[a.lane()] = a
}

// want keeps what is known of an action's failures, also where it isn't added yet.
func (p *schedule) want(a action) { p.wanted[a.lane()] = true }

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
	if !s.link.answers || !s.link.leader {
		p.add(s, now, action{kind: findLeader})
	}
	switch {
	case !s.link.answers:
		planBlindBeats(s, now, p)
		return
	case !planLogin(s, now, p):
		return
	case !s.link.inspected:
		planBlindBeats(s, now, p)
		p.add(s, now, action{kind: inspect, epoch: s.writes})
		return
	}
	await := s.link.leader && (s.catalog.view == nil || s.catalog.asked != nil)
	for _, id := range s.ids() {
		i := s.instances[id]
		planDefinition(s, i, now, p)
		if i.agent == present && !s.defined {
			planBeat(s, i, now, p)
		}
		if i.want == nil || i.agent != present {
			continue
		}
		planHealth(s, i, now, p)
		watching := action{kind: watch, id: id, hash: i.hash, epoch: s.lates}
		p.want(watching) // one that breaks the connection keeps its pace until it is begun again
		if i.confirmed {
			p.add(s, now, watching)
		}
		await = await || !i.confirmed || !s.gate.open() && s.mode() != contract.GateOff
	}
	switch {
	case await:
		planCatalog(s, now, p, awaitFor)
	case s.followsCatalog():
		planCatalog(s, now, p, quietFor)
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
	case !i.current(), i.session != s.login.session.ID:
		registering := put(s, i)
		p.want(registering)
		again := i.putAs == i.wantedFingerprint() && i.session == s.login.session.ID
		if s.due(i) && s.link.leader && (!again || p.reached(now, i.putAt.Add(againAfter))) {
			p.add(s, now, registering)
		}
	case (!i.confirmed || i.lost()) && s.link.leader && s.catalog.fresh() && !s.synced(i) && p.reached(now, i.nudgeAt):
		nudge := put(s, i)
		nudge.cause = causeResync
		nudge.definition.Meta = nudged(nudge.definition.Meta, i.nudges+1)
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

func put(s *state, i *instance) action {
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

// planHealth writes an instance's state and its sign of life. It doesn't matter whether the definition is the wanted one.
func planHealth(s *state, i *instance, now time.Time, p *schedule) {
	switch {
	case i.readiness != s.health(i), i.excuse != s.excuse():
		p.add(s, now, update(s, i))
	case planBeat(s, i, now, p): // before what can wait
	case p.reached(now, i.refreshAt):
		p.add(s, now, update(s, i))
	}
}

// planBeat writes the sign of life when it is due, and reports whether it is. It goes on for what an earlier agentlet of this
// pod has left while the pod's wishes are not known, because the API server is away or the annotations have become invalid: the
// pod is served all the same.
func planBeat(s *state, i *instance, now time.Time, p *schedule) (due bool) {
	if due = p.reached(now, i.beatAt); due {
		p.add(s, now, action{kind: beat, id: i.id, wait: i.patience(), epoch: s.lates})
	}
	return due
}

// planBlindBeats goes on beating what was there when the agent last answered. While Consul's servers are away, an agent that
// waits for them with a sync answers too late, if at all, and yet takes a heartbeat: without one, all its instances would be
// critical when the servers are back. Where the sync holds the agent up for longer than heartbeat-ttl, they are so for an instant
// all the same, until the beats that wait are taken: the agent's own timers wait with them for one lock, which a sync keeps through
// all its requests (agent/local State.SyncChanges of Consul 1.22), 7 s for each change that the servers don't have.
func planBlindBeats(s *state, now time.Time, p *schedule) {
	for _, id := range s.ids() {
		if i := s.instances[id]; i.agent == present {
			planBeat(s, i, now, p)
		}
	}
}

// update writes the readiness check. Its output stays the same for the same health: a changed one is a raft write.
func update(s *state, i *instance) action {
	health, excuse := s.health(i), s.excuse()
	output := excuse
	switch {
	case excuse != "":
	case i.want != nil && i.want.Health != "":
		output = "set by the pod's annotation " + contract.ServiceHealth
	case health == contract.Critical:
		output = "the pod's containers are not ready"
	}
	return action{kind: setHealth, id: i.id, health: health, output: output, excuse: excuse, wait: i.patience(), epoch: s.lates}
}

// planCatalog reads the catalog, and then waits for something newer, each time for this long at the most.
func planCatalog(s *state, now time.Time, p *schedule, wait time.Duration) {
	a := action{kind: readCatalog, epoch: s.catalog.epoch, wait: wait}
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
	write := action{kind: setGate, condition: want.condition(current, now), others: others, seen: s.pod}
	p.want(write) // also while it waits, as where the reason changes to and fro
	closedBefore := current == nil || current.Status != corev1.ConditionTrue
	hold := want.hold
	if closedBefore && !want.open && want.reason != contract.Draining {
		hold = settle
	}
	if len(others) == 0 && !p.reached(now, s.gate.wantSince.Add(hold)) {
		return
	}
	if want.matches(s.gate.written) && len(others) == 0 && !p.reached(now, s.gate.writtenAt.Add(againAfter)) {
		return
	}
	p.add(s, now, write)
}
