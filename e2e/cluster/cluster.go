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

	"github.com/agentlet/agentlet/e2e/internal/filelock"
	"github.com/agentlet/agentlet/e2e/toolchain"
)

// ErrNotRunning means that there is no cluster of that name.
var ErrNotRunning = errors.New("no such cluster")

// Cluster is a handle on a cluster, made by Up or Attach. It holds no connection, and needs no closing.
type Cluster struct {
	Options      Options
	Nodes        []*Node
	ControlPlane []*Process // in the order in which they start, the Consul servers included

	layout layout
	tools  toolchain.Tools
	added  []*Process // Consul servers of AddConsulServers
}

// state is what Attach needs; everything else follows from the name and the options.
type state struct {
	Options Options         `json:"options"`
	Tools   toolchain.Tools `json:"tools"`
}

// newCluster plans a cluster; it starts nothing.
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

// Attach returns a cluster that Up has started, in this process or another; ErrNotRunning when there is none. It
// doesn't look whether the cluster is well: see Healthy.
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

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.layout.name }

// Dir is the cluster's folder: logs, configuration, data. Down removes it.
func (c *Cluster) Dir() string { return c.layout.dir }

// Bridge is the network device of this machine that the nodes hang on.
func (c *Cluster) Bridge() string { return c.layout.bridge() }

// Lock keeps other programs that take this lock off the cluster of this name, running or not, until release is called or
// this program ends. Whoever uses a cluster that others use too holds it, from before Up. waiting, if not nil, is called
// once when somebody else holds it.
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

// APIServer is the API server's process.
func (c *Cluster) APIServer() *Process { return c.Process(APIServer) }

// ConsulServers are the processes of the Consul servers.
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

// Kubeconfig is the path of the administrator's kubeconfig.
func (c *Cluster) Kubeconfig() string { return c.layout.kubeconfig(adminFile) }

// RESTConfig is the administrator's access to the API server, throttled high enough for a test's bursts.
func (c *Cluster) RESTConfig() (*rest.Config, error) {
	config, err := clientcmd.BuildConfigFromFlags("", c.Kubeconfig())
	if err != nil {
		return nil, fmt.Errorf("load kubeconfig: %w", err)
	}
	config.QPS, config.Burst = 200, 400
	config.Proxy = http.ProxyURL(nil) // the address is this machine's own
	return config, nil
}

// Client is the administrator's client of the API server.
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

// ConsulAddr is the HTTP address of the first Consul server, as host and port.
func (c *Cluster) ConsulAddr() string { return consulHTTP(serverIPs(c.Options.ConsulServers)[0]) }

// ConsulServerAddrs are the HTTP addresses of all Consul servers, in the order of ConsulServers.
func (c *Cluster) ConsulServerAddrs() []string {
	addresses := []string{}
	for _, ip := range serverIPs(c.Options.ConsulServers)[:c.servers()] {
		addresses = append(addresses, consulHTTP(ip))
	}
	return addresses
}

// ConsulClient is a client of the agent or server at an address, such as ConsulAddr of the cluster or of a node.
func ConsulClient(address string) (*api.Client, error) {
	config := api.DefaultConfig()
	config.Address, config.Scheme = address, "http"
	config.Transport.Proxy = nil
	// Whoever waits for something makes many clients; their idle connections would fill the server's limit.
	config.Transport.IdleConnTimeout = 3 * time.Second
	client, err := api.NewClient(config)
	if err != nil {
		return nil, fmt.Errorf("make consul client: %w", err)
	}
	return client, nil
}

// Kubectl is the path of kubectl; it needs --kubeconfig.
func (c *Cluster) Kubectl() string { return c.tools.Program(toolchain.Kubernetes, "kubectl") }
