package agentlet

import (
	"maps"
	"regexp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// state is everything the registrar knows. Events change it, plan reads it.
type state struct {
	identity Identity
	// allowed is what changed annotations, labels and the local API may ask for.
	allowed registration.Allowed
	// otherGates are another system's, which open with the own one.
	otherGates []string

	// pod as last seen; nil before the first sight. gone: the API server said that there is none with our UID.
	pod  *corev1.Pod
	gone bool
	// reg is the last valid registration; nil before there was one. errors describes the current annotations' ones.
	reg     *registration.Registration
	invalid string
	// readySince is when the containers became ready; zero while they are not.
	readySince time.Time
	// workers of the containers that the agentlet probes itself, by name.
	workers map[string]*worker
	// unprobed are the containers of which it was said that they are left to the kubelet.
	unprobed []string
	// portConflict says why the agentlet's own port could not be opened; empty when it is.
	portConflict string

	// signals of termination, and when the first of them and SIGTERM came.
	signals       signals
	terminatingAt time.Time
	sigtermAt     time.Time

	conn agentConn
	// lateGeneration counts how often updates came late, several together once; what waits on a connection from before is asked again.
	lateGeneration int
	// writeGeneration counts the beginnings and ends of changes at the agent: what was read between two of them may be older.
	writeGeneration int
	instances       map[string]*instance
	// defined: the pod's wishes are known, so that an instance without a want is one too many.
	defined bool
	catalog catalog
	gate    gate
	drain   drain
	events  eventState
	// registeredHere: this process has put an instance.
	registeredHere   bool
	heartbeatsMissed uint64
	login            login
	overrides        overrides
	// began is when this process did.
	began time.Time

	retries map[key]retry
}

// signals are the ways in which a pod's end announces itself to its agentlet. Any one of them means: terminating.
type signals struct {
	// deletion: deletionTimestamp is set, or the pod is gone.
	deletion bool
	// preStop: the kubelet ran the agentlet's own preStop hook. It comes with every way in which the kubelet ends a pod,
	// also those that set no deletionTimestamp.
	preStop bool
	// sigterm: the process was told to end.
	sigterm bool
	// finished: the pod's phase is Succeeded or Failed.
	finished bool
}

func (s signals) any() bool { return s.deletion || s.preStop || s.sigterm || s.finished }

// agentConn is the connection with the node's Consul agent.
type agentConn struct {
	// answers: the last request was answered, late updates aside. leader: the agent knows a leader. listed: its instances are known.
	answers, leader, listed bool
	// reconnected: it was broken, so that the agent may have restarted since.
	reconnected bool
	// lateUpdates counts the updates in a row, none of them begun before the one before it was late, that were not answered in time.
	lateUpdates int
}

// unhealthy reports whether the agent is as good as away, as far as anybody is told: nothing answers, or no update in time.
// One that is late once may have been held up by a sync.
func (l agentConn) unhealthy() bool { return !l.answers || l.lateUpdates > 1 }

// presence of an instance at the agent.
type presence int

const (
	unknown presence = iota
	absent
	present
)

// instance is one service of this pod at the agent.
type instance struct {
	id string
	// want is the definition; nil for an instance that the pod no longer asks for.
	want *Definition
	// printed is the want that fingerprint was made of, for it is asked for with every plan.
	printed     *Definition
	fingerprint string
	// agent is whether the agent has it, held what it has: found there, or put there since. It is kept while the instance
	// is unknown, for the checks and tags that the next registration has to mind.
	agent  presence
	actual *Observed
	// session that put it there; 0: none, or one of before this process. The agent keeps its token with the instance.
	session int
	// removedAt is when the agent was first told to remove it, in the drain. parting: it was put again since, as critical.
	removedAt      time.Time
	markedCritical bool
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
	// confirmed: the catalog showed it as it should be since it was last put. resyncAt is when a lagging catalog is nudged.
	confirmed bool
	// lostAt is when the catalog was first read without the instance after it had shown it; zero while it shows it.
	lostAt         time.Time
	syncGeneration int
	resyncAt       time.Time
	// hash of its definition at the agent, to wait on.
	hash string
	// registeredAt is when it was last put by this process, registeredFingerprint the fingerprint of what was put.
	registeredAt          time.Time
	registeredFingerprint string
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

// updateTimeout is how long an update of a check may take: until the next heartbeat would be due, and as long as any other call. One that
// is given up keeps its place in the agent's queue, and the next stands behind it, so that to give up sooner is to wait longer.
// But where heartbeats are rare, an answer that got lost is missed for no longer than another.
func (i *instance) updateTimeout() time.Duration { return min(max(i.ttl()/3, agentTimeout), waitMax) }

// scheduleHeartbeat sets the time of the next heartbeat. It is missed when the one after it is due.
func (i *instance) scheduleHeartbeat(at time.Time) {
	i.heartbeatDue, i.heartbeatMissedAt = at, time.Time{}
	if i.want != nil {
		i.heartbeatMissedAt = at.Add(i.want.HeartbeatTTL / 3)
	}
}

// countMissedHeartbeats counts the heartbeats that should have been delivered by now.
func (s *state) countMissedHeartbeats(now time.Time) {
	for _, i := range s.instances {
		for i.want != nil && i.want.HeartbeatTTL > 0 && !s.terminating() && !i.heartbeatMissedAt.IsZero() && !now.Before(i.heartbeatMissedAt) {
			s.heartbeatsMissed++
			i.heartbeatMissedAt = i.heartbeatMissedAt.Add(i.want.HeartbeatTTL / 3)
		}
	}
}

// wantedFingerprint is that of the want, which nobody changes.
func (i *instance) wantedFingerprint() string {
	if i.printed != i.want {
		i.printed, i.fingerprint = i.want, i.want.Fingerprint()
	}
	return i.fingerprint
}

// upToDate reports whether the agent holds what is wanted.
func (i *instance) upToDate() bool {
	return i.want != nil && i.agent == present && i.actual != nil && i.actual.Fingerprint == i.wantedFingerprint() &&
		same(*i.want, i.actual.Definition) && !slices.ContainsFunc(i.want.checkIDs(), func(id string) bool {
		return !slices.Contains(i.actual.Checks, id)
	})
}

// definition to put: with the nudge counter as it stands, because to lower it would be one more change, and with the tags
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
	wanted := i.want.checkIDs()
	return slices.DeleteFunc(slices.Clone(i.actual.Checks), func(id string) bool { return slices.Contains(wanted, id) })
}

// catalog is what was last read of it.
type catalog struct {
	// view is nil before the first reading.
	view *CatalogView
	// generation counts the changes made at the agent; viewed is the epoch in which the view was asked for. A view that is
	// older than the last change proves nothing about it.
	generation, observedGeneration int
	// unchangedReads counts the readings in a row that said nothing new of the pod, readAt is when the next one may begin.
	unchangedReads int
	readAt         time.Time
	// answeredAt is when the view came.
	answeredAt time.Time
	// asked is closed when the catalog has been read for those who wait for it; nil: nobody does.
	asked chan struct{}
}

// keepConstant takes what failing checks answered for what they had answered before where only a generated part differs.
func (c catalog) keepConstant(instances map[string]CatalogInstance) {
	if c.view == nil {
		return
	}
	for id, seen := range instances {
		if was := c.view.Instances[id].Failing; was != seen.Failing && constant(was) == constant(seen.Failing) {
			seen.Failing = was
			instances[id] = seen
		}
	}
}

func (c catalog) fresh() bool { return c.view != nil && c.observedGeneration == c.generation }

// gate is the pod's condition.
type gate struct {
	// current is the condition as it was last written or seen.
	current *corev1.PodCondition
	// written is what was last written, version the pod's resourceVersion with it, and writtenAt when the answer came.
	written   *corev1.PodCondition
	version   string
	writtenAt time.Time
	// want is what it should say, and since when that is so.
	want      gateStatus
	wantSince time.Time
	// staleAddress: the open gate speaks of another address, from before a reboot of the node, and doesn't count.
	staleAddress bool
	// othersAt is the pod as it was when the other system's gates were last written; nil: they weren't.
	othersAt *corev1.Pod
	// closedAt is when an open gate had to close.
	closedAt time.Time
}

// open reports whether the gate is open now.
func (g gate) open() bool {
	return g.current != nil && g.current.Status == corev1.ConditionTrue && !g.staleAddress
}

// watchLag bounds how long the watch may lag behind an own write. An API server whose etcd was restored counts on from an older
// version, and what it says has to be believed again.
const watchLag = time.Minute

// compare says whether a pod as the watch told it is older (-1) or newer (1) than the answer to the last write, or the same (0).
// The resource versions of one pod can be compared since Kubernetes 1.35 (KEP-5504), and before that in practice; known is
// false where they can't be.
func (g gate) compare(pod *corev1.Pod) (order int, known bool) {
	order, err := resourceversion.CompareResourceVersion(pod.ResourceVersion, g.version)
	return order, err == nil
}

// drain is the termination's progress.
type drain struct {
	// goneAt is when the catalog had dropped every instance; refusedAt when the agent refused the connection.
	goneAt, refusedAt time.Time
}

// retry keeps a lane from hurrying after a failure.
type retry struct {
	failures int
	at       time.Time
	err      error
	// logged are the constant parts of the different errors since the last success, in their order; they may take turns.
	logged []string
}

// maxDistinctErrors bounds what one lane's failing is told in.
const maxDistinctErrors = 8

// isNew reports whether an error was not told since the last success.
func (r retry) isNew(err error) bool {
	return len(r.logged) < maxDistinctErrors && !slices.Contains(r.logged, constant(err.Error()))
}

// generated matches what programs make up anew for each try: names of temporary files, request IDs, times. Six characters leave
// ports and HTTP statuses alone.
var generated = regexp.MustCompile(`[0-9a-fA-F-]{6,}`)

// constant is the part of a text that stays the same from try to try.
func constant(text string) string { return generated.ReplaceAllLiteralString(text, "#") }

func newState(identity Identity) *state {
	return &state{identity: identity, instances: map[string]*instance{}, retries: map[key]retry{}, workers: map[string]*worker{}}
}

func (s *state) terminating() bool { return s.signals.any() }

// mode is the gate's mode; passing before the annotations have been read.
func (s *state) mode() contract.GateMode {
	if s.reg == nil {
		return contract.GatePassing
	}
	return s.reg.Settings.Gate
}

// ready reports whether the containers that count are ready.
func (s *state) ready() bool { return !s.readySince.IsZero() }

// health that an instance should have now.
func (s *state) health(i *instance) contract.Health {
	switch {
	case s.inMaintenance():
		return contract.Critical
	case i.want != nil && i.want.Health != "":
		return i.want.Health
	case s.ready():
		return contract.Passing
	}
	return contract.Critical
}

// shouldRegister reports whether the instance should be at the agent by now: from the containers' first readiness on, or at once
// where the gate waits for the registration alone. A mesh proxy can't begin before it is registered, and the application may
// not become ready without its upstreams, so that those two never wait for readiness. A proxy comes after its service.
func (s *state) shouldRegister(i *instance) bool {
	switch {
	case i.want == nil:
		return false
	case i.want.ProxyFor != "":
		service := s.instances[i.want.ProxyFor]
		return service != nil && service.agent == present
	}
	return s.ready() || i.registered || s.gate.open() || s.mode() == contract.GateRegistered || s.proxyOf(i) != nil
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

// satisfiesGate reports whether the catalog, as last read, has the instance as the gate wants it. A maintenance opens no gate, whoever
// asked for it.
func (s *state) satisfiesGate(i *instance) bool {
	seen, there := s.inCatalog(i)
	return there && (s.mode() == contract.GateRegistered || seen.Health == s.health(i) && !s.inMaintenance())
}

// synced reports whether the catalog, as last read, has what this registrar put at the agent. An instance may be synced
// and yet not passing: by the service's own checks, or a maintenance.
func (s *state) synced(i *instance) bool {
	seen, there := s.inCatalog(i)
	return there && seen.Heartbeat == contract.Passing && seen.Readiness == s.health(i)
}

// inCatalog returns the instance as the catalog has it, if that is the wanted definition.
func (s *state) inCatalog(i *instance) (seen CatalogInstance, there bool) {
	if s.catalog.view == nil || i.want == nil {
		return seen, false
	}
	seen, there = s.catalog.view.Instances[i.id]
	return seen, there && seen.Fingerprint == i.wantedFingerprint()
}

// ip of the pod; empty while it has none.
func (s *state) ip() string {
	if s.identity.PodIP != "" {
		return s.identity.PodIP
	}
	return s.pod.Status.PodIP
}

// secondIP is a dual-stack pod's address of the other family; empty where there is none. A status of before a reboot of the
// node is not believed.
func (s *state) secondIP() string {
	if ips := s.pod.Status.PodIPs; len(ips) > 1 && ips[0].IP == s.ip() {
		return ips[1].IP
	}
	return ""
}

// ids of all instances in a stable order.
func (s *state) ids() []string { return slices.Sorted(maps.Keys(s.instances)) }

// wanted returns the instances that the pod asks for, in a stable order.
func (s *state) wanted() []*instance {
	var wanted []*instance
	for _, id := range s.ids() {
		if s.instances[id].want != nil {
			wanted = append(wanted, s.instances[id])
		}
	}
	return wanted
}
