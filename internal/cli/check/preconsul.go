package check

import (
	"context"
	"errors"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/cli/apiproxy"
)

// ownAgents says how to get Consul agents where there are servers.
const ownAgents = "install Agentlet with consulAgents.enabled=true (docs/consul-agents.md)"

// noAgentRemedy says how to get Consul agents.
const noAgentRemedy = "run a Consul client agent on each node: docs/consul-on-kubernetes.md; where there are servers " + ownAgents +
	"; with HashiCorp's chart set client.enabled=true (since its 1.0 it runs none by default), " + hostNetworkValues

// probeResult is what a pod on a node has found out.
type probeResult struct {
	found contract.AgentProbe
	err   error // why there is no result
}

// consul checks that a Consul agent answers at the IP of each node: by a probe if there was one, else through the API server, or
// else by the manifests of pods.
func (r *preRun) consul(ctx context.Context) {
	alive := r.catalog(ctx)
	states, problems := make([]agentState, len(r.facts.nodes)), make([]error, len(r.facts.nodes))
	r.each(len(r.facts.nodes), func(out *run, i int) {
		if probed, is := r.probed[r.facts.nodes[i].Name]; !is || probed.err != nil {
			states[i], problems[i] = out.askAgent(ctx, &r.facts.nodes[i])
		}
	})
	var none []int
	secured := false
	for i := range r.facts.nodes {
		node := &r.facts.nodes[i]
		probed, is := r.probed[node.Name]
		if is && probed.err == nil {
			states[i], problems[i] = probed.state()
		}
		if problems[i] == nil {
			secured = secured || states[i].version == "" && !states[i].noLeader
			r.judgeAgent("node/"+node.Name, states[i])
		} else if !r.byManifest(node, problems[i]) {
			none = append(none, i)
		}
		switch {
		case probed.lacksNode():
			r.inCatalog(node, nil)
		case alive != nil:
			r.inCatalog(node, alive)
		}
	}
	r.without(none, problems)
	r.acls(secured)
}

// without reports nodes without a Consul agent, by their numbers: in one finding if that is every node. problems are all nodes'.
func (r *preRun) without(nodes []int, problems []error) {
	if len(nodes) == len(r.facts.nodes) && len(nodes) > 1 {
		r.add(Fail, "consul", "", fmt.Sprintf("no Consul agent answers at the IP of any of %d nodes, port %d: %v",
			len(nodes), r.consulPort(), problems[0]), r.noAgent())
		return
	}
	for _, i := range nodes {
		r.add(Fail, "consul", "node/"+r.facts.nodes[i].Name,
			fmt.Sprintf("no Consul agent answers at its IP, port %d: %v", r.consulPort(), problems[i]), r.noAgent())
	}
}

// noAgent returns the remedy, which depends on what runs already.
func (r *preRun) noAgent() string {
	if len(r.agents) == 0 && slices.ContainsFunc(r.facts.pods, func(pod corev1.Pod) bool {
		return byHashiCorp(pod.Labels) && pod.Labels["component"] == "server"
	}) {
		return "HashiCorp's chart runs servers here, and no client agents: set client.enabled=true, " + hostNetworkValues + "; or " + ownAgents
	}
	return noAgentRemedy
}

func (p *probeResult) state() (agentState, error) {
	if p.found.Error != "" {
		return agentState{}, errors.New(p.found.Error)
	}
	return agentState{
		noLeader: p.found.Leader == "", version: p.found.Version, name: p.found.Name, leaves: p.found.LeavesOnTerminate,
	}, nil
}

// lacksNode reports whether the pod has seen that the catalog doesn't have its node by its IP.
func (p *probeResult) lacksNode() bool {
	return p.err == nil && p.found.InCatalog != nil && !*p.found.InCatalog && p.found.Leader != ""
}

// byManifest judges a node whose agent could not be asked, by the pods on it. It reports whether it has found something to say.
func (r *preRun) byManifest(node *corev1.Node, why error) bool {
	subject, port := "node/"+node.Name, r.consulPort()
	forbidden := errors.Is(why, apiproxy.ErrForbidden)
	const unasked = "that needs the right to get nodes/proxy, or --probe-nodes"
	for i := range r.facts.pods {
		pod := &r.facts.pods[i]
		if pod.Spec.NodeName != node.Name {
			continue
		}
		container := agentContainer(&pod.Spec)
		if container == nil || !reached(&pod.Spec, container, port) {
			continue
		}
		name := pod.Namespace + "/" + pod.Name
		ready := apiproxy.Condition(pod, corev1.PodReady)
		switch {
		case ready == nil || ready.Status != corev1.ConditionTrue:
			text := "the Consul agent in pod " + name + " is not ready"
			remedy := fmt.Sprintf("kubectl -n %s describe pod %s", pod.Namespace, pod.Name)
			if waiting := apiproxy.ContainerWaits(pod); waiting != nil {
				text, remedy = text+": "+waiting.Why, waiting.Remedy(pod)
			}
			r.add(Fail, "consul", subject, text, remedy)
		case forbidden:
			r.add(OK, "consul", subject,
				fmt.Sprintf("by its manifest, the pod %s answers at port %d; it was not asked: %s", name, port, unasked), "")
		default:
			r.add(Fail, "consul", subject,
				fmt.Sprintf("the Consul agent in pod %s doesn't answer at the node's IP, port %d: %v", name, port, why),
				fmt.Sprintf("see its client_addr and ports, and the node's firewall: kubectl -n %s logs %s", pod.Namespace, pod.Name))
		}
		return true
	}
	if forbidden {
		r.add(Skip, "consul", subject, "its Consul agent can't be asked from here ("+unasked+"), and no pod on it is one", "")
	}
	return forbidden
}

// acls says what ACLs need. secured is whether an agent has asked for a token.
func (r *preRun) acls(secured bool) {
	managed := false
	for _, agents := range r.agents {
		on, byChart := agents.acls()
		secured, managed = secured || on, managed || byChart
	}
	if !secured {
		return
	}
	r.add(Warn, "consul", "", "Consul's ACLs are on: without a token agentlets register nothing",
		"set consul.acl.mode to token or login, step by step in docs/consul.md#acls")
	if managed {
		r.add(OK, "consul", "", "HashiCorp's chart gives its agents' tokens node:write (global.acls.manageSystemACLs)", "")
		return
	}
	r.add(Skip, "consul", "",
		"can't see whether the agents' own token (acl.tokens.agent) has node:write and service:read, without which nothing is removed "+
			"from the catalog; with HashiCorp's chart global.acls.manageSystemACLs=true gives both. With --consul-addr a node that the "+
			"catalog lacks shows it", "")
}
