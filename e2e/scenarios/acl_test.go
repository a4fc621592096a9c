package scenarios_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// guarded is a scenario with its own Consul, beside the cluster's, that has TLS and ACLs that deny by default.
type guarded struct {
	*scenario.S
	secured *cluster.Secured
	ca      string
}

// guard starts the Consul. The scenario then prepares it with run, and makes the pods use it with install.
func guard(s *scenario.S, options cluster.SecuredOptions) guarded {
	s.Helper()
	secured, err := s.Cluster.StartSecured(s.Ctx, options)
	s.Must(err)
	s.Afterwards(time.Minute, func(ctx context.Context) {
		if err := secured.Stop(ctx); err != nil {
			s.Errorf("stop the secured Consul: %v", err)
		}
	})
	ca, err := os.ReadFile(filepath.Join(secured.Dir, "ca.crt"))
	s.Must(err)
	env := *s.Env
	env.Consul = secured.Client
	s.Env = &env
	return guarded{s, secured, string(ca)}
}

// install makes the chart use this Consul, with more values, until the scenario's end.
func (g guarded) install(values ...string) {
	g.Helper()
	g.Afterwards(3*time.Minute, func(ctx context.Context) {
		if g.Failed() {
			out, _ := g.Kubectl(ctx, "-n", g.Namespace, "get", "pods", "-o", `jsonpath={range .items[*]}{.metadata.name}: {.status.conditions}{"\n"}{end}`)
			log, _ := g.Kubectl(ctx, "-n", g.Namespace, "logs", "-l", "app=sample", "-c", contract.ContainerName, "--prefix", "--tail=40")
			g.Logf("%s\n%s", out, log)
		}
		// Delete the pods first, while the webhook still has the settings with which they were injected.
		if _, err := g.Kubectl(ctx, "-n", g.Namespace, "delete", "deployments,pods", "--all", "--timeout=90s"); err != nil {
			g.Errorf("remove workloads: %v", err)
		}
		if err := g.Install(ctx); err != nil {
			g.Errorf("install the chart as it was: %v", err)
		}
	})
	g.Must(g.Install(g.Ctx, append([]string{"consul.port=" + strconv.Itoa(cluster.SecuredPort), "consul.scheme=https"}, values...)...))
}

// inline returns the chart value with which pods contain the CA certificate themselves.
func (g guarded) inline() string { return "consul.tls.ca=" + g.ca }

// run runs a script of the documentation against this Consul, with words replaced.
func (g guarded) run(script string, replace ...string) {
	g.Helper()
	runDocs(g.S, g.TempDir(), script, g.secured.Environment(), replace...)
}

// runDocs runs a script of docs/consul in a folder, with kubectl and consul in PATH. It replaces shop and web in the script and
// the policy by the scenario's namespace and service, and other words as given.
func runDocs(s *scenario.S, folder, script string, env []string, replace ...string) {
	s.Helper()
	read := func(name string) string {
		text, err := os.ReadFile(filepath.Join(s.Root, "docs", "consul", name))
		s.Must(err)
		return string(text)
	}
	policy := strings.ReplaceAll(read("registrar.hcl"), `"web"`, strconv.Quote(s.Service()))
	s.Must(os.WriteFile(filepath.Join(folder, "registrar.hcl"), []byte(policy), 0o600))
	tools, err := toolchain.Ensure(s.Ctx, io.Discard, s.Cluster.Options.ConsulTools)
	s.Must(err)
	path := []string{filepath.Dir(s.Cluster.Kubectl()), filepath.Dir(tools.Program(s.Cluster.Options.ConsulTools, "consul")), os.Getenv("PATH")}
	command := exec.CommandContext(s.Ctx, "bash", "-euo", "pipefail", "-c", strings.NewReplacer(append(replace, "shop", s.Namespace)...).Replace(read(script)))
	command.Dir = folder
	command.Env = append(append(os.Environ(), env...), "KUBECONFIG="+s.Cluster.Kubeconfig(), "PATH="+strings.Join(path, ":"))
	if out, err := command.CombinedOutput(); err != nil {
		s.Fatalf("%s: %v\n%s", script, err, out)
	}
}

// forget removes the cluster-wide objects that the documentation's scripts have created.
func (g guarded) forget() {
	g.Afterwards(time.Minute, func(ctx context.Context) {
		_, err := g.Kubectl(ctx, "delete", "--ignore-not-found", "--wait=false", "clusterrolebinding/service-account-issuer-discovery-for-all",
			"clusterrole/consul-logins", "clusterrolebinding/consul-logins", "clusterrolebinding/consul-logins-review", "namespace/consul")
		if err != nil {
			g.Errorf("forget the auth methods' rights: %v", err)
		}
	})
}

// logins returns the tokens of logins that were not logged out.
func (g guarded) logins() (tokens []*api.ACLTokenListEntry) {
	g.Helper()
	all, _, err := g.secured.Client.ACL().TokenList((&api.QueryOptions{}).WithContext(g.Ctx))
	g.Must(err)
	return slices.DeleteFunc(all, func(token *api.ACLTokenListEntry) bool { return token.AuthMethod == "" })
}

// awaitLogins waits until there are n such tokens.
func (g guarded) awaitLogins(n int) {
	g.Helper()
	g.Eventually(fmt.Sprintf("%d tokens of logins", n), func(context.Context) (bool, error) {
		there := len(g.logins())
		return there == n, fmt.Errorf("there are %d", there)
	})
}

// account creates a service account, and returns a template of pods that run under it and register its name.
func (g guarded) account(name string, annotations ...string) corev1.PodTemplateSpec {
	g.Helper()
	_, err := g.Kube.CoreV1().ServiceAccounts(g.Namespace).Create(g.Ctx, &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	g.Must(err)
	template := g.Sample(g.Annotations(append([]string{"service-names", name}, annotations...)...))
	template.Spec.ServiceAccountName = name
	return template
}

// awaitGate waits until a pod's gate is closed with this reason and a message that contains these texts.
func (g guarded) awaitGate(pod string, reason contract.Reason, says ...string) {
	g.Helper()
	g.Eventually("the gate of "+pod, func(context.Context) (bool, error) {
		gate := gateOf(g.S, pod)
		missing := slices.ContainsFunc(says, func(part string) bool { return !strings.Contains(gate.Message, part) })
		return gate.Status == corev1.ConditionFalse && gate.Reason == string(reason) && !missing, fmt.Errorf("gate: %+v", gate)
	})
	g.Logf("%s: %s", pod, gateOf(g.S, pod).Message)
}

func TestFaultACLLogin(t *testing.T) {
	g := guard(scenario.New(t), cluster.SecuredOptions{})
	g.forget()
	g.Given("a Consul with TLS and ACLs, a JWT auth method, and agentlets that log in with a token for it", func() {
		g.run("method-jwt.sh")
		g.run("rule-jwt.sh")
		g.install(g.inline(), "consul.acl.mode=login", "consul.acl.authMethod=agentlet", "consul.acl.audience=consul", "log.level=debug")
	})
	g.loginLives("login by an auth method of type jwt, over TLS")
}

func TestFaultACLLoginByKubernetes(t *testing.T) {
	g := guard(scenario.New(t, scenario.Long()), cluster.SecuredOptions{})
	g.forget()
	g.Given("a Consul with TLS and ACLs, an auth method of type kubernetes, and agentlets that log in with their API token", func() {
		g.run("method-kubernetes.sh")
		g.run("rule-kubernetes.sh")
		_, err := g.Kubectl(g.Ctx, "-n", g.Namespace, "create", "configmap", "consul-ca", "--from-file=ca.crt="+filepath.Join(g.secured.Dir, "ca.crt"))
		g.Must(err)
		g.install("consul.tls.configMapName=consul-ca", "consul.tls.serverName=client.dc1.consul", "consul.acl.mode=login", "consul.acl.authMethod=agentlet", "log.level=debug")
	})
	g.loginLives("login by an auth method of type kubernetes, over TLS")
}

// loginLives checks the rights of a login: it may register the service account's own service, nothing else, and its token is gone
// after the pod.
func (g guarded) loginLives(fault string) {
	const web = "acl-web"
	var pod *corev1.Pod
	template := g.account(web, "log-level", "debug")
	began := time.Now()
	g.When("a pod runs under the account "+web, func() {
		_, err := g.CreatePod("web", template)
		g.Must(err)
		pod = g.AwaitReady("web")
	})
	g.Then("the catalog has its service, and Consul one token that says whose it is", func() {
		g.AwaitCatalog(web, 1)
		told(g.S, fault, "the gate opened", time.Since(began))
		if tokens := g.logins(); len(tokens) != 1 || !strings.Contains(tokens[0].Description, g.Namespace+"/web") {
			g.Errorf("tokens of logins: %+v", tokens)
		}
	})
	g.When("another pod requests a name that is not its service account's", func() {
		_, err := g.CreatePod("thief", g.account("acl-thief", "service-names", "acl-pay"))
		g.Must(err)
	})
	g.Then("its gate says that the name is denied, and how to fix it", func() {
		g.awaitGate("thief", contract.RegistrationRejected, `service:write`, `"acl-pay"`, "binding rule")
	})
	g.Then("no output contains a token", func() {
		tokens := g.logins()
		if len(tokens) == 0 || len(tokens[0].SecretID) < 8 {
			g.Fatalf("no tokens to look for: %+v", tokens)
		}
		for place, text := range shown(g.S, web, template) {
			for _, token := range tokens {
				if strings.Contains(text, token.AccessorID) || strings.Contains(text, token.SecretID) {
					g.Errorf("a token is in %s", place)
				}
			}
			if strings.Contains(text, "eyJhbGciOi") {
				g.Errorf("a service account's token is in %s", place)
			}
		}
	})
	g.When("both pods are deleted", func() { g.Delete("web"); g.Delete("thief"); g.AwaitGone(pod) })
	g.Then("no instance and no token is left", func() {
		g.AwaitCatalog(web, 0)
		g.awaitLogins(0)
	})
}

// TestFaultACLRenewal makes tokens expire after a minute, Consul's minimum, so that each pod logs in again several times.
func TestFaultACLRenewal(t *testing.T) {
	g := guard(scenario.New(t, scenario.Long()), cluster.SecuredOptions{})
	g.forget()
	const replicas = 6
	var f followed
	g.Given("logins that last a minute, and six replicas that a client follows through Consul", func() {
		g.run("method-jwt.sh", "-max-token-ttl 1h", "-max-token-ttl 1m")
		g.run("rule-jwt.sh", "${value.account}", "${value.namespace}")
		g.install(g.inline(), "consul.acl.mode=login", "consul.acl.authMethod=agentlet", "consul.acl.audience=consul")
		f = follow(g.S, replicas)
		g.awaitLogins(replicas)
	})
	gaps := followStatus(g.S)
	first := map[string]bool{}
	for _, token := range g.logins() {
		first[token.AccessorID] = true
	}
	g.When("two minutes pass", func() { g.Pause(2 * time.Minute) })
	g.Then("every pod has logged in anew, none of the first tokens is left, and nothing stopped passing", func() {
		for _, token := range g.logins() {
			if first[token.AccessorID] {
				g.Errorf("the token %s is still there", token.Description)
			}
		}
		g.AwaitCatalog(g.Service(), replicas)
	})
	before := uids(f.timeline.Lives())
	began := time.Now()
	g.When("the pods are restarted under load", func() { f.restart(restartRate) })
	g.Then("no request failed, each pod started and ended in the right order, and each has one token", func() {
		f.judge(livesAfter(f.timeline, before))
		if gone := gaps(); len(gone) > 0 {
			g.Errorf("nothing passed for %v", gone)
		}
		requests, failed := f.client.Counts()
		told(g.S, "rolling restart with ACLs, TLS and tokens of a minute", fmt.Sprintf("%d of %d requests failed; every token was renewed", failed, requests), time.Since(began))
	})
	g.When("the pods are deleted", func() { g.Scale(0) })
	g.Then("no token is left", func() { g.AwaitCatalog(g.Service(), 0); g.awaitLogins(0) })
}

func TestFaultACLStaticTokenAndClientCertificate(t *testing.T) {
	g := guard(scenario.New(t, scenario.Long()), cluster.SecuredOptions{Mutual: true})
	pem := func(name string) string { return filepath.Join(g.secured.Dir, name) }
	began := time.Now()
	g.Given("a Consul that asks for client certificates, and a namespace without any Secret", func() {
		g.install("consul.tls.secretName=consul-tls", "consul.acl.mode=token", "consul.acl.secretName=consul-token")
		_, err := g.CreatePod("web", g.Sample(g.Annotations()))
		g.Must(err)
	})
	g.Then("the gate says that the agent isn't trusted", func() { g.awaitGate("web", contract.ConsulUnreachable, "--consul-ca-file") })
	g.When("the Secret with CA and client certificate is created", func() {
		_, err := g.Kubectl(g.Ctx, "-n", g.Namespace, "create", "secret", "generic", "consul-tls",
			"--from-file=ca.crt="+pem("ca.crt"), "--from-file=tls.crt="+pem("client.crt"), "--from-file=tls.key="+pem("client.key"))
		g.Must(err)
	})
	g.Then("the gate says that a token is missing", func() { g.awaitGate("web", contract.LoginFailed, "--consul-token-file") })
	g.When("the token is created as documented", func() { g.run("token.sh") })
	g.Then("the gate opens without a restart", func() {
		g.AwaitReady("web")
		g.AwaitCatalog(g.Service(), 1)
		told(g.S, "no Secret with certificate and token when a pod starts", "the gate said which is missing, and opened when both had come", time.Since(began))
	})
	g.When("the token is replaced by another, and destroyed", func() {
		old, _, err := g.secured.Client.ACL().TokenList(nil)
		g.Must(err)
		made, _, err := g.secured.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLTokenPolicyLink{{Name: "agentlet-web"}}}, nil)
		g.Must(err)
		_, err = g.Kubectl(g.Ctx, "-n", g.Namespace, "patch", "secret", "consul-token", "--type=merge", "-p", `{"stringData":{"token":"`+made.SecretID+`"}}`)
		g.Must(err)
		g.Eventually("the agentlet to take the new one", func(ctx context.Context) (bool, error) {
			log, err := g.Kubectl(ctx, "-n", g.Namespace, "logs", "web", "-c", contract.ContainerName)
			return strings.Count(log, `"msg":"logged in"`) >= 2, err
		})
		for _, token := range old {
			if token.Description == "pods of "+g.Namespace {
				_, err := g.secured.Client.ACL().TokenDelete(token.AccessorID, nil)
				g.Must(err)
			}
		}
	})
	g.Then("readiness still reaches the catalog, and the pod leaves it at its end", func() {
		pod := g.Pod("web")
		g.Must(put(g.S, pod, "/unready"))
		g.Eventually("critical", func(context.Context) (bool, error) { return len(g.Passing(g.Service())) == 0, nil })
		g.Must(put(g.S, pod, "/ready"))
		g.AwaitCatalog(g.Service(), 1)
		g.Delete("web")
		g.AwaitGone(pod)
		g.AwaitCatalog(g.Service(), 0)
	})
}

// TestFaultACLAgentMayNotRemove tests a Consul agent without node:write. It deregisters services only locally, and reports
// success.
func TestFaultACLAgentMayNotRemove(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	node := s.Cluster.Nodes[1]
	g := guard(s, cluster.SecuredOptions{Powerless: []*cluster.Node{node}})
	g.forget()
	var pod *corev1.Pod
	g.Given("a registered pod on a node whose Consul agent lacks node:write", func() {
		g.run("method-jwt.sh")
		g.run("rule-jwt.sh", "${value.account}", "${value.namespace}")
		g.install(g.inline(), "consul.acl.mode=login", "consul.acl.authMethod=agentlet", "consul.acl.audience=consul")
		pod = running(g.S, "pod", pinned(g.S, node))
	})
	var said string
	began := time.Now()
	g.When("the pod is deleted", func() {
		g.Delete("pod")
		g.Eventually("its gate to say why it stays in the catalog", func(context.Context) (bool, error) {
			said = gateOf(g.S, "pod").Message
			return strings.Contains(said, "node:write"), fmt.Errorf("gate: %s", said)
		})
		g.AwaitGone(pod)
	})
	g.Then("the catalog keeps the instance, but not as passing", func() {
		if passing := g.Passing(g.Service()); len(passing) > 0 {
			g.Errorf("clients are still sent to %s", passing[0].Service.Address)
		}
		g.awaitLogins(0)
		told(g.S, "a node's Consul agent without node:write while a pod ends", "the catalog keeps the instance, as critical; the gate says what the agent lacks", time.Since(began))
	})
	g.When("the agent's token is given the right, it is gone with the agent's next full sync", func() {
		tokens, _, err := g.secured.Client.ACL().TokenList(nil)
		g.Must(err)
		for _, token := range tokens {
			if len(token.TemplatedPolicies) > 0 {
				_, _, err := g.secured.Client.ACL().TokenUpdate(&api.ACLToken{
					AccessorID: token.AccessorID, NodeIdentities: []*api.ACLNodeIdentity{{NodeName: "secured-" + node.Name, Datacenter: "dc1"}},
				}, nil)
				g.Must(err)
			}
		}
		g.AwaitCatalog(g.Service(), 0)
	})
}

func TestFaultACLUntrustedAgent(t *testing.T) {
	g := guard(scenario.New(t, scenario.Long()), cluster.SecuredOptions{})
	began := time.Now()
	g.Given("agentlets that trust another CA than the agents'", func() {
		other, err := os.ReadFile(filepath.Join(filepath.Dir(g.Cluster.Kubeconfig()), "..", "pki", "ca.crt"))
		g.Must(err)
		g.install("consul.tls.ca=" + string(other))
	})
	g.When("a pod starts", func() {
		_, err := g.CreatePod("web", g.Sample(g.Annotations()))
		g.Must(err)
	})
	g.Then("the gate says so, and its message doesn't change", func() {
		g.awaitGate("web", contract.ConsulUnreachable, "authority", "--consul-ca-file")
		g.Pause(10 * time.Second)
		metrics, err := g.Kube.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces", g.Namespace, "pods", "web:19500", "proxy", "metrics").DoRaw(g.Ctx)
		g.Must(err)
		writes, err := scenario.Sum(metrics, "agentlet_requests_total", func(labels map[string]string) bool { return labels["operation"] == "patch_status" })
		g.Must(err)
		if writes < 1 || writes > 2 { // an earlier write may say that a container is not ready
			g.Errorf("the gate was written %g times", writes)
		}
		told(g.S, "the Consul agent's certificate is of another authority", "gate False, ConsulUnreachable, with what to do; one write", time.Since(began))
	})
	g.When("the server name is not in the agents' certificates", func() {
		g.Must(g.Install(g.Ctx, "consul.port="+strconv.Itoa(cluster.SecuredPort), "consul.scheme=https", g.inline(), "consul.tls.serverName=consul.example"))
		_, err := g.CreatePod("named", g.Sample(g.Annotations()))
		g.Must(err)
	})
	g.Then("the gate says which names they have", func() {
		g.awaitGate("named", contract.ConsulUnreachable, "client.dc1.consul", "--consul-tls-server-name")
	})
	g.When("the certificates are trusted, and no token is sent", func() {
		g.Must(g.Install(g.Ctx, "consul.port="+strconv.Itoa(cluster.SecuredPort), "consul.scheme=https", g.inline()))
		_, err := g.CreatePod("anonymous", g.Sample(g.Annotations()))
		g.Must(err)
	})
	g.Then("the gate says that a token is missing", func() {
		g.awaitGate("anonymous", contract.RegistrationRejected, "anonymous token", "--consul-token-file")
	})
}
