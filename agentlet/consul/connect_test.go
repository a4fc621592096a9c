package consul_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/agentlettest"
	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// counting counts the registrations.
type counting struct {
	*consul.Client
	mu    sync.Mutex
	times map[string]int
}

func (c *counting) Register(ctx context.Context, d agentlet.Definition, health contract.Health, obsolete []string) error {
	c.mu.Lock()
	c.times[d.ID]++
	c.mu.Unlock()
	return c.Client.Register(ctx, d, health, obsolete)
}

// TestMesh has two pods in the mesh of a real Consul, with its built-in proxy: each is registered at once, is let in when its
// proxy listens, and reaches the other as intentions say.
func TestMesh(t *testing.T) {
	server := consultest.Start(t)
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "hello") }))
	defer application.Close()
	port := application.Listener.Addr().(*net.TCPAddr).Port
	ports := consultest.FreePorts(t, 3)

	callee := meshPod("db-0", fmt.Sprintf("[{name: db, port: %d, connect: {sidecar_service: {port: %d}}}]", port, ports[0]))
	caller := meshPod("web-1", fmt.Sprintf("[{name: web, port: %d, connect: {sidecar_service: {port: %d, proxy: {upstreams: [{destination_name: db, local_bind_port: %d}]}}}}]",
		port, ports[1], ports[2]))
	var registrars []*agentlet.Registrar
	var gates []*agentlettest.Ports
	agent := &counting{Client: newClient(t, server.Address), times: map[string]int{}}
	for i, watched := range []*corev1.Pod{callee, caller} {
		r, kube := running(t, server, watched, agent)
		registrars, gates = append(registrars, r), append(gates, kube)
		service := []string{"db", "web"}[i]
		eventually(t, "a registered proxy", func() bool { return server.Proxy(t, service) != nil })
		if health := server.Proxy(t, service).Checks.AggregatedStatus(); health != api.HealthCritical {
			t.Errorf("%s's proxy is %s before it runs", service, health)
		}
		// In the way in which the injected container runs it.
		consultest.Run(t, []string{
			contract.EnvProxyID + "=" + contract.ProxyID("shop", watched.Name, string(watched.UID), service), "CONSUL_HTTP_ADDR=http://" + server.Address,
		}, "connect", "proxy")
	}
	for _, gate := range gates {
		eventually(t, "an open gate", gate.Open)
	}

	say := func() string {
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/", ports[2]), http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
		response, err := client.Do(request)
		if err != nil {
			return ""
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return string(body)
	}
	eventually(t, "an answer through both proxies", func() bool { return say() == "hello" })
	asProxy, err := api.NewClient(&api.Config{Address: server.Address}) // without a token, too
	if err != nil {
		t.Fatal(err)
	}
	for _, intend := range []struct {
		action api.IntentionAction
		answer string
	}{{api.IntentionActionDeny, ""}, {api.IntentionActionAllow, "hello"}, {api.IntentionActionDeny, ""}} {
		if _, _, err := server.Client.ConfigEntries().Set(&api.ServiceIntentionsConfigEntry{
			Kind: api.ServiceIntentions, Name: "db", Sources: []*api.SourceIntention{{Name: "web", Action: intend.action}},
		}, nil); err != nil {
			t.Fatal(err)
		}
		changed := time.Now()
		if err := consultest.HearIntentions(t.Context(), asProxy, "db"); err != nil {
			t.Fatal(err)
		}
		eventually(t, "what the intention says: "+string(intend.action), func() bool { return say() == intend.answer })
		t.Logf("%s: heeded after %s", intend.action, time.Since(changed).Round(time.Millisecond))
	}

	// What Consul makes of a registration is what was meant: it isn't put again and again. A slow catalog may make the agent sync again.
	agent.mu.Lock()
	defer agent.mu.Unlock()
	if len(agent.times) != 4 {
		t.Errorf("registered: %v, want two services with a proxy each", agent.times)
	}
	for id, times := range agent.times {
		if times > 3 {
			t.Errorf("%s was registered %d times", id, times)
		}
	}
	gone := callee.DeepCopy()
	gone.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	registrars[0].OnUpdate(gone)
	eventually(t, "an end of the callee's proxy", func() bool { return server.Proxy(t, "db") == nil })
}

// TestProxyStaysAsPut has Consul's configuration entries say how all proxies are to run. One that took that would get
// upstreams which its pod never named, and would be put again and again.
func TestProxyStaysAsPut(t *testing.T) {
	server := consultest.Start(t)
	for _, entry := range []api.ConfigEntry{
		&api.ProxyConfigEntry{
			Kind: api.ProxyDefaults, Name: api.ProxyConfigGlobal, Mode: api.ProxyModeTransparent,
			MeshGateway: api.MeshGatewayConfig{Mode: api.MeshGatewayModeLocal}, Config: map[string]any{"protocol": "http"},
		},
		&api.ServiceConfigEntry{Kind: api.ServiceDefaults, Name: "web", UpstreamConfig: &api.UpstreamConfiguration{
			Overrides: []*api.UpstreamConfig{{Name: "elsewhere", ConnectTimeoutMs: 1000}},
		}},
	} {
		if _, _, err := server.Client.ConfigEntries().Set(entry, nil); err != nil {
			t.Fatal(err)
		}
	}
	put := web()
	put.Name, put.ProxyFor, put.ProxyForName = contract.ProxyName("web"), put.ID, "web"
	put.ID += "-sidecar-proxy"
	put.Proxy = &registration.Proxy{LocalServiceAddress: "127.0.0.1", LocalServicePort: 8080, Upstreams: []registration.Upstream{{
		DestinationType: "service", DestinationName: "db", LocalBindAddress: "127.0.0.1", LocalBindPort: 9191,
		Config: map[string]any{"protocol": "tcp"},
	}}}
	client := newClient(t, server.Address)
	if err := client.Register(t.Context(), put, contract.Passing, nil); err != nil {
		t.Fatal(err)
	}
	observed, err := client.Instances(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	got := observed[put.ID].Definition.Proxy
	if got == nil {
		t.Fatalf("the agent has %+v", observed)
	}
	if !reflect.DeepEqual(got.Upstreams, put.Proxy.Upstreams) {
		t.Errorf("the agent has the upstreams\n%+v\nwant\n%+v", got.Upstreams, put.Proxy.Upstreams)
	}
	// The entries did reach the agent: it has resolved the proxy's gateway by them.
	told, _, err := server.Client.Agent().Service(put.ID, nil)
	if err != nil {
		t.Fatal(err)
	}
	if told.Proxy.Mode != api.ProxyModeDirect || told.Proxy.MeshGateway.Mode != api.MeshGatewayModeLocal {
		t.Errorf("the proxy's mode is %q and its gateway %q, want its own mode and the entries' gateway", told.Proxy.Mode, told.Proxy.MeshGateway.Mode)
	}
}

func TestNative(t *testing.T) {
	server := consultest.Start(t)
	_, kube := running(t, server, structured("[{name: web, port: 8080, connect: {native: true}}]"), newClient(t, server.Address))
	eventually(t, "an open gate", kube.Open)
	if entry := server.Proxy(t, "web"); entry == nil || entry.Service.Service != "web" {
		t.Errorf("the mesh has %+v", entry)
	}
}

// TestEnvoysFirstConfiguration has Consul's launcher make what Envoy would be started with, by the injected container's
// environment. No Envoy is run.
func TestEnvoysFirstConfiguration(t *testing.T) {
	server := consultest.Start(t)
	watched := structured("[{name: web, port: 8080, connect: {sidecar_service: {}}}]")
	running(t, server, watched, newClient(t, server.Address))
	eventually(t, "a registered proxy", func() bool { return server.Proxy(t, "web") != nil })
	id := contract.ProxyID("shop", watched.Name, string(watched.UID), "web")
	command := exec.CommandContext(t.Context(), os.Getenv(consultest.Binary), "connect", "envoy", "-bootstrap")
	command.Env = append(os.Environ(), contract.EnvProxyID+"="+id, "CONSUL_HTTP_ADDR=http://"+server.Address, "CONSUL_GRPC_ADDR=http://10.0.0.1:8502")
	command.Stderr = t.Output()
	out, err := command.Output()
	if err != nil {
		t.Fatal(err)
	}
	var made struct {
		Node            struct{ ID, Cluster string }
		StaticResources struct {
			Clusters []struct {
				Name           string
				LoadAssignment json.RawMessage `json:"loadAssignment"`
			}
		} `json:"static_resources"`
	}
	if err := json.Unmarshal(out, &made); err != nil {
		t.Fatal(err)
	}
	if made.Node.ID != id || made.Node.Cluster != "web" || len(made.StaticResources.Clusters) == 0 ||
		!strings.Contains(string(made.StaticResources.Clusters[0].LoadAssignment), "10.0.0.1") {
		t.Errorf("Envoy would be started with\n%s", out)
	}
}

func meshPod(name, services string) *corev1.Pod {
	watched := structured(services)
	watched.Name, watched.UID = name, types.UID("12345678-0000-0000-0000-"+fmt.Sprintf("%012x", len(name)))
	return watched
}
