// Package cluster runs a real Kubernetes and a real Consul on one Linux machine: a control plane in the host's network
// namespace, and nodes that have a network namespace, a containerd, a kubelet, a kube-proxy and a Consul client agent
// each. It needs root, Debian packages (which it installs) and programs that package toolchain builds; no registry
// and no download site.
//
// A cluster outlives the program that started it: Up starts it, Attach finds it again from another process, Down
// removes every trace of it. All traffic stays on 10.99.0.0/24 and 10.244.0.0/16 of the machine itself.
//
// Every program of it is a Process that can be stopped, killed, paused and started again; a Node can be cut off.
package cluster

import (
	"fmt"
	"io"
	"regexp"

	"github.com/agentlet/agentlet/hack/toolchain"
)

// DefaultName is the name of a cluster without a given one.
const DefaultName = "e2e"

// ConsulMode selects where Consul runs.
type ConsulMode string

const (
	// ConsulAgents runs Consul servers on the host and a client agent on each node. It is the default.
	ConsulAgents ConsulMode = "agents"
	// ConsulNone runs no Consul, and leaves the nodes' port 8500 to a Consul that runs in pods.
	ConsulNone ConsulMode = "none"
)

// Options configures a cluster. The zero value is a good default.
type Options struct {
	Name  string // lower-case letters and digits, at most 10; default DefaultName
	Nodes int    // 1 to 9; default 2
	// Kubernetes names the tool set of a release: toolchain.Kubernetes, the default, or toolchain.KubernetesOldest.
	Kubernetes string
	Consul     ConsulMode // default ConsulAgents
	// ConsulTools names the tool set of Consul: toolchain.Consul, the default, or toolchain.ConsulMPL.
	ConsulTools   string
	ConsulServers int // 1 or 3; default 1
	// ConsulConfig is merged over the default configuration of every Consul agent and server.
	ConsulConfig map[string]any `json:",omitempty"`
	// Log gets a line per step; nil discards them.
	Log io.Writer `json:"-"`
}

// validName limits a name so that derived names fit into the 15 characters of a network interface.
var validName = regexp.MustCompile(`^[a-z][a-z0-9]{0,9}$`)

// complete fills in the defaults and rejects invalid options.
func (o Options) complete() (Options, error) {
	if o.Name == "" {
		o.Name = DefaultName
	}
	if o.Nodes == 0 {
		o.Nodes = 2
	}
	if o.Kubernetes == "" {
		o.Kubernetes = toolchain.Kubernetes
	}
	if o.Consul == "" {
		o.Consul = ConsulAgents
	}
	if o.ConsulTools == "" {
		o.ConsulTools = toolchain.Consul
	}
	if o.ConsulServers == 0 {
		o.ConsulServers = 1
	}
	if o.Log == nil {
		o.Log = io.Discard
	}
	switch {
	case !validName.MatchString(o.Name):
		return o, fmt.Errorf("name %q: want at most 10 lower-case letters and digits, a letter first", o.Name)
	case o.Nodes < 1 || o.Nodes > 9:
		return o, fmt.Errorf("%d nodes: want 1 to 9", o.Nodes)
	case o.Kubernetes != toolchain.Kubernetes && o.Kubernetes != toolchain.KubernetesOldest:
		return o, fmt.Errorf("kubernetes %q: want %q or %q", o.Kubernetes, toolchain.Kubernetes, toolchain.KubernetesOldest)
	case o.Consul != ConsulAgents && o.Consul != ConsulNone:
		return o, fmt.Errorf("consul %q: want %q or %q", o.Consul, ConsulAgents, ConsulNone)
	case o.ConsulTools != toolchain.Consul && o.ConsulTools != toolchain.ConsulMPL:
		return o, fmt.Errorf("consul's tools %q: want %q or %q", o.ConsulTools, toolchain.Consul, toolchain.ConsulMPL)
	case o.ConsulServers != 1 && o.ConsulServers != 3:
		return o, fmt.Errorf("%d consul servers: want 1 or 3", o.ConsulServers)
	}
	return o, nil
}
