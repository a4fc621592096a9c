package chaos

import (
	"slices"
	"time"
)

// Scope is the target of a fault.
type Scope int

// Scopes of faults.
const (
	Cluster Scope = iota // the one process of its kind
	OfNode               // one node, or a pod on it
)

// Fault is a kind of fault.
type Fault struct {
	Name  string
	Scope Scope
	// Takes are the things that the fault breaks until its end. Needs are the things that must be whole until then.
	Takes, Needs []Thing
	// Min and Max bound the fault's duration. If both are 0, it is over at once and has no end step.
	Min, Max time.Duration
	// Ends is set if the fault itself ends pods.
	Ends bool
	// May defines which requests may fail. MayEnding, if it allows any, replaces May when pods are ended in the same round.
	May, MayEnding Allowance
	// Because is the reason why they may fail.
	Because string
	// Rows are the related rows of e2e/faults.md, by their first cell.
	Rows []string
}

// Lasts reports whether the fault has a duration, and so an end step.
func (f Fault) Lasts() bool { return f.Max > 0 }

const second = time.Second

// Allowances that several faults share.
var (
	// serfFails bounds the time until Consul's members declare a node failed; on an idle machine it is 5 to 7 s.
	serfFails = 15 * second
	// lostNode: half of the instances don't answer until the node is declared failed.
	lostNode = Allowance{FromBegin: serfFails, FromEnd: 5 * second, Share: 0.75}
	// keptByAgent: an ended pod's instance passes until the node is declared failed. Its agent has kept the instance, so it
	// passes again from the agent's return until its heartbeat-ttl is over.
	keptByAgent = Allowance{Throughout: true, FromEnd: heartbeatTTL + 5*second, Share: 0.5}
	// notSynced: without Consul's servers, nothing is removed from the catalog.
	notSynced = Allowance{Throughout: true, FromEnd: 10 * second, Share: 0.02, Ended: true}
	// notDrained: an ended pod's instance passes until its heartbeat-ttl is over.
	notDrained = Allowance{Throughout: true, FromEnd: heartbeatTTL + 5*second, Share: 0.3}
)

const (
	becauseKept    = "An agent that is away can't take an ended pod's instance out; after its return it passes for heartbeat-ttl at most."
	becauseDrained = "A pod that ends without its agentlet is not drained."
)

// faults are all kinds of faults.
var faults = []Fault{
	{
		Name: "API server stopped", Takes: []Thing{APIServer}, Needs: []Thing{Etcd}, Min: 5 * second, Max: 60 * second,
		Rows: []string{
			"API server away for 60 s", "API server away while a pod ends (deleted)", "API server away while a pod ends (overdue)",
			"agentlet killed while the API server is away",
		},
	},
	{
		Name: "API server frozen", Takes: []Thing{APIServer}, Needs: []Thing{Etcd}, Min: 5 * second, Max: 60 * second,
		Rows: []string{"API server hanging for 50 s"},
	},
	{Name: "API server frozen in bursts", Takes: []Thing{APIServer}, Needs: []Thing{Etcd}, Min: 10 * second, Max: 40 * second},
	{Name: "API server restarted", Needs: []Thing{APIServer, Etcd}, Rows: []string{"API server restarted"}},
	{Name: "etcd frozen", Takes: []Thing{Etcd}, Needs: []Thing{APIServer}, Min: 5 * second, Max: 40 * second},
	{Name: "etcd killed", Needs: []Thing{APIServer, Etcd}},
	{Name: "controller manager stopped", Takes: []Thing{Controllers}, Needs: []Thing{APIServer}, Min: 5 * second, Max: 30 * second},
	{Name: "scheduler stopped", Takes: []Thing{Scheduler}, Needs: []Thing{APIServer}, Min: 5 * second, Max: 30 * second},

	{
		Name: "Consul's leader killed", Takes: []Thing{Servers}, Needs: []Thing{ThreeServers}, Min: 5 * second, Max: 30 * second,
		MayEnding: Allowance{Throughout: true, FromEnd: 10 * second, Share: 0.05},
		Because:   "Until there is another leader nothing is taken out of the catalog; a drain waits for drain-timeout at most.",
		Rows:      []string{"Consul's leader killed, three servers"},
	},
	{
		Name: "Consul's leader frozen", Takes: []Thing{Servers}, Needs: []Thing{ThreeServers}, Min: 5 * second, Max: 30 * second,
		May:       Allowance{Throughout: true, FromEnd: 10 * second, Share: 0.02},
		MayEnding: notSynced,
		Because:   "An agent that waits for the frozen server is held up, as without a quorum.",
	},
	{
		Name:      "Consul's quorum lost",
		Takes:     []Thing{Servers},
		Needs:     []Thing{ThreeServers},
		Min:       10 * second,
		Max:       60 * second,
		May:       Allowance{Throughout: true, FromEnd: 10 * second, Share: 0.02},
		MayEnding: notSynced,
		Because: "Nothing is taken out of the catalog; a drain waits for drain-timeout at most. Held up for longer than heartbeat-ttl, instances " +
			"are critical for an instant.",
		Rows: []string{"Consul's quorum lost for a minute"},
	},
	{
		Name: "Consul's server stopped", Takes: []Thing{Servers}, Needs: []Thing{OneServer}, Min: 5 * second, Max: 60 * second,
		May:       Allowance{Throughout: true, FromEnd: 10 * second, Share: 0.02},
		MayEnding: notSynced,
		Because:   "As without a quorum.",
		Rows:      []string{"Consul's quorum lost for a minute"},
	},
	{
		Name:  "Consul server restarted with its data lost",
		Takes: []Thing{Servers},
		Needs: []Thing{ThreeServers},
		Min:   5 * second,
		Max:   20 * second,
	},

	{
		Name:      "Consul agent stopped",
		Scope:     OfNode,
		Takes:     []Thing{Agent},
		Min:       5 * second,
		Max:       40 * second,
		MayEnding: keptByAgent,
		Because:   becauseKept,
		Rows: []string{
			"Consul agent down when a pod starts",
			"Consul agent refuses while a pod ends",
			"Consul agent restarted with its data kept",
		},
	},
	{
		Name: "Consul agent killed", Scope: OfNode, Takes: []Thing{Agent}, Min: 1 * second, Max: 10 * second,
		MayEnding: keptByAgent, Because: becauseKept,
		Rows: []string{"Consul agent restarted with its data kept"},
	},
	{
		Name:      "Consul agent away, having left",
		Scope:     OfNode,
		Takes:     []Thing{Agent},
		Needs:     []Thing{Servers, Link},
		Min:       5 * second,
		Max:       30 * second,
		MayEnding: keptByAgent,
		Because:   becauseKept,
		Rows:      []string{"Consul agent restarted having left"},
	},
	{
		Name:      "Consul agent's data lost",
		Scope:     OfNode,
		Takes:     []Thing{Agent},
		Needs:     []Thing{OwnAgents},
		Min:       1 * second,
		Max:       20 * second,
		MayEnding: keptByAgent,
		Because:   becauseKept,
		Rows:      []string{"Consul agent restarted with its data lost", "Consul agent restarted, its first full sync failed"},
	},
	{
		Name: "Consul agent frozen", Scope: OfNode, Takes: []Thing{Agent}, Min: 5 * second, Max: 60 * second,
		MayEnding: keptByAgent, Because: becauseKept,
		Rows: []string{"Consul agent hangs until two heartbeats in a row are late", "Consul agent hangs while a pod ends"},
	},
	{
		Name:  "Consul agent's disk full",
		Scope: OfNode,
		Takes: []Thing{Agent},
		Needs: []Thing{OwnAgents},
		Min:   10 * second,
		Max:   60 * second,
		Rows:  []string{"a node's Consul agent without space on its disk when a pod starts"},
	},
	{
		Name: "instance deregistered by somebody", Scope: OfNode, Needs: []Thing{Agent, Link, Pods, Servers},
		Rows: []string{"somebody deregisters the instance at the agent"},
	},
	{
		Name: "instance edited by somebody", Scope: OfNode, Needs: []Thing{Agent, Link, Pods, Servers},
		May:     Allowance{FromBegin: 5 * second, Share: 0.5},
		Because: "The edit is of the port, to which clients send until it is put right.",
		Rows:    []string{"somebody edits the instance at the agent"},
	},

	{Name: "kubelet frozen", Scope: OfNode, Takes: []Thing{Kubelet, Pods}, Min: 5 * second, Max: 60 * second},
	{Name: "kubelet killed", Scope: OfNode, Takes: []Thing{Kubelet}, Min: 1 * second, Max: 30 * second},
	{Name: "container runtime frozen", Scope: OfNode, Takes: []Thing{Runtime, Pods}, Min: 5 * second, Max: 40 * second},
	{Name: "container runtime killed", Scope: OfNode, Takes: []Thing{Runtime}, Min: 1 * second, Max: 20 * second},
	{Name: "kube-proxy killed", Scope: OfNode, Takes: []Thing{Proxy}, Min: 1 * second, Max: 20 * second},
	{
		Name: "node cut off", Scope: OfNode, Takes: wholeNode, Min: 5 * second, Max: 40 * second,
		May: lostNode, MayEnding: keptByAgent,
		Because: "Clients send to its instances until the node is declared failed.",
		Rows:    []string{"node cut off", "node cut off, and back"},
	},
	{
		Name: "packets dropped", Scope: OfNode, Takes: wholeNode, Needs: []Thing{PacketFilter}, Min: 10 * second, Max: 40 * second,
		May:     Allowance{Throughout: true, FromEnd: 5 * second, Share: 0.5},
		Because: "One packet in ten is lost in each direction, the requests' and the answers', too.",
	},
	{
		Name:    "node rebooted",
		Scope:   OfNode,
		Takes:   wholeNode,
		Ends:    true,
		Min:     1 * second,
		Max:     30 * second,
		May:     Allowance{Throughout: true, FromEnd: heartbeatTTL + 10*second, Share: 0.75},
		Because: "Clients send to its instances until the node is declared failed, and again from its agent's return until heartbeat-ttl is over.",
		Rows: []string{
			"node rebooted, the pod has a new IP",
			"node gone",
			"node gone, and back without its pod",
			"node gone, and back without its pod: the old entry",
		},
	},
	{
		Name:  "node short of memory, soft threshold",
		Scope: OfNode,
		Takes: []Thing{Kubelet, Pods},
		Needs: []Thing{APIServer, Etcd, Runtime},
		Ends:  true,
		Min:   10 * second,
		Max:   30 * second,
		Rows:  []string{"node-pressure eviction, soft threshold", "kubelet restarted in the middle of an eviction, which it forgets"},
	},
	{
		Name:  "node short of memory, hard threshold",
		Scope: OfNode,
		Takes: []Thing{Kubelet, Pods},
		Needs: []Thing{APIServer, Etcd, Runtime},
		Ends:  true,
		Min:   10 * second,
		Max:   30 * second,
		May: Allowance{
			Throughout: true,
			Share:      0.02,
		},
		Because: "A hard threshold leaves a pod one second, and no time for drain-delay.",
		Rows:    []string{"node-pressure eviction, hard threshold"},
	},
	{
		Name:  "node shut down",
		Scope: OfNode,
		Takes: []Thing{Kubelet, Pods},
		Needs: []Thing{APIServer, Etcd, Runtime, MessageBus},
		Ends:  true,
		Min:   20 * second,
		Max:   40 * second,
		Rows:  []string{"graceful node shutdown"},
	},

	{
		Name: "agentlet killed", Scope: OfNode, Needs: []Thing{Kubelet, Runtime, Pods},
		MayEnding: Allowance{FromBegin: heartbeatTTL + 10*second, Share: 0.3}, Because: becauseDrained,
		Rows: []string{"agentlet killed", "agentlet OOM-killed"},
	},
	{
		Name:      "agentlet killed again and again",
		Scope:     OfNode,
		Takes:     []Thing{Pods},
		Needs:     []Thing{Kubelet, Runtime},
		Min:       10 * second,
		Max:       30 * second,
		MayEnding: notDrained,
		Because:   becauseDrained,
		Rows:      []string{"agentlet in a crash loop, the kubelet's wait longer than heartbeat-ttl"},
	},
	{
		Name: "agentlet frozen", Scope: OfNode, Takes: []Thing{Pods}, Min: 5 * second, Max: 60 * second,
		MayEnding: notDrained, Because: becauseDrained,
	},
	{
		Name: "application killed", Scope: OfNode, Needs: []Thing{Kubelet, Runtime, Pods, Agent, Link, Servers, APIServer, Etcd},
		May:     Allowance{FromBegin: 8 * second, Share: 0.5},
		Because: "Clients send to it until the kubelet has seen its end, which takes a second, and the agentlet has heard of it.",
		Rows:    []string{"application's container restarted alone"},
	},
	{
		Name: "application unready", Scope: OfNode, Takes: []Thing{Pods}, Min: 3 * second, Max: 30 * second,
		Rows: []string{"application turns unready", "application unready for 110 s, deregister-after 1m"},
	},
	{Name: "application flaps", Scope: OfNode, Needs: []Thing{Pods}, Rows: []string{"application flaps 5 times a second for 10 s"}},
	{Name: "drain called by anybody", Scope: OfNode, Needs: []Thing{Pods}, Rows: []string{"/drain called 1,000 times by anybody"}},

	{Name: "agentlet flooded with connections", Scope: OfNode, Needs: []Thing{Pods, Link}},
	{Name: "webhook flooded with connections", Scope: OfNode, Needs: []Thing{Webhook, Link}},
	{Name: "webhook flooded with reviews", Scope: OfNode, Needs: []Thing{Webhook, Link}},
	{Name: "webhook replica killed", Scope: OfNode, Needs: []Thing{Webhook, Kubelet, Runtime}},
	{Name: "webhook replica frozen", Scope: OfNode, Takes: []Thing{Webhook}, Min: 5 * second, Max: 20 * second},
}

// Faults returns all kinds of faults.
func Faults() []Fault { return slices.Clone(faults) }

// FaultNamed returns the fault of that name.
func FaultNamed(name string) (Fault, bool) {
	i := slices.IndexFunc(faults, func(f Fault) bool { return f.Name == name })
	if i < 0 {
		return Fault{}, false
	}
	return faults[i], true
}

// Change is a kind of change that people make to a workload during faults.
type Change struct {
	Name  string
	Needs []Thing
	// Ends is set if the change ends pods.
	Ends bool
	May  Allowance
	// Because is the reason why requests may fail.
	Because string
	Rows    []string
}

// changes are all kinds of changes.
var changes = []Change{
	{Name: "rollout", Needs: []Thing{APIServer, Etcd}, Ends: true},
	{Name: "scaling", Needs: []Thing{APIServer, Etcd}, Ends: true},
	{Name: "eviction", Needs: []Thing{APIServer, Etcd}, Ends: true},
	{Name: "deletion", Needs: []Thing{APIServer, Etcd}, Ends: true},
	{
		Name: "deletion by force", Needs: []Thing{APIServer, Etcd, Servers}, Ends: true, // nothing leaves the catalog without servers
		May:     Allowance{FromBegin: 5 * second, Share: 0.1},
		Because: "The kubelet doesn't wait for a pod that the API server has already forgotten.",
		Rows:    []string{"pod deleted by force"},
	},
	{Name: "deadline", Needs: []Thing{APIServer, Etcd, Scheduler}, Ends: true, Rows: []string{"activeDeadlineSeconds"}},
	{Name: "annotations changed", Needs: []Thing{APIServer, Etcd}, Rows: []string{"annotations of a running pod changed"}},
}

// Changes returns all kinds of changes.
func Changes() []Change { return slices.Clone(changes) }

// ChangeNamed returns the change of that name.
func ChangeNamed(name string) (Change, bool) {
	i := slices.IndexFunc(changes, func(c Change) bool { return c.Name == name })
	if i < 0 {
		return Change{}, false
	}
	return changes[i], true
}

// Elsewhere returns the rows of e2e/faults.md that the campaign doesn't cause, each with the reason.
func Elsewhere() map[string]string {
	const configured = "a matter of configuration, which doesn't change while pods run"
	return map[string]string{
		"100 pods of one node start together":                       "more pods than the campaign has",
		"99 pods of one node end together":                          "more pods than the campaign has",
		"a node's Consul agent without node:write while a pod ends": configured,
		"a check of the service's own fails":                        "the campaign's service has no check of its own",
		"another closes the gate twice in a row":                    "it is over in half a second",
		"annotations of a running pod made invalid":                 "it would hold later changes up",
		"login by an auth method of type jwt, over TLS":             configured,
		"login by an auth method of type kubernetes, over TLS":      configured,
		"no Secret with certificate and token when a pod starts":    configured,
		"node gone, a successor of the same name elsewhere":         "a Deployment's pods have names of their own",
		"node gone: consul force-leave":                             "the node comes back",
		"nothing happens, twenty pods":                              "something happens",
		"rolling restart with ACLs, TLS and tokens of a minute":     configured,
		"the Consul agent's certificate is of another authority":    configured,
		"the grant of the namespace's pods comes late":              configured,
		"two pods of one name overlap":                              "a Deployment's pods have names of their own",
	}
}
