// Package chaos plans a campaign of faults and judges what came of it. A Walk, made of a seed, says which step comes next. A
// Campaign has a World do the steps, and checks the invariants at each quiet moment. The World of the real cluster is in
// e2e/scenarios; this package touches none.
package chaos

import (
	"fmt"
	"slices"
	"time"
)

// Thing is a part of the cluster that a fault breaks, or that a step needs whole.
type Thing string

// Things of the cluster.
const (
	APIServer   Thing = "API server"
	Etcd        Thing = "etcd"
	Controllers Thing = "controller manager"
	Scheduler   Thing = "scheduler"
	Servers     Thing = "Consul servers"
	Webhook     Thing = "webhook"
)

// Things that each node has.
const (
	Agent   Thing = "Consul agent"
	Kubelet Thing = "kubelet"
	Runtime Thing = "container runtime"
	Proxy   Thing = "kube-proxy"
	Link    Thing = "network link"
	Pods    Thing = "pods"
)

// Things that not every machine or cluster has.
const (
	// OneServer: a single Consul server, whose loss is the quorum's.
	OneServer Thing = "one Consul server"
	// ThreeServers: a leader and two others.
	ThreeServers Thing = "three Consul servers"
	// OwnAgents: the Consul agents are the nodes' own processes, whose folders are known.
	OwnAgents Thing = "the nodes' own Consul agents"
	// PacketFilter: iptables with the statistic module.
	PacketFilter Thing = "iptables' statistic module"
	// MessageBus: dbus-daemon, by which a kubelet hears of a shutdown.
	MessageBus Thing = "dbus-daemon"
)

// common are the things that every cluster has.
var (
	common    = []Thing{APIServer, Etcd, Controllers, Scheduler, Servers, Webhook}
	ofNode    = []Thing{Agent, Kubelet, Runtime, Proxy, Link, Pods}
	wholeNode = ofNode
)

// on is the thing of one node, counted from 0. Things of the whole cluster are the same on each.
func (t Thing) on(node int) Thing {
	if slices.Contains(ofNode, t) {
		return Thing(fmt.Sprintf("%s of node %d", t, node+1))
	}
	return t
}

// heartbeatTTL of the campaign's pods: how long a dead instance may pass when nobody takes it out of the catalog.
const heartbeatTTL = 15 * time.Second

// Settings of the campaign's pods, which the allowances are made for.
const (
	HeartbeatTTL    = heartbeatTTL
	DeregisterAfter = time.Minute
	GracePeriod     = 30 * time.Second
)
