package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"
)

// PowerOff kills everything on the node at once, its pods' containers included, as a loss of power does. Its disks keep their
// data.
func (n *Node) PowerOff(ctx context.Context) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	cgroup := n.layout.nodeCgroup(n.number)
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	for _, root := range roots {
		if err := killCgroup(filepath.Join(root, cgroup), cgroup); err != nil {
			return fmt.Errorf("power off %s: %w", n.Name, err)
		}
	}
	err = poll(ctx, func(context.Context) error {
		for _, p := range n.Processes {
			if _, running := p.PID(); running {
				return fmt.Errorf("%s still runs", p.Name)
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("power off %s: %w", n.Name, err)
	}
	return nil
}

// PowerOn starts the node's processes; the kubelet then restarts its pods.
func (n *Node) PowerOn(ctx context.Context) error {
	for _, p := range n.Processes {
		if err := p.Start(ctx); err != nil {
			return fmt.Errorf("power on %s: %w", n.Name, err)
		}
	}
	return nil
}

// ConfigureKubelet restarts the kubelet with these fields merged over its own configuration, and with these environment
// variables. Without any, it restores the kubelet's own configuration, as Restore does.
func (n *Node) ConfigureKubelet(ctx context.Context, fields map[string]any, env ...string) error {
	kubelet := n.Process(Kubelet)
	if err := kubelet.Stop(ctx); err != nil {
		return err
	}
	if err := n.writeKubeletConfig(fields); err != nil {
		return err
	}
	kubelet.Env = env
	return kubelet.Start(ctx)
}

func (n *Node) writeKubeletConfig(fields map[string]any) error {
	content, err := n.kubeletConfig()
	if err != nil {
		return err
	}
	if len(fields) > 0 {
		config := map[string]any{}
		if err := yaml.Unmarshal(content, &config); err != nil {
			return fmt.Errorf("read the kubelet's configuration: %w", err)
		}
		maps.Copy(config, fields)
		if content, err = yaml.Marshal(config); err != nil {
			return fmt.Errorf("write the kubelet's configuration: %w", err)
		}
	}
	return writeFile(n.kubeletFile(), content)
}

// restoreKubelet undoes ConfigureKubelet.
func (n *Node) restoreKubelet(ctx context.Context) error {
	content, err := n.kubeletConfig()
	if err != nil {
		return err
	}
	written, err := os.ReadFile(n.kubeletFile())
	if err == nil && slices.Equal(content, written) {
		return nil
	}
	return n.ConfigureKubelet(ctx, nil)
}

// ServerAddrs returns the HTTP addresses of the first Consul server and of the servers that AddConsulServers has added.
func (c *Cluster) ServerAddrs() []string {
	addresses := c.ConsulServerAddrs()
	for i := range c.added {
		addresses = append(addresses, consulHTTP(serverIPs(3)[i+1]))
	}
	return addresses
}

// AddConsulServers starts Consul servers until there are three, and waits until all of them vote. remove makes the added ones
// leave; it also recovers a quorum that was lost meanwhile.
func (c *Cluster) AddConsulServers(ctx context.Context) (added []*Process, remove func(context.Context) error, err error) {
	if c.servers() != 1 {
		return nil, nil, fmt.Errorf("add consul servers: there are %d, want 1", c.servers())
	}
	l := c.layout
	three := Options{Consul: ConsulAgents, ConsulServers: 3}
	three.ConsulConfig = maps.Clone(c.Options.ConsulConfig)
	if three.ConsulConfig == nil {
		three.ConsulConfig = map[string]any{}
	}
	maps.Copy(three.ConsulConfig, map[string]any{"retry_join": []string{hostIP}, "leave_on_terminate": true})
	added = l.consulServers(c.tools, three)[1:]
	c.added = added
	remove = func(ctx context.Context) error {
		defer func() { c.added = nil }()
		for _, p := range added {
			if err := errors.Join(p.Resume(), p.Start(ctx)); err != nil && !errors.Is(err, os.ErrProcessDone) {
				return err
			}
		}
		if err := c.ConsulServers()[0].Start(ctx); err != nil {
			return err
		}
		for left := 3; left > 1; left-- {
			if err := c.waitVoters(ctx, left); err != nil {
				return err
			}
			if err := added[left-2].Stop(ctx); err != nil {
				return err
			}
		}
		if err := c.waitVoters(ctx, 1); err != nil {
			return err
		}
		for i, p := range added {
			if err := errors.Join(os.RemoveAll(l.path(p.Name)),
				run(ctx, "ip", "address", "delete", serverIPs(3)[i+1]+"/24", "dev", l.bridge())); err != nil {
				return err
			}
		}
		return nil
	}
	for i, p := range added {
		ip := serverIPs(3)[i+1]
		if err := run(ctx, "ip", "address", "replace", ip+"/24", "dev", l.bridge()); err != nil {
			return added, remove, err
		}
		err := writeConsulConfig(l.path(p.Name+".json"), three, map[string]any{
			"node_name": p.Name, "data_dir": l.path(p.Name), "bind_addr": ip, "client_addr": ip, "server": true,
			"node_id": fmt.Sprintf("00000000-0000-4000-8001-%012d", i+2), // fixed: a server without data keeps its ID
		})
		if err != nil {
			return added, remove, err
		}
		if err := p.Start(ctx); err != nil {
			return added, remove, err
		}
	}
	return added, remove, c.waitVoters(ctx, 3)
}

// waitVoters waits up to two minutes until this many servers vote. A new server gets its vote after ten stable seconds.
func (c *Cluster) waitVoters(ctx context.Context, want int) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	client, err := ConsulClient(c.ConsulAddr())
	if err != nil {
		return err
	}
	return poll(ctx, func(context.Context) error {
		raft, err := client.Operator().RaftGetConfiguration(nil)
		if err != nil {
			return fmt.Errorf("ask consul for its voters: %w", err)
		}
		voters := 0
		for _, server := range raft.Servers {
			if server.Voter {
				voters++
			}
		}
		if voters != want || len(raft.Servers) != want {
			return fmt.Errorf("%d of %d consul servers vote, want %d", voters, len(raft.Servers), want)
		}
		return nil
	})
}
