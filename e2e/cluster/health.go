package cluster

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

const (
	healthTimeout = 5 * time.Second // of one health check
	readyTimeout  = 2 * time.Minute // until a new cluster is healthy
	memberAlive   = 1               // serf's number for an alive member
)

// Healthy checks once that every process runs, that the nodes are Ready, and that Consul has a leader and sees all its members
// alive. The error lists everything that is wrong.
func (c *Cluster) Healthy(ctx context.Context) error {
	var problems []error
	for _, s := range c.Processes() {
		if _, running := s.PID(); !running {
			problems = append(problems, fmt.Errorf("%s doesn't run", qualified(s.Node, s.Name)))
		}
	}
	if len(problems) > 0 {
		return errors.Join(problems...) // the checks below would only repeat these errors
	}
	return errors.Join(c.kubernetesHealthy(ctx), c.consulHealthy(ctx))
}

// WaitHealthy waits up to two minutes until Healthy succeeds.
func (c *Cluster) WaitHealthy(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return poll(ctx, c.Healthy)
}

// WaitConsul waits up to two minutes until Consul has a leader and all members are alive.
func (c *Cluster) WaitConsul(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return poll(ctx, c.consulHealthy)
}

// WaitKubernetes waits up to two minutes until all nodes are Ready.
func (c *Cluster) WaitKubernetes(ctx context.Context) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	return poll(ctx, func(ctx context.Context) error { return c.nodesReady(ctx, client) })
}

func (c *Cluster) kubernetesHealthy(ctx context.Context) error {
	client, err := c.Client()
	if err != nil {
		return err
	}
	return c.nodesReady(ctx, client)
}

// nodesReady also checks for the default service account, without which no pod can be created.
func (c *Cluster) nodesReady(ctx context.Context, client kubernetes.Interface) error {
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	for _, n := range c.Nodes {
		node, err := client.CoreV1().Nodes().Get(ctx, n.Name, metav1.GetOptions{})
		if err != nil {
			return fmt.Errorf("get node: %w", err)
		}
		if ready, why := nodeReady(node); !ready {
			return fmt.Errorf("node %s is not ready: %s", n.Name, why)
		}
	}
	_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	if err != nil {
		return fmt.Errorf("get default service account: %w", err)
	}
	return nil
}

func nodeReady(node *corev1.Node) (ready bool, why string) {
	for _, condition := range node.Status.Conditions {
		if condition.Type != corev1.NodeReady {
			continue
		}
		// A node that just became Ready has the not-ready taint a little longer, and accepts no pods.
		for _, taint := range node.Spec.Taints {
			if taint.Key == corev1.TaintNodeNotReady || taint.Key == corev1.TaintNodeUnreachable {
				return false, "taint " + taint.Key
			}
		}
		return condition.Status == corev1.ConditionTrue, condition.Message
	}
	return false, "no Ready condition yet"
}

func (c *Cluster) consulHealthy(ctx context.Context) error {
	if c.Options.Consul != ConsulAgents {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	query := (&api.QueryOptions{}).WithContext(ctx)
	// Ask each agent for the leader: an agent that doesn't know it can't serve its pods yet.
	for _, address := range c.consulAddresses() {
		client, err := ConsulClient(address)
		if err != nil {
			return err
		}
		leader, err := client.Status().LeaderWithQueryOptions(query)
		if err != nil {
			return fmt.Errorf("ask consul at %s for the leader: %w", address, err)
		}
		if leader == "" {
			return fmt.Errorf("consul at %s has no cluster leader", address)
		}
	}
	members, err := c.ConsulMembers()
	if err != nil {
		return err
	}
	alive := 0
	for _, member := range members {
		if member.Status == memberAlive {
			alive++
		}
	}
	if want := len(c.consulAddresses()) + len(c.added); alive != want {
		return fmt.Errorf("%d of %d consul members are alive", alive, want)
	}
	return nil
}

func (c *Cluster) consulAddresses() []string {
	addresses := c.ConsulServerAddrs()
	for _, n := range c.Nodes {
		addresses = append(addresses, n.ConsulAddr())
	}
	return addresses
}

// ConsulMembers returns the members of the Consul cluster as the first server sees them.
func (c *Cluster) ConsulMembers() ([]*api.AgentMember, error) {
	client, err := ConsulClient(c.ConsulAddr())
	if err != nil {
		return nil, err
	}
	members, err := client.Agent().Members(false)
	if err != nil {
		return nil, fmt.Errorf("list consul members: %w", err)
	}
	return members, nil
}

// NodeProcess is a process with the name of its node; for the control plane the name is empty.
type NodeProcess struct {
	*Process

	Node string
}

// Processes returns all processes of the cluster, added Consul servers included.
func (c *Cluster) Processes() []NodeProcess {
	all := []NodeProcess{}
	for _, p := range c.ControlPlane {
		all = append(all, NodeProcess{Process: p})
	}
	for _, p := range c.added {
		all = append(all, NodeProcess{Process: p})
	}
	for _, n := range c.Nodes {
		for _, p := range n.Processes {
			all = append(all, NodeProcess{Process: p, Node: n.Name})
		}
	}
	return all
}
