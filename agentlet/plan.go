package agentlet

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// kind of an action.
type kind string

const (
	probe       kind = "probe"      // does the agent answer, and know a leader?
	inspect     kind = "inspect"    // which of our instances has the agent?
	register    kind = "register"   // put the definition
	deregister  kind = "deregister" // remove the instance
	setHealth   kind = "set health" // write the readiness check
	beat        kind = "beat"       // write the heartbeat check
	watch       kind = "watch"      // wait until the agent's definition changes
	readCatalog kind = "read catalog"
	setGate     kind = "set gate"
)

// long reports whether the kind waits for somebody else's change, and may be ended when nobody asks for it any more.
func (k kind) long() bool { return k == watch || k == readCatalog }

// lane is a queue of one: at most one action of a lane is under way.
type lane struct{ name, id string }

// action is what a lane should be doing.
type action struct {
	kind       kind
	id         string // of the instance
	definition Definition
	health     contract.Health
	fresh      bool // register: the agent is known not to have it
	output     string
	obsolete   []string
	hash       string
	index      uint64
	epoch      int
	condition  corev1.PodCondition
}

func (a action) lane() lane {
	switch a.kind {
	case probe:
		return lane{name: "link"}
	case inspect:
		return lane{name: "inspect"}
	case watch:
		return lane{"watch", a.id}
	case readCatalog:
		return lane{name: "catalog"}
	case setGate:
		return lane{name: "gate"}
	case setHealth, beat:
		return lane{"health", a.id} // one that can't be put any more lives on as it is
	case register, deregister:
	}
	return lane{"agent", a.id}
}

// schedule is what should be going on now.
type schedule struct {
	work map[lane]action
	// wake is when to plan again though nothing has happened; zero: never.
	wake time.Time
	// drained: the drain hooks may be answered.
	drained bool
}

// Times of the plan. Consul's agent syncs a change at once, but a failed sync waits for its next change or full sync, so
// a catalog that lags is nudged with a changed definition, first after nudgeAfter.
const (
	nudgeAfter = 2 * time.Second
	nudgeMax   = 30 * time.Second
	// settle is how long a closed gate's reason must hold before it is written, so that a pod that starts in a moment
	// costs one write and not four.
	settle = time.Second
	// refreshEvery keeps the readiness check, whose TTL is a day, from running out.
	refreshEvery = contract.ReadinessTTL / 3
)

// plan decides what each lane should be doing, from what is known. It changes nothing and asks nobody.
func plan(s *state, now time.Time) schedule {
	p := schedule{work: map[lane]action{}}
	if s.terminating() {
		planDrain(s, now, &p)
	} else {
		planLife(s, now, &p)
	}
	planGate(s, now, &p)
	return p
}

// add puts an action on its lane, or the end of the lane's backoff into the schedule.
func (p *schedule) add(s *state, now time.Time, a action) {
	if r := s.retries[a.lane()]; now.Before(r.at) {
		p.wakeAt(r.at)
		return
	}
	p.work[a.lane()] = a
}

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
		p.add(s, now, action{kind: probe})
	}
	switch {
	case !s.link.answers:
		return
	case !s.link.inspected:
		p.add(s, now, action{kind: inspect, epoch: s.writes})
		return
	}
	await := s.catalog.view == nil && s.link.leader
	for _, id := range s.ids() {
		i := s.instances[id]
		planDefinition(s, i, now, p)
		if i.want == nil || i.agent != present {
			continue
		}
		planHealth(s, i, now, p)
		if i.confirmed {
			p.add(s, now, action{kind: watch, id: id, hash: i.hash})
		}
		await = await || !i.confirmed || !s.gate.open() && s.mode() != contract.GateOff
	}
	if await || s.reg != nil && s.reg.Settings.GatePolicy == contract.GateContinuous {
		planCatalog(s, now, p)
	}
}

// planDefinition puts what is missing or not as it should be, takes out what nobody wants, and nudges a catalog that
// lacks what the agent has.
func planDefinition(s *state, i *instance, now time.Time, p *schedule) {
	switch {
	case i.want == nil:
		if s.defined && i.agent != absent {
			p.add(s, now, action{kind: deregister, id: i.id})
		}
	case !i.current():
		if s.due(i) && s.link.leader {
			p.add(s, now, put(s, i))
		}
	case !i.confirmed && s.link.leader && s.catalog.fresh() && !s.synced(i) && p.reached(now, i.nudgeAt):
		nudge := put(s, i)
		nudge.definition.Meta = nudged(nudge.definition.Meta, i.nudges+1)
		p.add(s, now, nudge)
	}
}

func put(s *state, i *instance) action {
	return action{
		kind: register, id: i.id, definition: i.definition(), health: s.health(i), fresh: i.agent == absent,
		obsolete: i.obsolete(),
	}
}

// planHealth writes an instance's state and its sign of life. It doesn't matter whether the definition is the wanted one.
func planHealth(s *state, i *instance, now time.Time, p *schedule) {
	switch {
	case i.readiness != s.health(i), p.reached(now, i.refreshAt):
		p.add(s, now, update(i.id, s.health(i)))
	case p.reached(now, i.beatAt):
		p.add(s, now, action{kind: beat, id: i.id})
	}
}

// update writes the readiness check. Its output stays the same for the same health: a changed one is a raft write.
func update(id string, health contract.Health) action {
	output := ""
	if health == contract.Critical {
		output = "the pod's containers are not ready"
	}
	return action{kind: setHealth, id: id, health: health, output: output}
}

func planCatalog(s *state, now time.Time, p *schedule) {
	a := action{kind: readCatalog, epoch: s.catalog.epoch}
	if s.catalog.fresh() {
		a.index = s.catalog.view.Index
	}
	p.add(s, now, a)
}

func planGate(s *state, now time.Time, p *schedule) {
	if s.pod == nil || s.gone || !hasGate(s.pod) {
		return
	}
	if due, ok := s.timeoutAt(); ok && !s.gate.open() {
		p.reached(now, due)
	}
	want, current := s.gate.want, s.gate.current
	if want.matches(current) {
		return
	}
	closedBefore := current == nil || current.Status != corev1.ConditionTrue
	if closedBefore && !want.open && want.reason != contract.Draining && !p.reached(now, s.gate.wantSince.Add(settle)) {
		return
	}
	p.add(s, now, action{kind: setGate, condition: want.condition(current, now)})
}
