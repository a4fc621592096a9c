package contract

// Reason is the reason of the pod condition.
type Reason string

// The reasons of the condition, in the order in which a healthy pod meets them.
const (
	Starting             Reason = "Starting"             // the agentlet has just started
	ContainersNotReady   Reason = "ContainersNotReady"   // a container that counts for readiness is not ready
	ConsulUnreachable    Reason = "ConsulUnreachable"    // the node's Consul agent is unreachable; the message names its address
	LoginFailed          Reason = "LoginFailed"          // there is no ACL token; the message says why
	RegistrationRejected Reason = "RegistrationRejected" // the Consul agent refused the registration; the message holds its answer
	RegistrationFailed   Reason = "RegistrationFailed"   // the Consul agent answered with an error; the message holds it
	InvalidConfiguration Reason = "InvalidConfiguration" // a changed annotation is invalid; the last valid registration stays
	PortConflict         Reason = "PortConflict"         // the agentlet's port is taken
	AwaitingCatalog      Reason = "AwaitingCatalog"      // registered with the agent; the catalog does not show it yet
	Registered           Reason = "Registered"           // the catalog shows every service as it should be
	TimedOut             Reason = "TimedOut"             // opened by gate-timeout before the catalog confirmed the registration
	CatalogLost          Reason = "CatalogLost"          // the catalog has lost the instance; with gate-policy once the gate stays open
	Draining             Reason = "Draining"             // the pod ends and is being taken out
	OptedOut             Reason = "OptedOut"             // taken out by its annotations or its label; the gate is open
	CopiedPod            Reason = "CopiedPod"            // a copy of another pod is not registered; the message names that pod
)

// The reasons of events that the condition does not have.
const (
	Drained       Reason = "Drained"
	DrainTimedOut Reason = "DrainTimedOut"
	Maintenance   Reason = "Maintenance"
	CheckFailing  Reason = "CheckFailing"
)

var events = []Event{
	{Registered, false},
	{Starting, false},
	{ContainersNotReady, false},
	{InvalidConfiguration, true},
	{PortConflict, true},
	{ConsulUnreachable, true},
	{LoginFailed, true},
	{RegistrationRejected, true},
	{RegistrationFailed, true},
	{AwaitingCatalog, true},
	{TimedOut, true},
	{CatalogLost, true},
	{OptedOut, false},
	{CopiedPod, true},
	{CheckFailing, true},
	{Maintenance, false},
	{Drained, false},
	{DrainTimedOut, true},
}

// ReportingController is who the events are from.
const ReportingController = Prefix + "agentlet"

var reasons = []Reason{
	Starting,
	ContainersNotReady,
	ConsulUnreachable,
	LoginFailed,
	RegistrationRejected,
	RegistrationFailed,
	InvalidConfiguration,
	PortConflict,
	AwaitingCatalog,
	Registered,
	TimedOut,
	CatalogLost,
	Draining,
	OptedOut,
	CopiedPod,
}

// Reasons returns the reasons of the condition, in the order of the docs' table. The caller owns the slice.
func Reasons() []Reason { return append([]Reason(nil), reasons...) }

// Events returns the events on a pod, those without a reason of the condition last.
func Events() []Event { return append([]Event(nil), events...) }

// Event is one event by its reason.
type Event struct {
	Reason Reason
	// Warning is the event's type; otherwise it is Normal.
	Warning bool
}
