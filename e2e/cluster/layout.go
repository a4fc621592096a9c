package cluster

import (
	"fmt"
	"path/filepath"

	"github.com/agentlet/agentlet/hack/toolchain"
)

// Addresses of the cluster. Every cluster uses the same ones, so only one cluster can run at a time.
const (
	hostIP      = "10.99.0.1" // of the bridge: API server, first Consul server, the nodes' default gateway
	podCIDR     = "10.244.0.0/16"
	serviceCIDR = "10.96.0.0/16"
	serviceIP   = "10.96.0.1" // of the API server within serviceCIDR
)

func nodeName(n int) string    { return fmt.Sprintf("node%d", n) }
func nodeIP(n int) string      { return fmt.Sprintf("10.99.0.%d", 10+n) }
func nodePodCIDR(n int) string { return fmt.Sprintf("10.244.%d.0/24", n) }

// serverIPs returns the addresses of n Consul servers. Three servers get an address each, so that each can be cut off alone.
func serverIPs(n int) []string {
	if n == 1 {
		return []string{hostIP}
	}
	ips := make([]string, n)
	for i := range ips {
		ips[i] = fmt.Sprintf("10.99.0.%d", 2+i)
	}
	return ips
}

// layout derives all names that a cluster uses on the machine from its own name. Down needs nothing else, so it can also remove a
// cluster that crashed before it wrote its state.
type layout struct {
	name string
	dir  string
}

// clustersDir returns the folder that contains a folder for each cluster.
func clustersDir() (string, error) {
	root, err := toolchain.CacheRoot()
	if err != nil {
		return "", err
	}
	return filepath.Join(root, "clusters"), nil
}

func newLayout(name string) (layout, error) {
	if !validName.MatchString(name) {
		return layout{}, fmt.Errorf("name %q: want at most 10 lower-case letters and digits, a letter first", name)
	}
	root, err := clustersDir()
	if err != nil {
		return layout{}, err
	}
	l := layout{name: name, dir: filepath.Join(root, name)}
	// Limit the path: the sockets below it must fit into the 108 bytes of a socket address.
	if len(l.dir) > 64 {
		return layout{}, fmt.Errorf("cluster folder %s: longer than 64 characters (set AGENTLET_CACHE)", l.dir)
	}
	return l, nil
}

func (l layout) bridge() string               { return "br-" + l.name }
func (l layout) hostLink(node int) string     { return fmt.Sprintf("%s-v%d", l.name, node) }
func (l layout) peerLink(node int) string     { return fmt.Sprintf("%s-p%d", l.name, node) }
func (l layout) netnsPrefix() string          { return l.name + "-node" }
func (l layout) netns(node int) string        { return fmt.Sprintf("%s%d", l.netnsPrefix(), node) }
func (l layout) cniNetwork(node int) string   { return fmt.Sprintf("agentlet-%s-node%d", l.name, node) }
func (l layout) cgroup() string               { return "agentlet-" + l.name }
func (l layout) nodeCgroup(node int) string   { return l.cgroup() + "/" + nodeName(node) }
func (l layout) systemCgroup(node int) string { return l.nodeCgroup(node) + "/system" }
func (l layout) controlCgroup() string        { return l.cgroup() + "/control" }

func (l layout) path(elements ...string) string {
	return filepath.Join(append([]string{l.dir}, elements...)...)
}

func (l layout) stateFile() string             { return l.path("state.json") }
func (l layout) pki(file string) string        { return l.path("pki", file) }
func (l layout) kubeconfig(user string) string { return l.path("kubeconfig", user) }
func (l layout) containerdSocket(node int) string {
	return l.path(nodeName(node), "containerd.sock")
}
