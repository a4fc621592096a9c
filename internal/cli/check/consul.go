package check

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/version"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/cli/apiproxy"
)

// self contains the fields of a Consul agent's configuration that are read.
type self struct {
	Config struct {
		Version  string
		NodeName string
		Server   bool
	}
	DebugConfig struct {
		LeaveOnTerm bool
	}
}

// consul checks that each node has a Consul agent: at the node's own port, or else as an agentlet on the node reports. If
// Consul's address is known, its catalog must have the node, too.
func (r *run) consul(ctx context.Context) {
	alive := r.catalog(ctx)
	agentlets := map[string][]*corev1.Pod{} // by node
	for i := range r.facts.pods {
		if pod := &r.facts.pods[i]; registration.Agentlet(pod) != nil && apiproxy.AgentletWaits(pod, r.Now) == nil {
			agentlets[pod.Spec.NodeName] = append(agentlets[pod.Spec.NodeName], pod)
		}
	}
	r.each(len(r.facts.nodes), func(r *run, i int) {
		node := &r.facts.nodes[i]
		r.agent(ctx, node, agentlets[node.Name])
		if alive != nil {
			r.inCatalog(node, alive)
		}
	})
}

// inCatalog checks a node in Consul's catalog.
func (r *run) inCatalog(node *corev1.Node, alive map[string]bool) {
	known, living := false, false
	for _, address := range node.Status.Addresses {
		if up, ok := alive[address.Address]; ok {
			known, living = true, living || up
		}
	}
	switch {
	case !known:
		r.add(Warn, "consul", "node/"+node.Name, "Consul's catalog has no node with one of its addresses",
			"see that its agent has joined; with ACLs on, give its agent's token node:write for its own name. "+
				"An agent that advertises its pod's IP is in the catalog with that, which agentlets cope with")
	case !living:
		r.add(Fail, "consul", "node/"+node.Name, "Consul takes the node for failed (serfHealth)",
			"see that its agent runs and reaches the others")
	}
}

// catalog returns the nodes in Consul's catalog and whether each is alive, or nil if that is unknown.
func (r *run) catalog(ctx context.Context) map[string]bool {
	if r.Consul == nil {
		return nil
	}
	if version, err := r.Consul.Version(ctx); err != nil {
		r.add(Skip, "consul", "", "can't read the version: "+err.Error(), "")
	} else {
		r.add(OK, "consul", "", "version "+version, "")
	}
	var addresses []string
	for i := range r.facts.nodes {
		for _, address := range r.facts.nodes[i].Status.Addresses {
			addresses = append(addresses, address.Address)
		}
	}
	alive, err := r.Consul.Nodes(ctx, addresses)
	if err != nil {
		r.add(Warn, "consul", "", "can't read the catalog: "+err.Error(),
			"set CONSUL_HTTP_ADDR, or --consul-addr, to an agent that is reached from here, and CONSUL_HTTP_TOKEN to a token with node:read")
		return nil
	}
	return alive
}

// agent checks one node's Consul agent. agentlets are the pods with an agentlet on the node.
func (r *run) agent(ctx context.Context, node *corev1.Node, agentlets []*corev1.Pod) {
	is, err := r.askAgent(ctx, node)
	if err != nil {
		r.agentByAgentlet(ctx, node, agentlets, err)
		return
	}
	r.judgeAgent("node/"+node.Name, is)
}

// agentState is what a node's Consul agent says of itself.
type agentState struct {
	noLeader bool
	// version is empty if the agent's configuration needs a token; name and leaves are unknown then, too.
	version, name string
	leaves        bool
}

// askAgent asks a node's Consul agent through the API server.
func (r *run) askAgent(ctx context.Context, node *corev1.Node) (agentState, error) {
	port, scheme := r.consulPort(), r.consulScheme()
	body, err := r.Cluster.Node(ctx, scheme, node.Name, port, "v1/agent/self")
	var is self
	switch {
	case err == nil && json.Unmarshal(body, &is) == nil && is.Config.Version != "":
	case deniedByACL(err):
	case err == nil:
		return agentState{}, errors.New("what answers there is no Consul agent")
	default:
		return agentState{}, err
	}
	leader, err := r.Cluster.Node(ctx, scheme, node.Name, port, "v1/status/leader")
	return agentState{
		noLeader: err == nil && strings.TrimSpace(string(leader)) == `""`,
		version:  is.Config.Version, name: is.Config.NodeName, leaves: is.DebugConfig.LeaveOnTerm,
	}, nil
}

// oldestConsul is the oldest supported version of Consul.
const oldestConsul = "1.14.0"

// judgeAgent adds the finding about a Consul agent that has answered.
func (r *run) judgeAgent(subject string, is agentState) {
	switch {
	case is.noLeader:
		r.add(Fail, "consul", subject, "its Consul agent has no cluster leader: nothing can be registered",
			"see that the Consul servers run and are reached from this node")
	case is.version == "":
		r.add(OK, "consul", subject,
			fmt.Sprintf("a Consul agent answers at port %d; its configuration needs a token", r.consulPort()), "")
	case olderConsul(is.version):
		r.add(Fail, "consul", subject,
			fmt.Sprintf("its Consul agent has version %s, which is older than %s", is.version, oldestConsul),
			"upgrade Consul; with HashiCorp's chart set global.image")
	case is.leaves:
		r.add(Warn, "consul", subject,
			"its Consul agent has leave_on_terminate on: a restart of it takes every instance of the node out of the catalog",
			leaveRemedy)
	default:
		r.add(OK, "consul", subject, fmt.Sprintf("Consul agent %s, version %s, leave_on_terminate off", is.name, is.version), "")
	}
}

// olderConsul reports whether a version is known to be too old.
func olderConsul(text string) bool {
	got, err := version.ParseGeneric(text)
	return err == nil && got.LessThan(version.MustParseGeneric(oldestConsul))
}

// leaveRemedy says how to turn leave_on_terminate off. HashiCorp's chart passes it as an argument, and Consul reads its arguments
// after all files.
const leaveRemedy = "set leave_on_terminate=false in the agent's configuration; HashiCorp's chart passes " +
	"-hcl='leave_on_terminate = true' as an argument, which no value and no file overrides: change it in the DaemonSet after each " +
	"helm upgrade, or with a Helm post-renderer"

// deniedByACL reports whether an error is a rejection by Consul's ACL system, so that there is an agent which requires a token.
// Only the text of Consul's answer shows that; others use the same status code.
func deniedByACL(err error) bool {
	answer := (*apiproxy.AnswerError)(nil)
	return errors.As(err, &answer) && answer.Status == http.StatusForbidden && strings.Contains(answer.Body, "Permission denied")
}

// askedOfNode is how many agentlets of a node are asked until one answers.
const askedOfNode = 3

// agentByAgentlet asks agentlets of the node, if the agent itself could not be asked.
func (r *run) agentByAgentlet(ctx context.Context, node *corev1.Node, agentlets []*corev1.Pod, why error) {
	subject := "node/" + node.Name
	for _, pod := range agentlets[:min(len(agentlets), askedOfNode)] {
		status, err := r.Cluster.Status(ctx, pod)
		if err == nil && registered(status) {
			r.add(OK, "consul", subject,
				fmt.Sprintf("the agentlet of %s/%s has registered with %s", pod.Namespace, pod.Name, status.Consul), "")
			return
		}
	}
	if errors.Is(why, apiproxy.ErrForbidden) {
		r.add(Skip, "consul", subject,
			"its Consul agent can't be asked from here: that needs the right to get nodes/proxy, or an agentlet on the node", "")
		return
	}
	r.add(Fail, "consul", subject, fmt.Sprintf("no Consul agent answers at the node's address, port %d: %v", r.consulPort(), why),
		"run a Consul client agent on the node with -client set to the node's IP, or set consul.port in the chart")
}

// registered reports whether the agent answers and has every service of the pod; the errors that the agentlet reports may be old.
func registered(status *contract.Status) bool {
	if len(status.Failing) > 0 {
		return false
	}
	for _, service := range status.Services {
		if service.Agent != "present" {
			return false
		}
	}
	return len(status.Services) > 0
}
