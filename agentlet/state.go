package agentlet

import (
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// state is everything the registrar knows. Observations and outcomes change it, decide and plan read it.
type state struct {
	identity Identity
	// allowed is what changed annotations, labels and the local API may ask for.
	allowed registration.Allowed
	// otherGates are another system's, which open with the own one.
	otherGates []string
	// began is when this process did.
	began time.Time

	// pod as last seen; nil before the first sight. gone: the API server said that there is none with our UID.
	pod  *corev1.Pod
	gone bool
	// reg is the last valid registration; nil before there was one. invalid says what is wrong with the current annotations.
	reg     *registration.Registration
	invalid string
	// unserved is what the gate says of a pod that isn't registered whatever its annotations say; no reason: it is served.
	unserved gateStatus
	// readySince is when the containers became ready; zero while they are not.
	readySince time.Time
	// everReady: they have been, or an earlier agentlet of this pod has left an instance that was not critical.
	everReady bool
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
	// lateGeneration counts how often updates came late, several together once; what waits on a connection from before is
	// asked again.
	lateGeneration int
	// writeGeneration counts the beginnings and ends of changes at the agent: what was read between two of them may be older.
	writeGeneration int
	instances       map[string]*instance
	// wanted are the instances that the pod asks for, in the order of their IDs: reconcile sorts them, because each plan asks often.
	wanted []*instance
	// defined: it is known what the pod asks for, so that an instance without a want is one too many.
	defined bool
	// registeredHere: this process has put an instance.
	registeredHere   bool
	heartbeatsMissed uint64

	catalog   catalog
	gate      gate
	drain     drain
	hooks     hooks
	events    eventState
	login     login
	overrides overrides
	retries   map[key]retry
}

func newState(identity Identity) *state {
	return &state{
		identity: identity, instances: map[string]*instance{}, retries: map[key]retry{}, workers: map[string]*worker{},
		overrides: newOverrides(), hooks: newHooks(),
	}
}

// tick takes in that time has passed.
func (s *state) tick(now time.Time) {
	s.countMissedHeartbeats(now)
	s.observeReadiness(now)
}

// mode is the gate's mode; passing before the annotations have been read.
func (s *state) mode() contract.GateMode {
	if s.reg == nil {
		return contract.GatePassing
	}
	return s.reg.Settings.Gate
}
