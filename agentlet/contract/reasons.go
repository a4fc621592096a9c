package contract

// Reason is the reason of the pod condition.
type Reason string

// The reasons of the condition, in the order in which a healthy pod meets them.
const (
	Starting             Reason = "Starting"
	ContainersNotReady   Reason = "ContainersNotReady"
	ConsulUnreachable    Reason = "ConsulUnreachable"
	LoginFailed          Reason = "LoginFailed"
	RegistrationRejected Reason = "RegistrationRejected"
	RegistrationFailed   Reason = "RegistrationFailed"
	InvalidConfiguration Reason = "InvalidConfiguration"
	PortConflict         Reason = "PortConflict"
	AwaitingCatalog      Reason = "AwaitingCatalog"
	Registered           Reason = "Registered"
	TimedOut             Reason = "TimedOut"
	CatalogLost          Reason = "CatalogLost"
	Draining             Reason = "Draining"
	OptedOut             Reason = "OptedOut"
	CopiedPod            Reason = "CopiedPod"
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

var reasonDocs = []ReasonDoc{
	{Starting, "the agentlet has just started"},
	{ContainersNotReady, "a container that counts for readiness is not ready"},
	{ConsulUnreachable, "the node's Consul agent is unreachable; the message names its address"},
	{LoginFailed, "there is no ACL token; the message says why"},
	{RegistrationRejected, "the Consul agent refused the registration; the message holds its answer"},
	{RegistrationFailed, "the Consul agent answered with an error; the message holds it"},
	{InvalidConfiguration, "a changed annotation is invalid; the last valid registration stays"},
	{PortConflict, "the agentlet's port is taken"},
	{AwaitingCatalog, "registered with the agent; the catalog does not show it yet"},
	{Registered, "the catalog shows every service as it should be"},
	{TimedOut, "opened by gate-timeout before the catalog confirmed the registration"},
	{CatalogLost, "the catalog has lost the instance; with gate-policy once the gate stays open"},
	{Draining, "the pod ends and is being taken out"},
	{OptedOut, "taken out by its annotations or its label; the gate is open"},
	{CopiedPod, "a copy of another pod is not registered; the message names that pod"},
}

// ReasonDocs returns the reasons of the condition with their meaning, in the order of the docs' table.
func ReasonDocs() []ReasonDoc { return append([]ReasonDoc(nil), reasonDocs...) }

// Events returns the events on a pod, those without a reason of the condition last.
func Events() []Event { return append([]Event(nil), events...) }

// Event is one event by its reason.
type Event struct {
	Reason Reason
	// Warning is the event's type; otherwise it is Normal.
	Warning bool
}

// ReasonDoc is one reason with its meaning.
type ReasonDoc struct {
	Reason Reason
	Doc    string
}
