package demo

import (
	"path/filepath"

	"github.com/agentlet/agentlet/e2e/scenario"
)

// guide returns instructions for inspecting and for removing what runs.
func guide(env *scenario.Env) []string {
	c, consul := env.Cluster, "http://"+env.ConsulAddr()
	return []string{
		"export KUBECONFIG=" + c.Kubeconfig(),
		"export PATH=" + filepath.Dir(c.Kubectl()) + ":$PATH",
		"",
		"kubectl get pods -n " + namespace + " -o wide",
		"curl -s --noproxy '*' '" + consul + "/v1/health/service/" + service + "?passing'",
		"kubectl rollout restart -n " + namespace + " deployment/" + service,
		"",
		"Consul's UI:  " + consul + "/ui",
		"To end it:    make demo-down",
	}
}
