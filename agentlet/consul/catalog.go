package consul

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
)

// errNoNode: the catalog has no node with the pod's node's address.
var errNoNode = errors.New("no Consul node has this address")

// OnNode implements agentlet.Catalog. It asks for the own node's checks alone, so that its cost is that of one node,
// however many instances a service has.
func (c *Client) OnNode(ctx context.Context, prefix string, index uint64) (agentlet.CatalogView, error) {
	ctx, cancel := context.WithTimeout(ctx, c.config.Wait+c.config.Wait/8)
	defer cancel()
	node, err := c.nodeName(ctx)
	if err != nil {
		return agentlet.CatalogView{}, err
	}
	q := query(ctx)
	q.Filter = "ServiceID == `` or ServiceID contains " + quote(prefix)
	q.WaitIndex, q.WaitTime = index, c.config.Wait
	checks, meta, err := c.api.Health().Node(node, q)
	if err != nil {
		return agentlet.CatalogView{}, classify("read the catalog's checks of node "+node, err)
	}
	view := agentlet.CatalogView{Index: meta.LastIndex, Instances: map[string]agentlet.CatalogInstance{}}
	if meta.LastIndex < index {
		view.Index = 0 // the servers' state was restored: start anew
	}
	for _, check := range checks {
		switch {
		case check.ServiceID == "":
			if check.Status != api.HealthPassing {
				view.FailingNodeChecks = append(view.FailingNodeChecks, check.Name)
			}
		case strings.HasPrefix(check.ServiceID, prefix):
			instance, health := view.Instances[check.ServiceID], contract.Health(check.Status)
			instance.Health = worse(instance.Health, health)
			switch check.CheckID {
			case contract.HeartbeatID(check.ServiceID):
				instance.Heartbeat = health
			case contract.ReadinessID(check.ServiceID):
				instance.Readiness = health
			}
			view.Instances[check.ServiceID] = instance
		}
	}
	slices.Sort(view.FailingNodeChecks)
	return view, nil
}

// nodeName finds the node's name in the catalog by its address, once: a node's name needs node:read, where the agent's
// own word would need agent:read, which a service identity does not have.
func (c *Client) nodeName(ctx context.Context) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.node != "" {
		return c.node, nil
	}
	q := query(ctx)
	q.Filter = "Address == " + quote(c.config.HostIP)
	nodes, _, err := c.api.Catalog().Nodes(q)
	if err != nil {
		return "", classify("look up the node by its address "+c.config.HostIP, err)
	}
	if len(nodes) == 0 {
		return "", fmt.Errorf("look up the node by its address %s: %w", c.config.HostIP, errNoNode)
	}
	c.node = nodes[0].Node
	return c.node, nil
}

// worse of two healths; an empty one is better than any.
func worse(a, b contract.Health) contract.Health {
	rank := map[contract.Health]int{contract.Passing: 1, contract.Warning: 2, contract.Critical: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}
