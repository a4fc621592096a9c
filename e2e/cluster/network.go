package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// netnsPath returns the path at which ip-netns keeps a named network namespace.
func netnsPath(name string) string { return filepath.Join("/run/netns", name) }

// makeNetwork creates the bridge, and for each node a network namespace with a link to it. Nodes have direct routes to each
// other's pods. The host has them too, for the API server's calls to webhooks.
func (l layout) makeNetwork(ctx context.Context, options Options) error {
	bridge := l.bridge()
	commands := [][]string{
		{"ip", "link", "add", bridge, "type", "bridge"},
		{"ip", "address", "add", hostIP + "/24", "dev", bridge},
		{"ip", "link", "set", bridge, "up"},
	}
	if options.Consul == ConsulAgents && options.ConsulServers > 1 {
		for _, ip := range serverIPs(options.ConsulServers) {
			commands = append(commands, []string{"ip", "address", "add", ip + "/24", "dev", bridge})
		}
	}
	for node := 1; node <= options.Nodes; node++ {
		commands = append(commands, l.nodeNetwork(node, options.Nodes)...)
	}
	// Accept this bridge's traffic on hosts that filter bridged traffic. Docker, for example, drops it by default.
	commands = append(commands, append([]string{"iptables", "-w", "-I", "FORWARD"}, l.forwardRule()...))
	for _, command := range commands {
		if err := run(ctx, command[0], command[1:]...); err != nil {
			return err
		}
	}
	return enableForwarding("/proc")
}

func (l layout) forwardRule() []string {
	return []string{"-i", l.bridge(), "-o", l.bridge(), "-j", "ACCEPT"}
}

// nodeNetwork returns the commands that create one node's namespace, run on the host.
func (l layout) nodeNetwork(node, nodes int) [][]string {
	netns, host, peer := l.netns(node), l.hostLink(node), l.peerLink(node)
	inside := func(args ...string) []string { return append([]string{"ip", "-n", netns}, args...) }
	commands := [][]string{
		{"ip", "netns", "add", netns},
		{"ip", "link", "add", host, "type", "veth", "peer", "name", peer, "netns", netns},
		{"ip", "link", "set", host, "master", l.bridge()},
		{"ip", "link", "set", host, "up"},
		inside("link", "set", peer, "name", "eth0"),
		inside("address", "add", nodeIP(node)+"/24", "dev", "eth0"),
		inside("link", "set", "lo", "up"),
		inside("link", "set", "eth0", "up"),
		inside("route", "add", "default", "via", hostIP),
		{"nsenter", "--net=" + netnsPath(netns), "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"},
		{"ip", "route", "add", nodePodCIDR(node), "via", nodeIP(node)},
	}
	for other := 1; other <= nodes; other++ {
		if other != node {
			commands = append(commands, inside("route", "add", nodePodCIDR(other), "via", nodeIP(other)))
		}
	}
	return commands
}

// enableForwarding enables the host's IPv4 forwarding. It is not disabled afterwards, because other programs may rely on it by
// then.
func enableForwarding(proc string) error {
	file := filepath.Join(proc, "sys/net/ipv4/ip_forward")
	if value, err := os.ReadFile(file); err == nil && strings.TrimSpace(string(value)) == "1" {
		return nil
	}
	if err := os.WriteFile(file, []byte("1"), 0o644); err != nil {
		return fmt.Errorf("enable forwarding: %w", err)
	}
	return nil
}

// removeNetwork removes the namespaces, the links, and the bridge with its routes. Missing parts are no error.
func (l layout) removeNetwork(ctx context.Context) error {
	for iptablesRule := append([]string{"-w", "-D", "FORWARD"}, l.forwardRule()...); ; {
		if _, err := lookPath("iptables"); err != nil || run(ctx, "iptables", iptablesRule...) != nil {
			break // no such rule left
		}
	}
	names, err := filepath.Glob(netnsPath(l.netnsPrefix()) + "*")
	if err != nil {
		return fmt.Errorf("list network namespaces: %w", err)
	}
	for _, path := range names {
		if err := run(ctx, "ip", "netns", "delete", filepath.Base(path)); err != nil {
			return err
		}
	}
	links, err := filepath.Glob(filepath.Join("/sys/class/net", l.name+"-[vp]*"))
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	if bridge := filepath.Join("/sys/class/net", l.bridge()); exists(bridge) {
		links = append(links, bridge)
	}
	for _, link := range links {
		// The kernel deletes a veth in the background after its namespace, so it may vanish during this command.
		if err := run(ctx, "ip", "link", "delete", filepath.Base(link)); err != nil && exists(link) {
			return err
		}
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
