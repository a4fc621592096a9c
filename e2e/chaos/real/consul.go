package real

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/chaos"
	"github.com/agentlet/agentlet/e2e/cluster"
)

// consul is the Consul that the campaign's pods use.
type consul struct {
	servers []*cluster.Process
	clients []*api.Client // of the servers
	hosts   []string      // the servers' addresses
	agents  []*cluster.Process
	nodes   []*api.Client // of the agents, by node
}

// chooseConsul selects the secured Consul, or adds servers to the cluster's own.
func (w *World) chooseConsul(ctx context.Context) ([]chaos.Thing, error) {
	c := &w.consul
	if w.Secured != nil {
		c.servers, c.clients, c.hosts = []*cluster.Process{w.Secured.Server}, []*api.Client{w.Secured.Client}, []string{cluster.HostIP}
		for _, node := range w.Cluster.Nodes {
			client, err := w.Secured.AgentClient(node)
			if err != nil {
				return nil, err
			}
			c.agents, c.nodes = append(c.agents, w.Secured.Agents[node.Name]), append(c.nodes, client)
		}
		return []chaos.Thing{chaos.OneServer}, nil
	}
	added, remove, err := w.Cluster.AddConsulServers(ctx)
	if remove != nil {
		w.removeAll = append(w.removeAll, remove)
	}
	if err != nil {
		return nil, err
	}
	c.servers = append(slices.Clone(w.Cluster.ConsulServers()), added...)
	for _, address := range w.Cluster.ServerAddrs() {
		client, err := cluster.ConsulClient(address)
		if err != nil {
			return nil, err
		}
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		c.clients, c.hosts = append(c.clients, client), append(c.hosts, host)
	}
	for _, node := range w.Cluster.Nodes {
		client, err := cluster.ConsulClient(node.ConsulAddr())
		if err != nil {
			return nil, err
		}
		c.agents, c.nodes = append(c.agents, node.Process(cluster.ConsulAgent)), append(c.nodes, client)
	}
	return []chaos.Thing{chaos.ThreeServers, chaos.OwnAgents}, nil
}

// leader returns the index of the leading server.
func (c *consul) leader(ctx context.Context) (leader int, err error) {
	err = eventually(ctx, "find Consul's leader", func(ctx context.Context) error {
		var errs []error
		for _, client := range c.clients {
			address, err := client.Status().LeaderWithQueryOptions(query(ctx))
			if err != nil {
				errs = append(errs, err)
				continue
			}
			for i, host := range c.hosts {
				if strings.HasPrefix(address, host+":") {
					leader = i
					return nil
				}
			}
			errs = append(errs, fmt.Errorf("leader %q is none of %v", address, c.hosts))
		}
		return errors.Join(errs...)
	})
	return leader, err
}

// led waits until there is a leader, and names it.
func (w *World) led(ctx context.Context) (string, error) {
	began := time.Now()
	leader, err := w.consul.leader(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("%s leads after %s", w.consul.servers[leader].Name, time.Since(began).Round(time.Millisecond)), nil
}

// serversLost builds a fault that ends or freezes servers, and restores them.
func serversLost(
	choose func(servers []*cluster.Process, leader, pick int) []*cluster.Process,
	stop, back func(context.Context, *World, *cluster.Process) error,
) begin {
	return func(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
		leader, err := w.consul.leader(ctx)
		if err != nil {
			return "", nil, err
		}
		lost := choose(w.consul.servers, leader, step.Pick)
		var names []string
		for _, server := range lost {
			names = append(names, server.Name)
		}
		end := func(ctx context.Context) (string, error) {
			for _, server := range lost {
				if err := back(ctx, w, server); err != nil {
					return "", err
				}
			}
			return w.led(ctx)
		}
		for _, server := range lost {
			if err := stop(ctx, w, server); err != nil {
				return "", end, err
			}
		}
		return strings.Join(names, ", ") + "; the leader was " + w.consul.servers[leader].Name, end, nil
	}
}

// theLeader selects the leader.
func theLeader(servers []*cluster.Process, leader, _ int) []*cluster.Process {
	return servers[leader : leader+1]
}

// aFollower selects one of the added servers that doesn't lead. The added servers keep their ID when they lose their data.
func aFollower(servers []*cluster.Process, leader, pick int) []*cluster.Process {
	followers := slices.Clone(servers)
	followers = slices.Delete(followers, leader, leader+1)
	if leader != 0 {
		followers = followers[1:]
	}
	i := pick % len(followers)
	return followers[i : i+1]
}

// twoOfThree selects all servers but the first.
func twoOfThree(servers []*cluster.Process, _, pick int) []*cluster.Process {
	left := pick % len(servers)
	return slices.Delete(slices.Clone(servers), left, left+1)
}

func kill(ctx context.Context, _ *World, p *cluster.Process) error  { return p.Kill(ctx) }
func stop(ctx context.Context, _ *World, p *cluster.Process) error  { return p.Stop(ctx) }
func start(ctx context.Context, _ *World, p *cluster.Process) error { return p.Start(ctx) }
func pause(_ context.Context, _ *World, p *cluster.Process) error   { return p.Pause() }
func resume(_ context.Context, _ *World, p *cluster.Process) error  { return p.Resume() }

// agentLost builds a fault that ends or freezes a node's Consul agent, and restores it.
func agentLost(
	stop func(ctx context.Context, w *World, node int) error,
	back func(context.Context, *World, *cluster.Process) error,
) begin {
	return func(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
		end := func(ctx context.Context) (string, error) {
			return "", back(ctx, w, w.consul.agents[step.Node])
		}
		return "", end, stop(ctx, w, step.Node)
	}
}

func agentLeft(ctx context.Context, w *World, node int) error {
	if err := w.consul.nodes[node].Agent().Leave(); err != nil {
		return fmt.Errorf("leave: %w", err)
	}
	return w.consul.agents[node].Stop(ctx)
}

func agentDataLost(ctx context.Context, w *World, node int) error {
	if err := w.consul.agents[node].Kill(ctx); err != nil {
		return err
	}
	return w.Cluster.Nodes[node].WipeConsulData()
}

func diskFull(_ context.Context, w *World, step chaos.Step) (string, undo, error) {
	node := w.Cluster.Nodes[step.Node]
	return "", func(context.Context) (string, error) { return "", node.FreeConsulDisk() }, node.FillConsulDisk()
}

// ownInstance returns one of the campaign's instances at a node's agent.
func (w *World) ownInstance(ctx context.Context, node, pick int) (instance *api.AgentService, err error) {
	err = eventually(ctx, "list the agent's services", func(ctx context.Context) error {
		services, err := w.consul.nodes[node].Agent().ServicesWithFilterOpts("Service == `"+w.Namespace+"`", query(ctx))
		if err != nil {
			return err
		}
		if len(services) == 0 {
			return fmt.Errorf("%w: the agent has no instance", chaos.ErrNothing)
		}
		var ids []string
		for id := range services {
			ids = append(ids, id)
		}
		slices.Sort(ids)
		instance = services[ids[pick%len(ids)]]
		return nil
	})
	return instance, err
}

func deregistered(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	instance, err := w.ownInstance(ctx, step.Node, step.Pick)
	if err != nil {
		return "", nil, err
	}
	return instance.Meta[contract.MetaPod], nil, w.consul.nodes[step.Node].Agent().ServiceDeregister(instance.ID)
}

func edited(ctx context.Context, w *World, step chaos.Step) (string, undo, error) {
	instance, err := w.ownInstance(ctx, step.Node, step.Pick)
	if err != nil {
		return "", nil, err
	}
	edit := &api.AgentServiceRegistration{
		ID:      instance.ID,
		Name:    instance.Service,
		Port:    1,
		Address: instance.Address,
		Tags:    []string{"edited"},
	}
	return instance.Meta[contract.MetaPod], nil, w.consul.nodes[step.Node].Agent().ServiceRegister(edit)
}
