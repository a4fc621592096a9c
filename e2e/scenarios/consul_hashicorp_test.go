package scenarios_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// These scenarios test client agents that run as HashiCorp's chart runs them, and what docs/consul/hashicorp-chart.md says of them.

// hashicorp is a scenario with such a Consul, beside the cluster's own.
type hashicorp struct {
	*scenario.S

	namespace string // of the Consul
	folder    string // has the authority's files
	settings  hashicorpSettings
}

// hashicorpSettings are what testdata/hashicorp.yaml is rendered with.
type hashicorpSettings struct {
	// Leaves: leave_on_terminate is on.
	Leaves bool
	// OnNode: with the node's network and its disk, in place of hostPort and an emptyDir.
	OnNode bool
	// Delay is the initialDelaySeconds of the readiness probe, by which the next agent is restarted later.
	Delay int
	// Image, Server (its address), DataPath and Gossip are filled in. Gossip is a key that keeps this Consul apart from the cluster's
	// own, whose server still looks for the agents at whose addresses these may run.
	Image, Server, DataPath, Gossip string
}

// consulPort is the port of the agents, which serve nothing but HTTPS.
const consulPort = "8501"

// onHashiCorps starts the server, and makes the pods use the agents. There are none until runAgents.
func onHashiCorps(s *scenario.S, settings hashicorpSettings) hashicorp {
	s.Helper()
	settings.Image, settings.DataPath = scenario.ConsulImage, filepath.Join(s.Cluster.Dir(), "consul", "hashicorp")
	settings.Gossip = base64.StdEncoding.EncodeToString([]byte(rand.Text()[:24]))
	h := hashicorp{S: s, namespace: s.Namespace + "-consul", folder: s.TempDir(), settings: settings}
	s.Must(s.LoadConsulImage(s.Ctx, io.Discard))
	_, err := s.Kube.CoreV1().Namespaces().Create(s.Ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: h.namespace}}, metav1.CreateOptions{})
	s.Must(err)
	s.Afterwards(2*time.Minute, func(ctx context.Context) {
		if s.Failed() {
			for _, args := range [][]string{{"get", "pods", "-o", "wide"}, {"get", "events", "--field-selector=type!=Normal"}, {"logs", "-l", "app=consul", "--prefix", "--tail=25"}} {
				out, _ := s.Kubectl(ctx, append([]string{"-n", h.namespace}, args...)...)
				s.Logf("Consul: kubectl %s\n%s", strings.Join(args, " "), out)
			}
		}
		_, err := s.Kubectl(ctx, "delete", "namespace", h.namespace, "--timeout=90s")
		if err := errors.Join(err, os.RemoveAll(h.settings.DataPath)); err != nil {
			s.Errorf("remove the Consul: %v", err)
		}
	})
	h.createAuthority()
	h.apply("hashicorp-server.yaml")
	_, err = s.Kubectl(s.Ctx, "-n", h.namespace, "wait", "--for=condition=Ready", "pod/consul-server-0", "--timeout=90s")
	s.Must(err)
	h.settings.Server = h.server().Status.PodIP
	h.trust(filepath.Join(h.folder, "consul-agent-ca.pem"))
	g := guarded{S: s, ca: h.authority()}
	g.install(g.inline(), "consul.port="+consulPort)
	return h
}

// trust has the scenario itself trust the authorities in a file.
func (h hashicorp) trust(file string) {
	h.Helper()
	access := secured{address: "https://" + net.JoinHostPort(h.settings.Server, consulPort), authority: file}
	env := *h.Env
	var err error
	env.Consul, err = access.client("")
	h.Must(err)
	h.Env = &env
}

// server is the server's pod.
func (h hashicorp) server() *corev1.Pod {
	h.Helper()
	pod, err := h.Kube.CoreV1().Pods(h.namespace).Get(h.Ctx, "consul-server-0", metav1.GetOptions{})
	h.Must(err)
	return pod
}

// authority is the certificate in the Secret of the chart.
func (h hashicorp) authority() string {
	h.Helper()
	secret, err := h.Kube.CoreV1().Secrets(h.namespace).Get(h.Ctx, "consul-ca-cert", metav1.GetOptions{})
	h.Must(err)
	return string(secret.Data["tls.crt"])
}

// newAuthority makes the files of an authority in a folder, by Consul's own tool.
func (h hashicorp) newAuthority(folder string) {
	h.Helper()
	tools, err := toolchain.Ensure(h.Ctx, io.Discard, toolchain.Consul)
	h.Must(err)
	command := exec.CommandContext(h.Ctx, tools.Program(toolchain.Consul, "consul"), "tls", "ca", "create")
	command.Dir = folder
	out, err := command.CombinedOutput()
	if err != nil {
		h.Fatalf("create the authority: %v\n%s", err, out)
	}
}

// createAuthority creates the Secrets of the chart.
func (h hashicorp) createAuthority() {
	h.Helper()
	h.newAuthority(h.folder)
	for secret, file := range map[string]string{"consul-ca-cert": "tls.crt=consul-agent-ca.pem", "consul-ca-key": "tls.key=consul-agent-ca-key.pem"} {
		key, name, _ := strings.Cut(file, "=")
		_, err := h.Kubectl(h.Ctx, "-n", h.namespace, "create", "secret", "generic", secret, "--from-file="+key+"="+filepath.Join(h.folder, name))
		h.Must(err)
	}
}

// apply renders a file of testdata and applies it.
func (h hashicorp) apply(file string) {
	h.Helper()
	parsed, err := template.ParseFiles(filepath.Join("testdata", file))
	h.Must(err)
	var manifest strings.Builder
	h.Must(parsed.Execute(&manifest, h.settings))
	path := filepath.Join(h.folder, file)
	h.Must(os.WriteFile(path, []byte(manifest.String()), 0o600))
	_, err = h.Kubectl(h.Ctx, "-n", h.namespace, "apply", "-f", path)
	h.Must(err)
}

// stopAgents makes room for agents on the nodes' network: the cluster's own have the same ports.
func stopAgents(s *scenario.S) {
	s.Helper()
	whole(s)
	for _, node := range s.Cluster.Nodes {
		s.Must(node.Process(cluster.ConsulAgent).Stop(s.Ctx))
	}
}

// runAgents starts an agent on each node.
func (h hashicorp) runAgents() {
	h.Helper()
	h.apply("hashicorp.yaml")
	h.rollout("status")
}

// rollout runs kubectl rollout for the agents.
func (h hashicorp) rollout(command string, args ...string) {
	h.Helper()
	_, err := h.Kubectl(h.Ctx, append([]string{"-n", h.namespace, "rollout", command, "daemonset/consul-client"}, args...)...)
	h.Must(err)
}

// agent returns the pod of a node's agent.
func (h hashicorp) agent(node string) *corev1.Pod {
	h.Helper()
	list, err := h.Kube.CoreV1().Pods(h.namespace).List(h.Ctx, metav1.ListOptions{LabelSelector: "component=client", FieldSelector: "spec.nodeName=" + node})
	h.Must(err)
	if len(list.Items) != 1 {
		h.Fatalf("%s has %d agents, want 1", node, len(list.Items))
	}
	return &list.Items[0]
}

// clients returns the addresses from which connections to a node's agent come.
func (h hashicorp) clients(node string) (addresses []string) {
	h.Helper()
	table, err := h.Kubectl(h.Ctx, "-n", h.namespace, "exec", h.agent(node).Name, "-c", "consul", "--", "cat", "/proc/net/tcp6")
	h.Must(err)
	port, err := strconv.Atoi(consulPort)
	h.Must(err)
	const established = "01"
	for line := range strings.Lines(table) {
		columns := strings.Fields(line)
		if len(columns) < 4 || !strings.HasSuffix(columns[1], fmt.Sprintf(":%04X", port)) || columns[3] != established {
			continue
		}
		if address, _, _ := strings.Cut(columns[2], ":"); !slices.Contains(addresses, address) {
			addresses = append(addresses, address)
		}
	}
	return addresses
}

// spread has the replicas on all nodes alike.
func spread(template *corev1.PodTemplateSpec) {
	template.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.DoNotSchedule,
		LabelSelector: &metav1.LabelSelector{MatchLabels: template.Labels},
	}}
}

func TestConsulHashiCorp(t *testing.T) {
	s := scenario.New(t)
	node := s.Cluster.Nodes[0]
	early := s.Service() + "-early"
	var h hashicorp
	s.Given("a server, pods that are told of HTTPS on 8501 and of the CA in the Secret, and no agents", func() {
		h = onHashiCorps(s, hashicorpSettings{Leaves: true})
	})
	s.When("a pod starts", func() {
		template := pinned(s, node, "service-names", early)
		template.Labels = map[string]string{"app": "early"} // it is none of the replicas
		_, err := s.CreatePod("early", template)
		s.Must(err)
	})
	s.Then("its gate says that the node's port is closed", func() {
		s.Eventually("the gate's reason", func(context.Context) (bool, error) {
			gate := gateOf(s, "early")
			return gate.Reason == string(contract.ConsulUnreachable) &&
					strings.Contains(gate.Message, net.JoinHostPort(node.IP, consulPort)) && strings.Contains(gate.Message, "refused"),
				fmt.Errorf("gate: %+v", gate)
		})
	})
	s.When("the agents start as the chart starts them", func() { h.runAgents() })
	s.Then("the pod is Ready and registered, though its node has the address of the agent's pod in Consul", func() {
		pod := s.AwaitReady("early")
		s.AwaitCatalog(early, 1)
		entry, agent := s.Catalog(early)[0], h.agent(node.Name)
		if entry.Node.Node != node.Name || entry.Node.Address != agent.Status.PodIP || entry.Node.Address == node.IP {
			s.Errorf("node in Consul: %+v, want %s with the agent's address %s", entry.Node, node.Name, agent.Status.PodIP)
		}
		if entry.Service.Address != pod.Status.PodIP {
			s.Errorf("the service's address is %s, want the pod's, %s", entry.Service.Address, pod.Status.PodIP)
		}
	})
	var f followed
	s.Given("replicas that a client follows through Consul", func() { f = follow(s, 4, spread) })
	s.Then("the agents see all pods of a node at one address, because the port mapping masquerades them", func() {
		if clients := h.clients(node.Name); len(clients) != 1 {
			s.Errorf("connections come from %v, want one address", clients)
		}
	})
	before := uids(f.timeline.Lives())
	s.When("the replicas are restarted under load", func() { f.restart(100) })
	s.Then("no request failed, and each pod started and ended in the right order", func() { f.judge(livesAfter(f.timeline, before)) })
}

func TestConsulHashiCorpMistakes(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	var right []string
	s.Given("agents as the chart starts them", func() {
		h := onHashiCorps(s, hashicorpSettings{Leaves: true})
		h.runAgents()
		right = []string{"consul.scheme=https", "consul.port=" + consulPort, "consul.tls.ca=" + h.authority()}
	})
	for _, mistake := range []struct {
		name, gate string
		values     []string // over those that are right
	}{
		{"plain HTTP", "it wants HTTPS at this port", []string{"consul.scheme=http", "consul.tls.ca="}},
		{"no authority", "signed by an authority that is not in", []string{"consul.tls.ca="}},
		{"another port", "refused", []string{"consul.port=8503"}},
		{"another name", "consul.example", []string{"consul.tls.serverName=consul.example"}},
	} {
		pod := strings.ToLower(strings.ReplaceAll(mistake.name, " ", "-"))
		s.When("pods are told of "+mistake.name, func() {
			s.Must(s.Install(s.Ctx, slices.Concat(right, mistake.values)...))
			_, err := s.CreatePod(pod, pinned(s, s.Cluster.Nodes[0]))
			s.Must(err)
		})
		s.Then("the gate says what is wrong", func() {
			s.Eventually("the gate's message", func(context.Context) (bool, error) {
				gate := gateOf(s, pod)
				return strings.Contains(gate.Message, mistake.gate), fmt.Errorf("gate: %+v", gate)
			})
			s.Logf("%s: %s", mistake.name, gateOf(s, pod).Message)
		})
	}
}

// TestConsulHashiCorpAgentsRestarted counts the requests that fail while the agents are restarted one after the other. Those that
// leave take their node's instances out of the catalog for as long as they are away. One replica on each of two nodes is the least
// that can bear that. Without a delay it need not: the chart's probe is content with an agent before its pods are registered again.
func TestConsulHashiCorpAgentsRestarted(t *testing.T) {
	const rate, replicas = 200, 2
	for name, test := range map[string]struct {
		settings hashicorpSettings
		fails    bool // whether requests to the replicas may fail
		gaps     bool // whether what runs on one node alone is missing meanwhile
	}{
		"as by default":                  {hashicorpSettings{Leaves: true}, true, true},
		"with a delay":                   {hashicorpSettings{Leaves: true, Delay: 10}, false, true},
		"on the nodes' network and disk": {hashicorpSettings{Leaves: true, OnNode: true, Delay: 10}, false, true},
		"there and without leaving":      {hashicorpSettings{OnNode: true}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := scenario.New(t, scenario.Long())
			lone := s.Service() + "-lone"
			var h hashicorp
			var f followed
			s.Given("agents "+name+", replicas on all nodes, and a service on one node alone", func() {
				if test.settings.OnNode {
					stopAgents(s)
				}
				h = onHashiCorps(s, test.settings)
				h.runAgents()
				f = follow(s, replicas, spread)
				_, err := s.CreatePod("lone", pinned(s, s.Cluster.Nodes[0], "service-names", lone))
				s.Must(err)
				s.AwaitReady("lone")
				s.AwaitCatalog(lone, 1)
				s.Eventually("what its checks say, which its agent keeps on its disk", func(context.Context) (bool, error) {
					return requestsOf(s, "lone", "update_heartbeat") > 0 && requestsOf(s, "lone", "update_readiness") > 0, nil
				})
			})
			gates := map[string]metav1.Time{}
			for _, pod := range s.Pods(s.Ctx) {
				gates[pod.Name] = gateOf(s, pod.Name).LastTransitionTime
			}
			gaps := followService(s, lone)
			s.When("the agents are restarted under load", func() {
				f.under(rate, func() {
					began := time.Now()
					h.rollout("restart")
					h.rollout("status", "--timeout=4m")
					s.AwaitCatalog(s.Service(), replicas)
					s.AwaitCatalog(lone, 1)
					s.Logf("the restart took %s", time.Since(began))
				})
			})
			s.Then("no request to the replicas failed, unless it may, and the gates have not moved", func() {
				requests, failed := f.client.Counts()
				missing := gaps()
				s.Logf("%d of %d requests failed; what runs on one node alone was missing for %v", failed, requests, missing)
				if err := f.client.Check(); err != nil && (!test.fails || requests == 0) {
					s.Error(err)
				}
				if (len(missing) > 0) != test.gaps {
					s.Errorf("what runs on one node alone was missing for %v, want gaps: %v", missing, test.gaps)
				}
				for name, at := range gates {
					if gate := gateOf(s, name); gate.Status != corev1.ConditionTrue || !gate.LastTransitionTime.Equal(&at) {
						s.Errorf("the gate of %s moved: %+v", name, gate)
					}
				}
			})
		})
	}
}
