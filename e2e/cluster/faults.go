package cluster

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

// Cut disconnects the node and its pods from the network. Traffic within the node goes on, so its pods still reach its Consul
// agent.
func (n *Node) Cut(ctx context.Context) error { return n.setLink(ctx, "down") }

// Heal undoes Cut.
func (n *Node) Heal(ctx context.Context) error { return n.setLink(ctx, "up") }

// setLink changes the host's end of the node's link, because a change of the node's end would remove its routes.
func (n *Node) setLink(ctx context.Context, to string) error {
	if err := run(ctx, "ip", "link", "set", n.layout.hostLink(n.number), to); err != nil {
		return fmt.Errorf("set link of %s %s: %w", n.Name, to, err)
	}
	return nil
}

// Restore undoes faults that tests left behind: it heals links, frees disks, resumes and starts processes, restores the kubelets'
// configuration, and waits until the cluster is healthy.
func (c *Cluster) Restore(ctx context.Context) error {
	for _, n := range c.Nodes {
		if err := n.Heal(ctx); err != nil {
			return err
		}
		_ = n.Repair(ctx) // fails if there is nothing to repair
		if err := errors.Join(n.Deliver(ctx), n.restoreConsulDisk()); err != nil {
			return err
		}
		if err := n.restoreKubelet(ctx); err != nil {
			return err
		}
	}
	for _, p := range c.Processes() {
		if _, running := p.PID(); running {
			if err := p.Resume(); err != nil {
				return err
			}
		}
		if err := p.Start(ctx); err != nil {
			return err
		}
	}
	return c.WaitHealthy(ctx)
}

// ErrNoNetem means that the machine's kernel can't impair a link.
var ErrNoNetem = errors.New("the kernel has no netem")

// Netem describes a bad network. The values apply in each direction, so a round trip has twice the delay.
type Netem struct {
	Delay  time.Duration
	Jitter time.Duration
	Loss   float64 // percent
}

func (e Netem) args() []string {
	args := []string{"delay", microseconds(e.Delay), microseconds(e.Jitter)}
	if e.Loss > 0 {
		args = append(args, "loss", fmt.Sprintf("%g%%", e.Loss))
	}
	return args
}

func microseconds(d time.Duration) string { return fmt.Sprintf("%dus", d.Microseconds()) }

// Impair degrades the node's link until Repair, or another Impair. ErrNoNetem means that this machine's kernel can't do it.
func (n *Node) Impair(ctx context.Context, network Netem) error {
	for _, qdisc := range n.qdiscs("replace") {
		err := run(ctx, qdisc[0], append(append(qdisc[1:], "netem"), network.args()...)...)
		if err != nil && strings.Contains(err.Error(), "qdisc kind is unknown") {
			return fmt.Errorf("impair link of %s: %w", n.Name, ErrNoNetem)
		}
		if err != nil {
			return fmt.Errorf("impair link of %s: %w", n.Name, err)
		}
	}
	return nil
}

// Repair undoes Impair. It fails without a preceding Impair.
func (n *Node) Repair(ctx context.Context) error {
	for _, qdisc := range n.qdiscs("delete") {
		if err := run(ctx, qdisc[0], qdisc[1:]...); err != nil {
			return fmt.Errorf("repair link of %s: %w", n.Name, err)
		}
	}
	return nil
}

// qdiscs returns the commands that change the queueing disciplines of both ends of the node's link.
func (n *Node) qdiscs(verb string) [][]string {
	return [][]string{
		{"tc", "qdisc", verb, "dev", n.layout.hostLink(n.number), "root"},
		{"tc", "-n", n.layout.netns(n.number), "qdisc", verb, "dev", "eth0", "root"},
	}
}

// Drop makes the node lose this share of the packets from and to the outside, until Deliver. It needs no netem, unlike Impair.
// Traffic within the node is not affected.
func (n *Node) Drop(ctx context.Context, share float64) error {
	if err := n.Deliver(ctx); err != nil {
		return err
	}
	for _, rule := range dropRules() {
		args := append(append([]string{"-w", "-t", rule.table, "-I"}, rule.match...), "-m", "statistic", "--mode", "random",
			"--probability", strconv.FormatFloat(share, 'f', -1, 64), "-m", "comment", "--comment", dropComment, "-j", "DROP")
		if err := n.iptables(ctx, args...); err != nil {
			return errors.Join(fmt.Errorf("drop packets of %s: %w", n.Name, err), n.Deliver(ctx))
		}
	}
	return nil
}

const dropComment = "agentlet-drop"

type dropRule struct {
	table string
	match []string
}

func dropRules() []dropRule {
	return []dropRule{{"raw", []string{"PREROUTING", "-i", "eth0"}}, {"mangle", []string{"POSTROUTING", "-o", "eth0"}}}
}

// Deliver undoes Drop. Without a preceding Drop it does nothing.
func (n *Node) Deliver(ctx context.Context) error {
	for _, rule := range dropRules() {
		listed, err := output(ctx, "nsenter", "--net="+n.Netns(), "iptables", "-w", "-t", rule.table, "-S", rule.match[0])
		if err != nil {
			return fmt.Errorf("deliver packets of %s: %w", n.Name, err)
		}
		for line := range strings.Lines(listed) {
			if !strings.Contains(line, dropComment) {
				continue
			}
			// Turn "-A CHAIN …" into the arguments of -D.
			args := append([]string{"-w", "-t", rule.table, "-D"}, strings.Fields(line)[1:]...)
			if err := n.iptables(ctx, args...); err != nil {
				return fmt.Errorf("deliver packets of %s: %w", n.Name, err)
			}
		}
	}
	return nil
}

func (n *Node) iptables(ctx context.Context, args ...string) error {
	return run(ctx, "nsenter", append([]string{"--net=" + n.Netns(), "iptables"}, args...)...)
}

// WipeConsulData removes all data of the node's Consul agent, its node ID included. The agent must not run.
func (n *Node) WipeConsulData() error {
	agent := n.Process(ConsulAgent)
	if agent == nil {
		return errors.New("wipe consul data: the node has no consul agent")
	}
	if pid, running := agent.PID(); running {
		return fmt.Errorf("wipe consul data of %s: the agent runs (pid %d)", n.Name, pid)
	}
	if err := n.restoreConsulDisk(); err != nil {
		return err
	}
	if err := os.RemoveAll(n.consulDataDir()); err != nil {
		return fmt.Errorf("wipe consul data of %s: %w", n.Name, err)
	}
	return nil
}

// WipeServerData removes all data of a Consul server. The server must not run.
func (c *Cluster) WipeServerData(server *Process) error {
	if pid, running := server.PID(); running {
		return fmt.Errorf("wipe data of %s: it runs (pid %d)", server.Name, pid)
	}
	if err := os.RemoveAll(c.layout.path(server.Name)); err != nil {
		return fmt.Errorf("wipe data of %s: %w", server.Name, err)
	}
	return nil
}
