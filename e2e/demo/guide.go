package demo

import (
	"path/filepath"

	"github.com/agentlet/agentlet/e2e/scenario"
)

// guide returns instructions for inspecting, for breaking and for removing what runs. file holds what was measured.
func guide(env *scenario.Env, file string) []string {
	c, consul := env.Cluster, "http://"+env.ConsulAddr()
	agent := "http://" + c.Nodes[0].ConsulAddr()
	plugin := filepath.Join(env.Out, "bin")
	return []string{
		"export KUBECONFIG=" + c.Kubeconfig(),
		"export PATH=" + plugin + ":" + filepath.Dir(c.Kubectl()) + ":$PATH",
		"export NO_PROXY='*'",
		"",
		"kubectl get pods -n " + namespace + " -o wide",
		"kubectl agentlet status -n " + namespace + "        # each pod as Kubernetes and as Consul see it",
		"kubectl agentlet check                 # looks for what is broken in the installation",
		"curl -s '" + consul + "/v1/health/service/" + web + "?passing'",
		"",
		"Break it:",
		"",
		"# Deregister a pod behind its back: it is registered again at once, and all three pass.",
		"ID=$(curl -s " + agent + `/v1/agent/services | jq -r 'first(.[] | select(.Service=="` + web + `")).ID')`,
		"curl -s -X PUT " + agent + "/v1/agent/service/deregister/$ID; sleep 1; kubectl agentlet status -n " + namespace,
		"",
		"# Break an application: after three probes Consul has it as critical. PUT /ready undoes it.",
		"IP=$(kubectl get pods -n " + namespace + " -l app=" + web + " -o jsonpath='{.items[0].status.podIP}')",
		"curl -s -X PUT http://$IP:8080/broken; sleep 5; kubectl agentlet status -n " + namespace,
		"",
		"# Misspell an annotation's value: the change is refused, and the error says what is wrong.",
		"kubectl patch deployment " + web + " -n " + namespace + " -p \\",
		`  '{"spec":{"template":{"metadata":{"annotations":{"agentlet.dev/gate":"psasing"}}}}}'`,
		"",
		"Consul's UI:    " + consul + "/ui",
		"The figures:    " + file,
		"To end it all:  make demo-down",
	}
}
