package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/consul/api"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/agentlet/agentlet/hack/filelock"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// ErrNotRunning means that no cluster of that name runs.
var ErrNotRunning = errors.New("no such cluster")

// Cluster is a handle on a cluster, made by Up or Attach. It holds no connections and needs no closing.
type Cluster struct {
	Options      Options
	Nodes        []*Node
	ControlPlane []*Process // in start order, Consul servers included

	layout layout
	tools  toolchain.Tools
	added  []*Process // servers that AddConsulServers has added
}

// state is what Attach needs. Everything else follows from the name and the options.
type state struct {
	Options Options         `json:"options"`
	Tools   toolchain.Tools `json:"tools"`
}

// newCluster describes a cluster without starting anything.
func newCluster(l layout, options Options, tools toolchain.Tools) *Cluster {
	c := &Cluster{Options: options, layout: l, tools: tools}
	c.ControlPlane = append(l.controlPlane(tools), l.consulServers(tools, options)...)
	for n := 1; n <= options.Nodes; n++ {
		c.Nodes = append(c.Nodes, l.node(n, tools, options))
	}
	return c
}

func (c *Cluster) saveState() error {
	content, err := json.MarshalIndent(state{Options: c.Options, Tools: c.tools}, "", "  ")
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	return writeFile(c.layout.stateFile(), content)
}

func loadCluster(l layout) (*Cluster, error) {
	content, err := os.ReadFile(l.stateFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %s", ErrNotRunning, l.name)
	}
	if err != nil {
		return nil, fmt.Errorf("read state: %w", err)
	}
	var s state
	if err := json.Unmarshal(content, &s); err != nil {
		return nil, fmt.Errorf("decode state: %w", err)
	}
	s.Options.Log = io.Discard
	return newCluster(l, s.Options, s.Tools), nil
}

// Attach returns a cluster that Up has started, in this process or another one, or ErrNotRunning. It doesn't check the cluster's
// health: see Healthy.
func Attach(_ context.Context, name string) (*Cluster, error) {
	if name == "" {
		name = DefaultName
	}
	l, err := newLayout(name)
	if err != nil {
		return nil, err
	}
	c, err := loadCluster(l)
	if err != nil {
		return nil, fmt.Errorf("attach to cluster: %w", err)
	}
	return c, nil
}

// Name returns the cluster's name.
func (c *Cluster) Name() string { return c.layout.name }

// Dir returns the cluster's folder with logs, configuration and data. Down removes it.
func (c *Cluster) Dir() string { return c.layout.dir }

// Bridge returns the name of the network device that connects the nodes.
func (c *Cluster) Bridge() string { return c.layout.bridge() }

// Lock locks the cluster of this name, running or not, against other programs that call Lock. The lock is held until release is
// called or this program ends. Programs that share a cluster take it before Up. If waiting is not nil, it is called once when
// another program holds the lock.
func Lock(ctx context.Context, name string, waiting func()) (release func() error, err error) {
	if name == "" {
		name = DefaultName
	}
	l, err := newLayout(name)
	if err != nil {
		return nil, err
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(filepath.Dir(l.dir), "."+name+".use.lock"), waiting)
	if err != nil {
		return nil, err
	}
	return lock.Release, nil
}

// Process returns a process of the control plane by name, or nil.
func (c *Cluster) Process(name string) *Process { return findProcess(c.ControlPlane, name) }

// APIServer returns the API server's process.
func (c *Cluster) APIServer() *Process { return c.Process(APIServer) }

// ConsulServers returns the processes of the Consul servers.
func (c *Cluster) ConsulServers() []*Process { return c.ControlPlane[len(c.ControlPlane)-c.servers():] }

func (c *Cluster) servers() int {
	if c.Options.Consul != ConsulAgents {
		return 0
	}
	return c.Options.ConsulServers
}

// Node returns a node by name, or nil.
func (c *Cluster) Node(name string) *Node {
	for _, n := range c.Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// Kubeconfig returns the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.layout.kubeconfig(adminFile) }

// RESTConfig returns the administrator's access to the API server. Its rate limits are high enough for the bursts of tests.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("load kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 200, 400
	config.Proxy = http.ProxyURL(nil) // no proxy: the address is this machine's own
	return config, nil
}

// Client returns the administrator's client of the API server.
func (c *Cluster) Client() (kubernetes.Interface, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	return client, nil
}

// ConsulAddr returns host and port of the first Consul server's HTTP API.
func (c *Cluster) ConsulAddr() string { return consulHTTP(serverIPs(c.Options.ConsulServers)[0]) }

// ConsulServerAddrs returns the HTTP addresses of all Consul servers, in the order of ConsulServers.
func (c *Cluster) ConsulServerAddrs() []string {
	addresses := []string{}
	for _, ip := range serverIPs(c.Options.ConsulServers)[:c.servers()] {
		addresses = append(addresses, consulHTTP(ip))
	}
	return addresses
}

// ConsulClient returns a client of the agent or server at an address, such as ConsulAddr of the cluster or of a node.
func ConsulClient(address string) (*api.Client, error) {
	config := api.DefaultConfig()
	config.Address, config.Scheme = address, "http"
	config.Transport.Proxy = nil
	// Close idle connections soon: waiting code creates many clients, whose connections would reach the server's limit.
	config.Transport.IdleConnTimeout = 3 * time.Second
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("make consul client: %w", err)
	}
	return client, nil
}

// Kubectl returns the path of kubectl; it needs --kubeconfig.
func (c *Cluster) Kubectl() string { return c.tools.Program(toolchain.Kubernetes, "kubectl") }
