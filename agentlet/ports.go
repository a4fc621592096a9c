package agentlet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// Errors by which an adapter reports what kind of failure it met. Everything else is taken for passing
// trouble and tried again.
var (
	// ErrAbsent: the agent does not have the service or the check.
	ErrAbsent = errors.New("not known to the Consul agent")
	// ErrUnreachable: there was no answer: nothing was reached, the connection broke, or the time was over.
	ErrUnreachable = errors.New("no answer")
	// ErrLate, which is an ErrUnreachable too: a connection was made, and no answer, or TLS handshake, came within the bound.
	ErrLate = fmt.Errorf("%w in time", ErrUnreachable)
	// ErrRefused, which is an ErrUnreachable too: nothing listens at the agent's address.
	ErrRefused = fmt.Errorf("%w: connection refused", ErrUnreachable)
	// ErrRejected: the agent understood and refused; only a change of the definition or of a policy helps.
	ErrRejected = errors.New("rejected by the Consul agent")
	// ErrDenied, which is an ErrRejected too: Consul's ACLs don't allow it.
	ErrDenied = fmt.Errorf("%w, by its ACLs", ErrRejected)
	// ErrUnknownToken, which is an ErrRejected too: Consul does not know the token, or not any more.
	ErrUnknownToken = fmt.Errorf("%w: Consul does not know the token", ErrRejected)
)

// RootCause is the error below those of a request and a connection, which name ephemeral ports and queries: text that differs
// from try to try would be logged, and written into the pod's condition, for ever.
func RootCause(err error) error {
	if call, ok := errors.AsType[*os.SyscallError](err); ok {
		return call.Err // the same broken connection is met by a read once, and by a write the next time
	}
	if operation, ok := errors.AsType[*net.OpError](err); ok {
		return operation.Err
	}
	if request, ok := errors.AsType[*url.Error](err); ok {
		return request.Err
	}
	return err
}

// Agent is the Consul agent of the pod's node. Every call is bounded by the adapter and ends with its context.
type Agent interface {
	// Register puts the definition with its checks, and removes the obsolete ones, given by their IDs; checks that others
	// added, such as a maintenance, stay. The readiness check of an instance that is new to the agent starts with the
	// health given; an existing check keeps its state.
	Register(ctx context.Context, definition Definition, health contract.Health, obsolete []string) error
	// Deregister removes the instance and its checks. ErrAbsent when the agent does not have it.
	Deregister(ctx context.Context, id string) error
	// Update writes a TTL check. ErrAbsent when the agent does not have it.
	Update(ctx context.Context, checkID string, health contract.Health, output string) error
}

// AgentView is what the node's Consul agent knows, without the catalog.
type AgentView interface {
	// HasLeader reports whether the agent can reach the servers' leader, without which a registration would stay local.
	HasLeader(ctx context.Context) (bool, error)
	// Instances returns the instances whose ID starts with prefix, by ID.
	Instances(ctx context.Context, prefix string) (map[string]Observed, error)
	// Changed blocks until the instance's definition at the agent has another hash than the one given, or the adapter's
	// wait is over, and returns the hash it has then. An empty hash returns at once. ErrAbsent when it is not there.
	Changed(ctx context.Context, id, hash string) (string, error)
}

// Catalog is Consul's catalog, as its servers' leader has it.
type Catalog interface {
	// OnNode returns the healths of this node's own checks and of the instances whose ID starts with prefix. With an
	// index that is not zero it blocks until something on the node is newer, or this wait, or the adapter's, is over. Its
	// cost does not depend on how many instances a service has elsewhere.
	OnNode(ctx context.Context, prefix string, index uint64, wait time.Duration) (CatalogView, error)
}

// Login is Consul's ACL system. Every call is bounded by its context.
type Login interface {
	// Login begins a session, in which all calls are made from then on: what was begun before goes on in the one of then.
	// Where a new one would be the same as the one in use, as with a token that somebody else keeps in a file, it returns
	// that one.
	Login(ctx context.Context) (Session, error)
	// Logout ends a session. ErrAbsent when Consul knows it no more. A session that was not begun by a login just ends.
	Logout(ctx context.Context, id int) error
}

// Session is a token of Consul's ACL system, as far as the registrar has to know it.
type Session struct {
	// ID tells the sessions of one process apart; never 0.
	ID int
	// Renew is how long after its beginning to log in again; zero: never.
	Renew time.Duration
}

// Kubernetes is the API server, as far as the own pod goes. Every call is bounded by its context.
type Kubernetes interface {
	// SetConditions writes these conditions and no others, on condition that the pod still has the UID it was made for. It
	// returns the resourceVersion that the pod has then.
	SetConditions(ctx context.Context, conditions []corev1.PodCondition) (version string, err error)
	// CreateEvent makes an event about the pod.
	CreateEvent(ctx context.Context, event Event) error
}

// Prober runs containers' own probes.
type Prober interface {
	// Probe runs one probe once, as the kubelet would, within the probe's own timeout. Nil means success.
	Probe(ctx context.Context, probe registration.Probe) error
}

// Hooks calls containers' own preStop hooks.
type Hooks interface {
	// Call makes the request of an httpGet hook once, as the kubelet would. Nil means that there was an answer, whatever its status.
	Call(ctx context.Context, hook registration.PreStop) error
}

// Observed is an instance as the agent has it.
type Observed struct {
	Definition Definition
	// Fingerprint of the definition that was put, as the heartbeat check's notes have it; empty when that is missing.
	Fingerprint string
	// Readiness is the readiness check's health; empty when the check is missing.
	Readiness contract.Health
	// MaintenanceOutput is what that check tells of a maintenance, with contract.MaintenanceOutput before its reason; else empty.
	MaintenanceOutput string
	// Checks are the IDs of the checks that the contract names, sorted. Others' checks are not among them.
	Checks []string
}

// CatalogInstance is an instance as the catalog has it.
type CatalogInstance struct {
	// Health is the worst of all its checks.
	Health contract.Health
	// Heartbeat and Readiness are what the registrar's own two checks say; empty when the catalog lacks them.
	Heartbeat, Readiness contract.Health
	// Fingerprint of the definition that the catalog has.
	Fingerprint string
	// Failing names the other checks that are not passing, the service's own or a maintenance, each with what it answered, separated
	// by commas. Answered: one of them has.
	Failing  string
	Answered bool
}

// CatalogView is one reading of the catalog.
type CatalogView struct {
	// Index to wait on for the next reading.
	Index uint64
	// Instances by ID. An absent one has no entry.
	Instances map[string]CatalogInstance
	// FailingNodeChecks names the node's own checks that are not passing, sorted; clients that ask for passing instances
	// see none of this node's while there is one.
	FailingNodeChecks []string
}

// equal reports whether both say the same of the pod and of the node's own checks.
func (v *CatalogView) equal(other *CatalogView) bool {
	return maps.Equal(v.Instances, other.Instances) && slices.Equal(v.FailingNodeChecks, other.FailingNodeChecks)
}
