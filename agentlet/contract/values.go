package contract

import (
	"slices"
	"strings"
	"time"
)

// Never is the value of gate-timeout for a gate that waits as long as it takes.
const Never = "never"

// NoPort is the value of service-port, and of port in the structured form, for a service without a port.
const NoPort = "none"

// NamedPortsSince is the first version of Consul whose agents and servers know several named ports of one service.
const NamedPortsSince = "1.22"

// Limits that the contract sets.
const (
	// MinDeregisterAfter is Consul's own minimum for deregister_critical_service_after (its reaper ticks each 30 s).
	MinDeregisterAfter = time.Minute
	// MinHeartbeatTTL keeps a heartbeat, at a third of it, from going more often than once a second.
	MinHeartbeatTTL = 3 * time.Second
	// MaxPerServiceName is the longest service name that fits into KEY.NAME: a key's name part has 63 characters, and
	// the longest KEY with its dot 15.
	MaxPerServiceName = 48
	// MaxServiceName bounds every service name; a DNS label has 63 characters.
	MaxServiceName = 63
	// DrainShareOfGrace: waiting for Consul and drain-delay together never take more than this share of the pod's
	// grace period, so that the application always keeps a third.
	DrainShareOfGrace = 2.0 / 3
	// MaxConditionMessage is the longest message of a condition in bytes, and MaxEventMessage an event's, which is the API
	// server's own bound. The chart's policies refuse longer ones; a pod's 32 names of services fit into the former.
	MaxConditionMessage = 4096
	MaxEventMessage     = 1024
	// ReadinessTTL is the TTL of the readiness check: long, because it carries a state and not a sign of life.
	ReadinessTTL = 24 * time.Hour
)

// DefaultDrainTimeout bounds the wait for Consul at termination where drain-timeout is absent and a third of the grace
// period is more.
const DefaultDrainTimeout = 10 * time.Second

// GateMode is the value of the key gate.
type GateMode string

// The gate modes.
const (
	GatePassing    GateMode = "passing"
	GateRegistered GateMode = "registered"
	GateOff        GateMode = "off"
)

// GatePolicyMode is the value of the key gate-policy.
type GatePolicyMode string

// The gate policies.
const (
	GateOnce       GatePolicyMode = "once"
	GateContinuous GatePolicyMode = "continuous"
)

// ReadinessSource is the value of the key readiness.
type ReadinessSource string

// The sources of readiness.
const (
	ReadinessStart   ReadinessSource = "start"
	ReadinessKubelet ReadinessSource = "kubelet"
	ReadinessProbe   ReadinessSource = "probe"
)

// PlacementMode is the value of the key placement.
type PlacementMode string

// The places of the agentlet in a pod.
const (
	PlacementAuto      PlacementMode = "auto"
	PlacementContainer PlacementMode = "container"
	PlacementSidecar   PlacementMode = "sidecar"
)

// DrainHookMode is the value of the key drain-hook.
type DrainHookMode string

// The modes of the drain hook.
const (
	DrainHookOn    DrainHookMode = "true"
	DrainHookOff   DrainHookMode = "false"
	DrainHookChain DrainHookMode = "chain"
)

// LocalAPIMode is the value of the key local-api.
type LocalAPIMode string

// The modes of the local API.
const (
	LocalAPIEnabled  LocalAPIMode = "enabled"
	LocalAPIDisabled LocalAPIMode = "disabled"
)

// Health is a service's or check's health in Consul's words.
type Health string

// Consul's healths.
const (
	Passing  Health = "passing"
	Warning  Health = "warning"
	Critical Health = "critical"
)

// Words that can only mean no, or yes.
var (
	noWords  = []string{InjectDisabled, "disabled", "disable", "off", "no", "none", "never", "0"}
	yesWords = []string{"true", InjectEnabled, "enable", "on", "yes", "1"}
)

// OptsOut reports whether a value of a pod's inject can only mean that the pod is to be left alone.
func OptsOut(value string) bool { return isWord(noWords, value) }

// OptsIn reports whether a value of a pod's inject can only mean that the pod is to be registered. It doesn't say as what, and
// has no effect.
func OptsIn(value string) bool { return isWord(yesWords, value) }

func isWord(words []string, value string) bool {
	return slices.Contains(words, strings.ToLower(strings.TrimSpace(value)))
}
