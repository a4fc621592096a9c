// Package injector decides what happens to a pod at admission: a patch, a skip with a reason, or a denial with every
// mistake. It is pure: a pod in, a decision out; no network, no clock, no randomness.
package injector

import (
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// Config is what the installation fixes for every injection.
type Config struct {
	// Image of the agentlet, and its pull policy (empty: Kubernetes' default).
	Image           string
	ImagePullPolicy corev1.PullPolicy
	// ConsulPort and ConsulScheme of the node's Consul agent; the host is the node's IP.
	ConsulPort   int
	ConsulScheme string
	// ClusterName becomes the meta k8s-cluster; empty: none.
	ClusterName string
	// Defaults for keys of the contract, handed on to the agentlet.
	Defaults registration.Defaults
}

// Request is one pod at admission.
type Request struct {
	// Namespace of the admission request; a pod's own metadata.namespace may be empty then.
	Namespace string
	Pod       *corev1.Pod
	// Nonce ties the drain hooks to this pod's agentlet; a pod that was injected before keeps its own.
	Nonce string
}

// Outcome of a decision.
type Outcome string

// The outcomes.
const (
	Injected Outcome = "injected"
	Skipped  Outcome = "skipped"
	Denied   Outcome = "denied"
)

// Reason says why; it feeds the answer, the log, the event and the metric alike.
type Reason string

// Decision is the injector's answer for one pod.
type Decision struct {
	Outcome Outcome
	Reason  Reason
	// Errors of a denial, all of them.
	Errors field.ErrorList
	// Warnings for the person, with any outcome.
	Warnings []string
	// Patch holds add operations only; empty when nothing is to be done.
	Patch []jsonpatch.Operation
}

// Injector decides. It is safe for concurrent use and holds no state but its configuration.
type Injector struct{ config Config }

// New returns an Injector, or an error that lists everything wrong with the configuration.
func New(config Config) (*Injector, error) { return &Injector{config: config}, nil }

// Decide judges one pod.
func (i *Injector) Decide(request Request) Decision { return Decision{Outcome: Skipped} }
