// Package chaos plans a campaign of faults and evaluates its results. A Walk derives a random sequence of steps from a seed. A
// Campaign executes the steps on a World, and checks the invariants at each quiet moment. The World of the real cluster is in
// package real; this package touches no cluster.
package chaos

import (
	"fmt"
	"slices"
	"time"
)

// Thing is a part of the cluster that a fault breaks, or that a step needs whole.
type Thing string

// Things of every cluster.
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

// Things that some machines or clusters lack.
const (
	// OneServer is a single Consul server; without it the quorum is lost.
	OneServer Thing = "one Consul server"
	// ThreeServers are a leader and two followers.
	ThreeServers Thing = "three Consul servers"
	// OwnAgents are Consul agents that run as the nodes' own processes, in known folders.
	OwnAgents Thing = "the nodes' own Consul agents"
	// PacketFilter is iptables with the statistic module.
	PacketFilter Thing = "iptables' statistic module"
	// MessageBus is dbus-daemon, through which a kubelet learns of a shutdown.
	MessageBus Thing = "dbus-daemon"
)

// common are the things that every cluster has.
var (
	common    = []Thing{APIServer, Etcd, Controllers, Scheduler, Servers, Webhook}
	ofNode    = []Thing{Agent, Kubelet, Runtime, Proxy, Link, Pods}
	wholeNode = ofNode
)

// on returns the thing of one node, counted from 0. A thing of the whole cluster is the same on every node.
func (t Thing) on(node int) Thing {
	if slices.Contains(ofNode, t) {
		return Thing(fmt.Sprintf("%s of node %d", t, node+1))
	}
	return t
}

// heartbeatTTL is the heartbeat-ttl of the campaign's pods: how long a dead instance may stay passing if it isn't deregistered.
const heartbeatTTL = 15 * time.Second

// Settings of the campaign's pods, on which the allowances are based.
const (
	HeartbeatTTL    = heartbeatTTL
	DeregisterAfter = time.Minute
	GracePeriod     = 30 * time.Second
)
