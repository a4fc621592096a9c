package scenarios_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// leaderKnown waits for the servers' leader, as the line of kubernetes-acl.sh does that waits for clients.
const leaderKnown = `until kubectl exec -n consul consul-server-0 -- curl -sf http://127.0.0.1:8500/v1/status/leader | grep -q :8300; do sleep 1; done`

// serversAlone installs the servers of examples/consul/acl as documented, and no clients.
func (s servers) serversAlone(folder string) {
	s.Helper()
	overlay, err := s.PrepareConsul(s.Ctx, "acl")
	s.Must(err)
	base, err := filepath.Rel(folder, overlay)
	s.Must(err)
	kustomization := fmt.Sprintf(`
resources: [%s]
patches:
- target: {kind: DaemonSet}
  patch: |-
    $patch: delete
    apiVersion: apps/v1
    kind: DaemonSet
    metadata: {name: consul-client}
`, base)
	s.Must(os.WriteFile(filepath.Join(folder, "kustomization.yaml"), []byte(kustomization), 0o600))
	for _, script := range []string{"kubernetes-gossip.sh", "kubernetes-tls.sh", "kubernetes-acl.sh"} {
		runDocs(s.S, folder, script, nil, "examples/consul/acl", folder,
			"kubectl rollout status daemonset/consul-client -n consul --timeout=5m", leaderKnown)
	}
}

// secretConfig decodes the file of configuration in a Secret of Consul's namespace.
func (s servers) secretConfig(secret, file string, into any) {
	s.Helper()
	found, err := s.Kube.CoreV1().Secrets(scenario.ConsulNamespace).Get(s.Ctx, secret, metav1.GetOptions{})
	s.Must(err)
	s.Must(json.Unmarshal(found.Data[file], into))
}

// clientIDs returns the node IDs of the client agents by their names.
func (s servers) clientIDs() map[string]string {
	s.Helper()
	nodes, _, err := s.Consul.Catalog().Nodes(nil)
	s.Must(err)
	ids := map[string]string{}
	for _, node := range nodes {
		if !strings.HasPrefix(node.Node, "consul-server-") {
			ids[node.Node] = node.ID
		}
	}
	return ids
}

func TestConsulOnKubernetesServersAlone(t *testing.T) {
	const daemonSet = "daemonset/agentlet-consul-agent"
	s := servers{scenario.New(t, scenario.ConsulInPods())}
	folder := s.TempDir()
	open := *s.Env
	s.Given("servers with gossip encryption, TLS and ACLs, no agents, and no Agentlet", func() {
		s.Afterwards(10*time.Minute, func(ctx context.Context) {
			if s.Failed() {
				for _, what := range [][]string{{"describe", "pods"}, {"logs", "--prefix", "--tail=25"}} {
					out, _ := s.Kubectl(ctx, append(what, "-n", scenario.SystemNamespace, "-l", "app.kubernetes.io/component=consul-agent")...)
					s.Logf("agents\n%s", out)
				}
			}
			_, err := s.Kubectl(ctx, "-n", s.Namespace, "delete", "pods", "--all", "--timeout=90s")
			_, gone := s.Kubectl(ctx, "-n", scenario.SystemNamespace, "delete", "secrets", "--ignore-not-found",
				"consul-gossip", "consul-agent-token", "consul-agent-tls")
			err = errors.Join(err, open.Install(ctx), gone, open.RemoveConsul(ctx), open.InstallConsul(ctx, "base"))
			if err != nil {
				s.Errorf("go back to the Consul of examples/consul/base: %v", err)
			}
		})
		_, err := s.HelmOutput(s.Ctx, "uninstall", scenario.Release, "--wait", "--timeout=3m")
		s.Must(err)
		s.Must(s.RemoveConsul(s.Ctx))
		s.serversAlone(folder)
	})
	consul := s.securedIn(folder)
	s.use(consul)
	s.When("the chart is installed with agents", func() {
		var gossip struct{ Encrypt string }
		var token struct {
			ACL struct{ Tokens struct{ Agent string } }
		}
		s.secretConfig("consul-gossip", "gossip.json", &gossip)
		s.secretConfig("consul-client-tokens", "tokens.json", &token)
		runDocs(s.S, folder, "agents.sh", []string{"GOSSIP=" + gossip.Encrypt, "AGENT=" + token.ACL.Tokens.Agent})
		pods, err := s.pods(s.Ctx)
		s.Must(err)
		var addresses []string
		for _, pod := range pods {
			addresses = append(addresses, pod.Status.PodIP) // the cluster has no DNS
		}
		authority, err := os.ReadFile(consul.authority)
		s.Must(err)
		repository, tag, _ := strings.Cut(scenario.ConsulImage, ":")
		s.Must(s.Install(s.Ctx,
			"consul.port=8501", "consul.scheme=https", "consul.tls.ca="+string(authority),
			"consul.acl.mode=token", "consul.acl.secretName=consul-token",
			"consulAgents.enabled=true", "consulAgents.image.repository="+repository, "consulAgents.image.tag="+tag,
			"consulAgents.retryJoin={"+strings.Join(addresses, ",")+"}",
			"consulAgents.gossipKey.secretName=consul-gossip", "consulAgents.acl.tokenSecretName=consul-agent-token",
			"consulAgents.tls.enabled=true", "consulAgents.tls.caSecretName=consul-agent-tls",
			"consulAgents.tls.certSecretName=consul-agent-tls",
			"consulAgents.dataPath="+filepath.Join(s.Cluster.Dir(), "consul", "agents"), // which goes with the Consul
		))
	})
	var pod *corev1.Pod
	var ids map[string]string
	s.Then("each node has an agent, and a pod becomes Ready and is registered", func() {
		s.awaitVoters(3)
		s.Eventually("all nodes in the catalog", func(context.Context) (bool, error) {
			ids = s.clientIDs()
			missing := slices.ContainsFunc(s.Cluster.Nodes, func(node *cluster.Node) bool { return ids[node.Name] == "" })
			return !missing, fmt.Errorf("the catalog has %v", slices.Sorted(maps.Keys(ids)))
		})
		runDocs(s.S, folder, "token.sh", consul.environment())
		pod = running(s.S, "web", s.Sample(s.Annotations()))
	})
	// An agent that restarts takes a check for critical until its next update, unless an update is on its disk. A registration
	// is none.
	s.Given("the pod's first heartbeat has come", func() {
		s.Eventually("it", func(context.Context) (bool, error) { return requestsOf(s.S, pod.Name, "update_heartbeat") > 0, nil })
	})
	gaps := followStatus(s.S)
	s.When("the agents are restarted, one after the other", func() {
		for _, command := range [][]string{{"restart", daemonSet}, {"status", daemonSet, "--timeout=4m"}} {
			_, err := s.Kubectl(s.Ctx, append([]string{"-n", scenario.SystemNamespace, "rollout"}, command...)...)
			s.Must(err)
		}
	})
	s.Then("the pod was passing all the time, and the agents are who they were", func() {
		s.AwaitCatalog(s.Service(), 1)
		if gone := gaps(); len(gone) > 0 {
			s.Errorf("nothing passed for %v", gone)
		}
		if now := s.Pod(pod.Name); now.UID != pod.UID || !scenario.IsReady(now) || scenario.AgentletStatus(now).RestartCount > 0 {
			s.Errorf("the pod is no longer as it was: %+v", now.Status)
		}
		if now := s.clientIDs(); !maps.Equal(now, ids) {
			s.Errorf("the agents are %v, and were %v", now, ids)
		}
	})
	s.When("the pod ends", func() {
		s.Delete(pod.Name)
		s.AwaitGone(pod)
	})
	s.Then("it is no longer in the catalog", func() { s.AwaitCatalog(s.Service(), 0) })
}
