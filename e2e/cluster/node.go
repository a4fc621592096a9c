package cluster

import (
	"bytes"
	"embed"
	"fmt"
	"text/template"

	"github.com/agentlet/agentlet/hack/toolchain"
)

//go:embed templates
var templateFiles embed.FS

var templates = template.Must(template.ParseFS(templateFiles, "templates/*"))

// Node is a machine of the cluster: a network namespace with its own container runtime, kubelet, kube-proxy and Consul agent.
type Node struct {
	Name      string // node1, node2, …; also the name of its Consul agent
	IP        string
	Processes []*Process // in start order

	number int
	layout layout
}

// Process returns a process of the node by name, or nil.
func (n *Node) Process(name string) *Process { return findProcess(n.Processes, name) }

// ConsulAddr returns host and port of the HTTP API of the node's Consul agent.
func (n *Node) ConsulAddr() string { return consulHTTP(n.IP) }

// ContainerdSocket returns the address of the node's container runtime, for ctr -a.
func (n *Node) ContainerdSocket() string { return n.layout.containerdSocket(n.number) }

// Netns returns the path of the node's network namespace, for nsenter --net=.
func (n *Node) Netns() string { return netnsPath(n.layout.netns(n.number)) }

func findProcess(processes []*Process, name string) *Process {
	for _, p := range processes {
		if p.Name == name {
			return p
		}
	}
	return nil
}

func (l layout) node(number int, tools toolchain.Tools, options Options) *Node {
	name, ip := nodeName(number), nodeIP(number)
	dir := l.path(name)
	process := func(process, path, probeURL string, args ...string) *Process {
		return &Process{
			Name: process, Path: path, Args: args, Netns: l.netns(number), Cgroup: l.systemCgroup(number),
			Probe: probe{URL: probeURL}, LogFile: l.logFile(name, process), PIDFile: l.pidFile(name, process),
		}
	}
	n := &Node{Name: name, IP: ip, number: number, layout: l}
	n.Processes = []*Process{
		process(Containerd, Containerd, "unix://"+l.containerdSocket(number), "--config="+dir+"/containerd.toml"),
		process(Kubelet, kubernetesProgram(tools, Kubelet), "http://"+ip+":10248/healthz",
			"--config="+dir+"/kubelet.yaml",
			"--kubeconfig="+l.kubeconfig(name),
			"--root-dir="+dir+"/kubelet",
			"--cert-dir="+dir+"/kubelet/pki",
			"--node-ip="+ip,
			"--hostname-override="+name,
		),
		process(KubeProxy, kubernetesProgram(tools, KubeProxy), "http://"+ip+":10256/livez",
			"--config="+dir+"/kube-proxy.yaml",
		),
	}
	if options.Consul == ConsulAgents {
		agent := process(ConsulAgent, tools.Program(toolchain.Consul, "consul"), "", "agent", "-config-file="+dir+"/consul.json")
		agent.Probe = consulProbe(ip)
		n.Processes = append(n.Processes, agent)
	}
	return n
}

// writeConfig writes the configuration of the node's processes.
func (n *Node) writeConfig(options Options) error {
	dir := n.layout.path(n.Name)
	files := map[string]string{
		"containerd.toml": "containerd.toml", "cni.conflist": "cni/10-bridge.conflist",
		kubeletTemplate: kubeletTemplate, "kube-proxy.yaml": "kube-proxy.yaml",
	}
	for from, to := range files {
		content, err := n.fillIn(from)
		if err != nil {
			return err
		}
		if err := writeFile(dir+"/"+to, content); err != nil {
			return err
		}
	}
	if options.Consul != ConsulAgents {
		return nil
	}
	return writeConsulConfig(dir+"/consul.json", options, map[string]any{
		"node_name": n.Name, "data_dir": n.consulDataDir(), "bind_addr": n.IP, "client_addr": n.IP,
		// Fix the node ID, so that an agent that lost its data keeps it, as with a host's ID. With a new ID the servers would
		// reject the node's name for as long as they consider the old node alive.
		"node_id": fmt.Sprintf("00000000-0000-4000-8000-%012d", n.number),
	})
}

const kubeletTemplate = "kubelet.yaml"

// fillIn renders a file of the node from a template.
func (n *Node) fillIn(name string) ([]byte, error) {
	l := n.layout
	plugins, _ := cniPlugins()
	values := map[string]string{
		"Name": n.Name, "IP": n.IP, "Dir": l.path(n.Name), "PKI": l.path("pki"), "Socket": n.ContainerdSocket(),
		"Cgroup": l.nodeCgroup(n.number), "PauseImage": PauseImage,
		"CNIPlugins": plugins, "CNINetwork": l.cniNetwork(n.number),
		"PodCIDR": nodePodCIDR(n.number), "ClusterCIDR": podCIDR, "ProxyKubeconfig": l.kubeconfig(KubeProxy),
	}
	var content bytes.Buffer
	if err := templates.ExecuteTemplate(&content, name, values); err != nil {
		return nil, fmt.Errorf("fill in %s: %w", name, err)
	}
	return content.Bytes(), nil
}

func (n *Node) kubeletConfig() ([]byte, error) { return n.fillIn(kubeletTemplate) }
func (n *Node) kubeletFile() string            { return n.layout.path(n.Name, kubeletTemplate) }

func (n *Node) consulDataDir() string { return n.layout.path(n.Name, "consul") }
