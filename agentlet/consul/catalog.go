package consul

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
)

// Errors of the look-up of the node by its address.
var (
	errNoNode     = errors.New("no Consul node has this address, and the agent has not yet named itself")
	errNoNodeRead = errors.New("the token lacks node:read, or Consul has no such node")
	errManyNodes  = errors.New("several Consul nodes have this address, and the agent has not yet named itself")
)

// readTimeout bounds the readings that wait for nothing.
const readTimeout = 5 * time.Second

// OnNode implements agentlet.Catalog. It asks for the own node's checks alone, so that its cost is that of one node,
// however many instances a service has. A reading that waits for nothing is a consistent one: a new leader whose log is not
// applied yet, or an agent with discovery_max_stale, would else answer that nothing is there. One that waits for something
// newer than an index and gets something older is not believed, but done again like that.
func (c *Client) OnNode(ctx context.Context, prefix string, index uint64, wait time.Duration) (agentlet.CatalogView, error) {
	wait = min(wait, c.config.Wait)
	bound := readTimeout
	if index > 0 {
		bound += wait + wait/16 // the servers wait up to a sixteenth longer
	}
	bounded, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	node, err := c.nodeName(bounded, prefix)
	if err != nil {
		return agentlet.CatalogView{}, err
	}
	q := c.query(bounded)
	q.Filter = "ServiceID == `` or ServiceID contains " + quote(prefix)
	q.WaitIndex, q.WaitTime, q.RequireConsistent = index, wait, index == 0
	checks, meta, err := c.api.Health().Node(node, q)
	if err != nil {
		return agentlet.CatalogView{}, c.classify("read the catalog's checks of node "+node, err)
	}
	if meta.LastIndex < index {
		return c.OnNode(ctx, prefix, 0, wait)
	}
	checks = nonNil(checks)
	// A node has a check of its own, serfHealth: where it is kept from us, so would be the rest.
	if meta.ResultsFilteredByACLs &&
		!slices.ContainsFunc(checks, func(check *api.HealthCheck) bool { return check.ServiceID == "" }) {
		return agentlet.CatalogView{}, fmt.Errorf("read the catalog's checks of node %s: %w", node, errNoNodeRead)
	}
	view := agentlet.CatalogView{Index: meta.LastIndex, Instances: map[string]agentlet.CatalogInstance{}}
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
				instance.Heartbeat, instance.Fingerprint = health, fingerprintIn(check.Notes)
			case contract.ReadinessID(check.ServiceID):
				instance.Readiness = health
			default:
				if check.Status != api.HealthPassing {
					instance.Failing = joined(instance.Failing, failing(check))
					instance.Answered = instance.Answered || check.Output != ""
				}
			}
			view.Instances[check.ServiceID] = instance
		}
	}
	slices.Sort(view.FailingNodeChecks)
	return view, nil
}

// nonNil leaves out what isn't there: Consul lists no nulls, but what else may listen at its port can.
func nonNil[T any](list []*T) []*T {
	return slices.DeleteFunc(list, func(entry *T) bool { return entry == nil })
}

func joined(list, entry string) string {
	if list == "" {
		return entry
	}
	return list + ", " + entry
}

// maxOutput is how much of a check's output a message quotes, in bytes.
const maxOutput = 256

// localPort is the ephemeral port of a connection in an error of Go's.
var localPort = regexp.MustCompile(`[0-9a-fA-F.:\[\]]+:\d+->`)

// failing names a check with what it answered, on one line: for HTTP the request and the status. The body, and what differs from
// connection to connection, are left out: it would be written into the pod's condition each time.
func failing(check *api.HealthCheck) string {
	answer, _, _ := strings.Cut(check.Output, " Output: ")
	answer, _, _ = strings.Cut(strings.TrimSpace(localPort.ReplaceAllLiteralString(answer, "")), "\n")
	if len(answer) > maxOutput {
		answer = answer[:maxOutput]
	}
	answer = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, strings.ToValidUTF8(answer, ""))
	if answer == "" {
		return check.Name
	}
	return check.Name + " (" + answer + ")"
}

// setNodeName takes in the node's name as the agent itself has it, with each check of ours that it has.
func (c *Client) setNodeName(node string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.config.NodeName == "" && node != "" && node == truncate(node) {
		c.node = node
	}
}

func (c *Client) knownNode() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.node
}

// nodeName returns the name that the agent has given its node, as soon as it has a check of ours. The agent's own configuration
// has it, too, but would need agent:read, which a service identity does not have.
func (c *Client) nodeName(ctx context.Context, prefix string) (string, error) {
	if known := c.knownNode(); known != "" {
		return known, nil
	}
	if _, err := c.checks(ctx, prefix); err != nil {
		return "", err
	}
	if known := c.knownNode(); known != "" {
		return known, nil
	}
	return c.nodeByAddress(ctx)
}

// nodeByAddress returns the one node in the catalog with the host's address. It is not remembered: an agent in a pod may
// advertise the pod's address, and a server of the same host the host's.
func (c *Client) nodeByAddress(ctx context.Context) (string, error) {
	q := c.query(ctx)
	q.Filter = "Address == " + quote(c.config.HostIP)
	nodes, meta, err := c.api.Catalog().Nodes(q)
	nodes = nonNil(nodes)
	op := "look up the node by its address " + c.config.HostIP
	switch {
	case err != nil:
		return "", c.classify(op, err)
	case len(nodes) == 0 && meta.ResultsFilteredByACLs:
		return "", fmt.Errorf("%s: %w", op, errNoNodeRead)
	case len(nodes) == 0:
		return "", fmt.Errorf("%s: %w", op, errNoNode)
	case len(nodes) > 1:
		return "", fmt.Errorf("%s: %w", op, errManyNodes)
	}
	return truncate(nodes[0].Node), nil
}

// worse of two healths; an empty one is better than any.
func worse(a, b contract.Health) contract.Health {
	rank := map[contract.Health]int{contract.Passing: 1, contract.Warning: 2, contract.Critical: 3}
	if rank[b] > rank[a] {
		return b
	}
	return a
}
