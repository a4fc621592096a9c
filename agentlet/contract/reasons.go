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

var eventDocs = []EventDoc{
	{Registered, false, "the catalog shows every service as it should be, for the first time or again"},
	{Starting, false, "the gate has been closed for 15 seconds and the pod has no IP yet"},
	{
		ContainersNotReady,
		false,
		"the gate has been closed for 15 seconds because of containers that are not ready; the message names them. It comes once, however long they take",
	},
	{InvalidConfiguration, true, "the annotations of the running pod hold errors, which the message lists"},
	{PortConflict, true, "the agentlet's own port is taken"},
	{
		ConsulUnreachable,
		true,
		"the node's Consul agent has not answered or known a leader for 15 seconds, or goes on being late with updates",
	},
	{LoginFailed, true, "there has been no token of Consul's ACL system to work with for 15 seconds; the message says why"},
	{RegistrationRejected, true, "the Consul agent has refused the registration for 15 seconds; the message holds its answer"},
	{
		RegistrationFailed,
		true,
		"the Consul agent has answered registrations or updates with an error for 15 seconds; the message holds its last answer",
	},
	{AwaitingCatalog, true, "the gate has been closed for 15 seconds because the catalog doesn't show the services as they should be; the message says what is known"},
	{CheckFailing, true, "a check of the service's own has failed for 15 seconds; the message names it, with what it answered"},
	{TimedOut, true, "gate-timeout opened the gate before the catalog confirmed the registration"},
	{
		CatalogLost,
		true,
		"the catalog has lost an instance; with gate-policy continuous the gate closes, within ten seconds; else this is told after 15 seconds",
	},
	{OptedOut, false, "the running pod's annotations or its label ask for no registration any more, and it is deregistered"},
	{CopiedPod, true, "the pod is a copy of another one, with that one's agentlet, and is not registered"},
	{Maintenance, false, "the application has taken itself out of passing by the local API; the message holds its reason"},
	{Drained, false, "the catalog has dropped every instance of the terminating pod"},
	{DrainTimedOut, true, "the pod ended before the catalog was seen to have dropped every instance"},
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

// EventDocs returns the events on a pod with their meaning, in the order of the docs' table.
func EventDocs() []EventDoc { return append([]EventDoc(nil), eventDocs...) }

// EventDoc is one event by its reason.
type EventDoc struct {
	Reason Reason
	// Warning is the event's type; otherwise it is Normal.
	Warning bool
	Doc     string
}

// ReasonDoc is one reason with its meaning.
type ReasonDoc struct {
	Reason Reason
	Doc    string
}
