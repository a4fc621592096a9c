package agentlet

import (
	"slices"
	"strings"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// presence of an instance at the agent.
type presence int

const (
	unknown presence = iota
	absent
	present
)

func (p presence) String() string { return [...]string{"unknown", "absent", "present"}[p] }

// instance is one service of this pod at the agent.
type instance struct {
	id string
	// want is the definition, and fingerprint and checkIDs its own; nil and empty for an instance that the pod no longer asks for.
	want        *Definition
	fingerprint string
	checkIDs    []string
	// agent is whether the agent has it, actual what it has: found there, or put there since. It is kept while the instance
	// is unknown, for the checks and tags that the next registration has to mind.
	agent  presence
	actual *Observed
	// login that put it there; 0: none, or one of before this process. The agent keeps its token with the instance.
	login int
	// removedAt is when the agent was first asked to remove it, in the drain. reregisteredCritical: it was put again
	// since, as critical.
	removedAt            time.Time
	reregisteredCritical bool
	// registered: it has been at the agent in this pod's life.
	registered bool
	// readiness is what the readiness check holds; empty when that isn't known.
	readiness contract.Health
	// maintenanceOutput is the readiness check's output, where it tells of a maintenance.
	maintenanceOutput string
	// heartbeatDue and refreshAt are when the TTL checks want their next update.
	heartbeatDue, refreshAt time.Time
	// heartbeatMissedAt is when a heartbeat that is not there yet counts as missed.
	heartbeatMissedAt time.Time
	// confirmed: the catalog showed it as it should be since it was last put. resyncAt is when the agent is made to sync again.
	confirmed bool
	// lostAt is when the catalog was first read without the instance after it had shown it; zero while it shows it.
	lostAt         time.Time
	syncGeneration int
	resyncAt       time.Time
	// hash of its definition at the agent, to wait on.
	hash string
	// registeredAt is when it was last put by this process, registeredFingerprint that of what was put.
	registeredAt          time.Time
	registeredFingerprint string
}

// setWant sets the definition; nil: there is none.
func (i *instance) setWant(d *Definition) {
	i.want, i.fingerprint, i.checkIDs = d, "", nil
	if d != nil {
		i.fingerprint, i.checkIDs = d.Fingerprint(), d.checkIDs()
	}
}

// forget what is known of the instance at the agent, which doesn't have it.
func (i *instance) forget() {
	*i = instance{
		id: i.id, want: i.want, fingerprint: i.fingerprint, checkIDs: i.checkIDs, agent: absent, registered: i.registered,
		removedAt: i.removedAt, reregisteredCritical: i.reregisteredCritical,
	}
}

// lost reports whether the catalog has stopped showing the instance.
func (i *instance) lost() bool { return !i.lostAt.IsZero() }

// ttl of its heartbeat: the least there is where nobody knows what an earlier agentlet has put.
func (i *instance) ttl() time.Duration {
	if i.want == nil {
		return contract.MinHeartbeatTTL
	}
	return i.want.HeartbeatTTL
}

// upToDate reports whether the agent holds what is wanted.
func (i *instance) upToDate() bool {
	return i.want != nil && i.agent == present && i.actual != nil && i.actual.Fingerprint == i.fingerprint &&
		same(*i.want, i.actual.Definition) && !slices.ContainsFunc(i.checkIDs, func(id string) bool {
		return !slices.Contains(i.actual.Checks, id)
	})
}

// notesStale reports whether the readiness check's notes at the agent tell of another maintenance than there is.
func (i *instance) notesStale() bool { return i.actual.Definition.Maintenance != i.want.Maintenance }

// definition to put: with the sync generation as it stands, because to lower it would be one more change, and with the tags
// that others have set where enable_tag_override hands them over.
func (i *instance) definition() Definition {
	d := *i.want
	if i.syncGeneration > 0 {
		d.Meta = withSyncGeneration(d.Meta, i.syncGeneration)
	}
	if d.EnableTagOverride && i.actual != nil && i.actual.Definition.EnableTagOverride {
		d.Tags = i.actual.Definition.Tags
	}
	return d
}

// obsolete checks of ours, which the wanted definition no longer has.
func (i *instance) obsolete() []string {
	if i.actual == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(i.actual.Checks), func(id string) bool { return slices.Contains(i.checkIDs, id) })
}

// health that an instance should have now.
func (s *state) health(i *instance) contract.Health {
	switch {
	case s.inMaintenance():
		return contract.Critical
	case i.want != nil && i.want.Health != "" && s.fixedHealthCounts():
		return i.want.Health
	case s.ready():
		return contract.Passing
	}
	return contract.Critical
}

// fixedHealthCounts reports whether a fixed health is the instance's by now: from the containers' first readiness on, so that
// nobody is sent to an application that is still starting; and at once where the gate waits for the registration alone, by which
// members find each other before they are ready.
func (s *state) fixedHealthCounts() bool {
	return s.everReady || s.gate.open() && s.mode() != contract.GateOff || s.mode() == contract.GateRegistered
}

// shouldRegister reports whether the instance should be at the agent by now: at once, so that readiness is one update of a
// check, which takes Consul half the time that a registration does. A mesh proxy comes after its service.
func (s *state) shouldRegister(i *instance) bool {
	if i.want == nil || i.want.ProxyFor == "" {
		return i.want != nil
	}
	service := s.instances[i.want.ProxyFor]
	return service != nil && service.agent == present
}

// proxyOf is the mesh proxy of an instance, or nil.
func (s *state) proxyOf(service *instance) *instance {
	for _, i := range s.instances {
		if i.want != nil && i.want.ProxyFor == service.id {
			return i
		}
	}
	return nil
}

// anyRegistered reports whether there is or may be something to take out: an instance that is or was at the agent, or
// whose presence is not known.
func (s *state) anyRegistered() bool {
	if !s.conn.listed {
		return true
	}
	for _, i := range s.instances {
		if i.registered || i.agent != absent {
			return true
		}
	}
	return false
}

// removed reports whether nothing of this pod is at the agent.
func (s *state) removed() bool {
	for _, i := range s.instances {
		if i.agent != absent {
			return false
		}
	}
	return s.conn.listed
}

// wantNothing forgets what the pod asks for.
func (s *state) wantNothing() {
	for _, i := range s.instances {
		i.setWant(nil)
	}
	s.wanted = nil
}

// reconcile brings the instances in line with what the pod asks for. A pod without an IP keeps what it had.
func (s *state) reconcile() {
	if s.reg == nil || s.ip() == "" {
		return
	}
	s.defined = true
	s.wantNothing()
	for _, d := range define(s.identity, s.ip(), s.secondIP(), s.reg) {
		d.Tags, d.Maintenance = s.mergeTags(d.Tags), s.maintenanceOutput()
		i := s.instances[d.ID]
		if i == nil {
			i = &instance{id: d.ID}
			if s.conn.listed {
				i.agent = absent
			}
			s.instances[d.ID] = i
		}
		i.setWant(&d)
		s.wanted = append(s.wanted, i)
	}
	slices.SortFunc(s.wanted, func(a, b *instance) int { return strings.Compare(a.id, b.id) })
}
