package scenarios_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// The load of the callee's rolling restart, through both proxies.
const (
	callees  = 2
	callRate = 50
)

// mesh is a scenario with pods in Consul's mesh. Their proxies are Consul's built-in one.
type mesh struct{ *scenario.S }

// install makes the chart add that proxy, with more values, until the scenario's end.
func (m mesh) install(values ...string) {
	m.Helper()
	m.Must(m.Cluster.LoadConsul(m.Ctx))
	m.Afterwards(4*time.Minute, func(ctx context.Context) {
		if m.Failed() {
			log, _ := m.Kubectl(ctx, "-n", m.Namespace, "logs", "-l", "mesh=yes", "-c", contract.ProxyContainerName, "--prefix", "--tail=40")
			m.Log(log)
		}
		// Delete the pods first, while the webhook still has the settings with which they were injected.
		if _, err := m.Kubectl(ctx, "-n", m.Namespace, "delete", "deployments,pods", "--all", "--timeout=90s"); err != nil {
			m.Errorf("remove workloads: %v", err)
		}
		if err := m.Install(ctx); err != nil {
			m.Errorf("install the chart as it was: %v", err)
		}
	})
	m.Must(m.Install(m.Ctx, append([]string{"connect.image=" + cluster.ConsulImage, "connect.proxy=builtin"}, values...)...))
}

// member returns a template of pods that register a service in the mesh, with upstreams in the form of Consul's definition.
func (m mesh) member(service, upstreams string) corev1.PodTemplateSpec {
	template := m.Sample(m.Annotations("service-names", "", "connect-inject", "true",
		"services", fmt.Sprintf("[{name: %s, port: http, connect: {sidecar_service: {proxy: {upstreams: %s}}}}]", service, upstreams)))
	template.Labels["mesh"] = "yes"
	return template
}

// caller creates a pod under this service account. Its application calls the scenario's service, and returns the answer.
func (m mesh) caller(account string) *corev1.Pod {
	m.Helper()
	template := m.member(m.Service()+"-caller", fmt.Sprintf("[{destination_name: %s, local_bind_port: 9191}]", m.Service()))
	template.Labels["app"] = "caller"
	template.Spec.ServiceAccountName = account
	scenario.SetEnv(&template, "UPSTREAM", "127.0.0.1:9191")
	_, err := m.CreatePod("caller", template)
	m.Must(err)
	return m.AwaitReady("caller")
}

// ask sends a request to the caller, and returns the callee's answer, or "".
func (m mesh) ask(caller *corev1.Pod) string {
	m.Helper()
	request, err := http.NewRequestWithContext(m.Ctx, http.MethodGet, "http://"+net.JoinHostPort(caller.Status.PodIP, "8080")+"/", nil)
	m.Must(err)
	response, err := (&http.Client{Timeout: 10 * time.Second}).Do(request)
	m.Must(err)
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	m.Must(err)
	if response.StatusCode != http.StatusOK {
		return ""
	}
	return strings.TrimSpace(string(body))
}

// inARow is the number of requests in a row that most likely reach every callee. Each node's Consul agent learns of an intention
// at a different time.
const inARow = 20

// awaitAnswer waits until the caller always gets an answer, or never.
func (m mesh) awaitAnswer(caller *corev1.Pod, answers bool) {
	m.Helper()
	m.Eventually(fmt.Sprintf("answer: %t", answers), func(context.Context) (bool, error) {
		for n := range inARow {
			if said := m.ask(caller); strings.HasPrefix(said, "sample-") != answers {
				return false, fmt.Errorf("request %d of %d in a row: the caller heard %q", n+1, inARow, said)
			}
		}
		return true, nil
	})
}

// intend sets the intention from the caller to the callee, until the scenario's end.
func (m mesh) intend(action api.IntentionAction) {
	m.Helper()
	entries := m.Consul.ConfigEntries()
	_, _, err := entries.Set(&api.ServiceIntentionsConfigEntry{
		Kind: api.ServiceIntentions, Name: m.Service(), Sources: []*api.SourceIntention{{Name: m.Service() + "-caller", Action: action}},
	}, (&api.WriteOptions{}).WithContext(m.Ctx))
	m.Must(err)
	m.Cleanup(func() {
		if _, err := entries.Delete(api.ServiceIntentions, m.Service(), nil); err != nil {
			m.Errorf("forget the intention: %v", err)
		}
	})
}

// hear makes the callees' agents check the intention now, because they may not do so by themselves.
func (m mesh) hear() {
	m.Helper()
	for _, pod := range m.Pods(m.Ctx) {
		m.Must(consultest.HearIntentions(m.Ctx, consulOf(m.S, &pod), m.Service()))
	}
}

// proxies returns the service's mesh proxies whose checks pass.
func (m mesh) proxies(service string) []*api.ServiceEntry {
	m.Helper()
	entries, _, err := m.Consul.Health().Connect(service, "", true, (&api.QueryOptions{}).WithContext(m.Ctx))
	m.Must(err)
	return entries
}

// identity returns the identity in a proxy's certificate. The proxy rejects connections without a client certificate.
func (m mesh) identity(proxy *api.ServiceEntry) string {
	m.Helper()
	address := net.JoinHostPort(proxy.Service.Address, fmt.Sprint(proxy.Service.Port))
	dialer := tls.Dialer{Config: &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}} // it is read, not verified
	connection, err := dialer.DialContext(m.Ctx, "tcp", address)
	m.Must(err)
	defer connection.Close()
	peer := connection.(*tls.Conn).ConnectionState().PeerCertificates[0]
	_, _ = fmt.Fprint(connection, "GET / HTTP/1.0\r\n\r\n")
	if n, err := connection.Read(make([]byte, 1)); n > 0 || err == nil {
		m.Error("the proxy answers a client without a certificate")
	}
	return peer.URIs[0].Path
}

// loginsOf returns an auth method's login tokens that were not logged out.
func (g guarded) loginsOf(method string) []*api.ACLTokenListEntry {
	return slices.DeleteFunc(g.logins(), func(token *api.ACLTokenListEntry) bool { return token.AuthMethod != method })
}

// TestConnectLogin uses a Consul with TLS, ACLs that deny by default, and two auth methods: one for agentlets and one for their
// proxies.
func TestConnectLogin(t *testing.T) {
	g := guard(scenario.New(t, scenario.Long()), cluster.SecuredOptions{})
	m := mesh{g.S}
	g.forget()
	accounts := []string{g.Service(), g.Service() + "-caller"}
	g.Given("an auth method for agentlets, one without a token TTL for their proxies, and an account for each service", func() {
		g.Must(g.Cluster.LoadConsul(g.Ctx))
		for _, account := range accounts {
			_, err := g.Kubectl(g.Ctx, "-n", g.Namespace, "create", "serviceaccount", account)
			g.Must(err)
		}
		_, err := g.Kubectl(g.Ctx, "-n", g.Namespace, "create", "configmap", "consul-ca", "--from-file=ca.crt="+filepath.Join(g.secured.Dir, "ca.crt"))
		g.Must(err)
		g.run("method-jwt.sh")
		g.run("rule-jwt.sh")
		method, _, err := g.secured.Client.ACL().AuthMethodRead("agentlet", nil)
		g.Must(err)
		method.Name, method.MaxTokenTTL = "proxies", 0
		_, _, err = g.secured.Client.ACL().AuthMethodCreate(method, nil)
		g.Must(err)
		g.run("rule-jwt.sh", "-method agentlet", "-method proxies")
		g.install("consul.tls.configMapName=consul-ca", "consul.acl.mode=login", "consul.acl.authMethod=agentlet", "consul.acl.audience=consul",
			"connect.image="+cluster.ConsulImage, "connect.proxy=builtin", "connect.authMethod=proxies")
	})
	var caller *corev1.Pod
	g.When("two pods of the mesh run, and an intention lets one call the other", func() {
		template := m.member(g.Service(), "[]")
		template.Spec.ServiceAccountName = accounts[0]
		_, err := g.CreatePod("sample-0", template)
		g.Must(err)
		caller = m.caller(accounts[1])
		g.AwaitReady("sample-0")
		m.intend(api.IntentionActionAllow)
	})
	g.Then("the call succeeds, and each pod and each proxy has its own token", func() {
		m.awaitAnswer(caller, true)
		if own, proxies := len(g.loginsOf("agentlet")), len(g.loginsOf("proxies")); own != 2 || proxies != 2 {
			g.Errorf("%d tokens of agentlets and %d of proxies, want two each", own, proxies)
		}
	})
	g.When("they are deleted", func() { g.Delete("sample-0"); g.Delete("caller"); g.AwaitGone(caller) })
	g.Then("no instance and no token is left", func() {
		g.AwaitCatalog(contract.ProxyName(g.Service()), 0)
		g.awaitLogins(0)
	})
}

func TestConnectMesh(t *testing.T) {
	m := mesh{scenario.New(t, scenario.Long())}
	var caller *corev1.Pod
	m.Given("a service of the mesh with two pods, and one with an upstream", func() {
		m.install()
		m.Deployment(callees, m.member(m.Service(), "[]"))
		caller = m.caller("default")
		m.Rollout()
	})
	m.Then("Ready means that the catalog has the service and its proxy, and that both pass", func() {
		if services, proxies := len(m.Passing(m.Service())), m.proxies(m.Service()); services != callees || len(proxies) != callees {
			m.Errorf("%d passing instances and %d proxies, want %d each", services, len(proxies), callees)
		}
		for _, pod := range m.Pods(m.Ctx) {
			if names := pod.Spec.InitContainers; len(names) != 2 || names[0].Name != contract.ContainerName || names[1].Name != contract.ProxyContainerName {
				m.Errorf("the sidecars of %s are not the agentlet and then the proxy", pod.Name)
			}
		}
	})
	m.Then("requests go from proxy to proxy by mTLS", func() {
		m.awaitAnswer(caller, true)
		for _, proxy := range m.proxies(m.Service()) {
			if got := m.identity(proxy); !strings.HasSuffix(got, "/svc/"+m.Service()) {
				m.Errorf("the proxy is %s", got)
			}
		}
	})
	client := load.Fixed(net.JoinHostPort(caller.Status.PodIP, "8080"))
	m.When("the callee is restarted under load", func() {
		before := m.Pods(m.Ctx)
		loading, enough := context.WithCancel(m.Ctx)
		defer enough()
		done := make(chan struct{})
		go func() { defer close(done); client.Run(loading, callRate) }()
		m.Restart()
		m.Rollout()
		for i := range before {
			m.AwaitGone(&before[i])
		}
		enough()
		<-done
	})
	m.Then("no request failed", func() {
		requests, failed := client.Counts()
		if err := client.Check(); err != nil {
			m.Error(err)
		}
		m.Logf("%d requests, %d failed", requests, failed)
	})
	m.Then("no proxy is left of the old pods", func() {
		now := m.Pods(m.Ctx)
		for _, proxy := range m.Catalog(contract.ProxyName(m.Service())) {
			if !slices.ContainsFunc(now, func(pod corev1.Pod) bool { return pod.Name == proxy.Service.Meta[contract.MetaPod] }) {
				m.Errorf("the catalog has %s", proxy.Service.ID)
			}
		}
	})
	last := load.Fixed(net.JoinHostPort(caller.Status.PodIP, "8080"))
	m.When("the caller is deleted, and gets requests until its end", func() {
		loading, enough := context.WithCancel(m.Ctx)
		defer enough()
		done := make(chan struct{})
		go func() { defer close(done); last.Run(loading, callRate) }()
		m.Delete(caller.Name)
		m.AwaitGone(caller)
		enough()
		<-done
	})
	m.Then("it could reach its upstream as long as it ran", func() {
		requests, failed := last.Counts()
		for what, times := range last.Errors() {
			if strings.HasPrefix(what, "answered") {
				m.Errorf("%d of %d requests in the drain: %s", times, requests, what)
			}
		}
		if requests == failed {
			m.Errorf("none of %d requests was answered: %v", requests, last.Errors())
		}
		m.Logf("%d answers in the drain", requests-failed)
	})
	m.When("another caller comes", func() {
		caller = m.caller("default")
		m.awaitAnswer(caller, true)
	})
	for _, action := range []api.IntentionAction{api.IntentionActionDeny, api.IntentionActionAllow, api.IntentionActionDeny, api.IntentionActionAllow} {
		var changed time.Time
		m.When("an intention says: "+string(action), func() {
			m.intend(action)
			changed = time.Now()
			m.hear()
		})
		m.Then("the running proxies enforce it", func() {
			m.awaitAnswer(caller, action == api.IntentionActionAllow)
			m.Logf("%s: heeded in %d requests in a row, the last of them %s after the change", action, inARow, time.Since(changed).Round(time.Millisecond))
		})
	}
}
