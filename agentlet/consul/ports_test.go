package consul_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

const twoPorts = "[{name: web, ports: [{name: http, port: 8080, default: %v}, {name: admin, port: 9090, default: %v}]}]"

// inCatalog is the one instance of web in the catalog, as its clients get it; nil where there is none.
func inCatalog(t *testing.T, server *consultest.Agent) *api.AgentService {
	t.Helper()
	entries, _, err := server.Client.Health().Service("web", "", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) == 0 {
		return nil
	}
	return entries[0].Service
}

// TestNamedPorts has the ports of a service in a real Consul's catalog, where the registration stays as it was put. Another default
// port gets there too, though Consul doesn't compare which one that is: the tagged addresses that the agent adds have its number.
func TestNamedPorts(t *testing.T) {
	server := consultest.Start(t)
	agent := &counting{Client: newClient(t, server.Address), times: map[string]int{}}
	r, kube := running(t, server, structured(fmt.Sprintf(twoPorts, true, false)), agent)
	eventually(t, "an open gate", kube.Open)
	at := func(port int) bool { s := inCatalog(t, server); return s != nil && s.Port == port }

	want := api.ServicePorts{{Name: "http", Port: 8080, Default: true}, {Name: "admin", Port: 9090}}
	if diff := cmp.Diff(want, inCatalog(t, server).Ports); diff != "" || !at(8080) {
		t.Errorf("at port %d; ports (-want +got):\n%s", inCatalog(t, server).Port, diff)
	}
	observed, err := agent.Instances(t.Context(), prefix)
	if err != nil {
		t.Fatal(err)
	}
	have := observed[prefix+"web"].Definition
	if diff := cmp.Diff([]registration.Port{{Name: "http", Port: 8080, Default: true}, {Name: "admin", Port: 9090}}, have.Ports); diff != "" || have.Port != 8080 {
		t.Errorf("the agent's is at port %d; ports (-want +got):\n%s", have.Port, diff)
	}

	r.OnUpdate(structured(fmt.Sprintf(twoPorts, false, true)))
	eventually(t, "another default port", func() bool { return at(9090) })
	r.OnUpdate(structured("[{name: web, port: 8081}]"))
	eventually(t, "one port without a name", func() bool { return at(8081) && inCatalog(t, server).Ports == nil })
	r.OnUpdate(structured("[{name: web, port: none}]"))
	eventually(t, "no port", func() bool { return at(0) })
	r.OnUpdate(structured(fmt.Sprintf(twoPorts, true, false)))
	eventually(t, "named ports again", func() bool { return at(8080) && len(inCatalog(t, server).Ports) == 2 })
	agent.mu.Lock()
	defer agent.mu.Unlock()
	if times := agent.times[prefix+"web"]; times < 5 || times > 8 { // a slow catalog may make the agent sync again
		t.Errorf("five definitions were registered %d times", times)
	}
}

// oldAgent stands before a real agent and answers as one of Consul 1.21 does, which takes no definition with a field that it
// doesn't know.
func oldAgent(t *testing.T, server *consultest.Agent) *sickAgent {
	t.Helper()
	agent := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: server.Address})
	agent.ErrorLog = log.New(io.Discard, "", 0)
	old := newSickAgent(t, server)
	old.fall(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		switch {
		case err != nil: // ended by the client
			return
		case r.URL.Path == "/v1/agent/version":
			fmt.Fprint(w, `{"SHA": "4c0d1d29", "HumanVersion": "1.21.5\n"}`)
			return
		case r.URL.Path == "/v1/agent/service/register" && bytes.Contains(body, []byte(`"Ports"`)):
			http.Error(w, `Request decode failed: json: unknown field "Ports"`, http.StatusBadRequest)
			return
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		agent.ServeHTTP(w, r)
	})
	return old
}

// TestNamedPortsNeedANewerAgent holds that an older agent gets none of a service with named ports, that the gate says so, and that
// the agent's upgrade is all that is needed.
func TestNamedPortsNeedANewerAgent(t *testing.T) {
	server := consultest.Start(t)
	old := oldAgent(t, server)
	client := newClient(t, old.address())
	r, kube, _ := start(t, old.address(), structured("[{name: web, port: 8080}]"), agentlet.Config{Agent: client, View: client, Catalog: client})
	eventually(t, "an open gate", kube.Open)

	second := structured(fmt.Sprintf(twoPorts, true, false))
	second.Name, second.UID = "web-2", "87654321-0000-0000-0000-000000000000"
	_, refused, _ := start(t, old.address(), second, agentlet.Config{Agent: client, View: client, Catalog: client})
	eventually(t, "the refusal", func() bool { return refused.Gate().Reason == string(contract.RegistrationRejected) })
	const want = "refused: register agentlet_shop_web-2_87654321_web: rejected by the Consul agent: Consul 1.21.5 knows no named ports: " +
		"ports needs Consul 1.22 or newer, of the agents and the servers; until then give the service one port"
	if got := refused.Gate().Message; !strings.HasSuffix(got, want) || refused.Open() {
		t.Errorf("the gate, open: %v, says\n%s\nwant it to end with\n%s", refused.Open(), got, want)
	}
	// What a running pod has stays when it asks for them.
	r.OnUpdate(structured(fmt.Sprintf(twoPorts, false, true)))
	eventually(t, "the other pod's refusal", func() bool {
		return strings.Contains(r.Status().Failing["registration "+prefix+"web"], "knows no named ports")
	})
	services, err := server.Client.Agent().Services()
	if err != nil {
		t.Fatal(err)
	}
	if s := services[prefix+"web"]; len(services) != 1 || s == nil || s.Port != 8080 || s.Ports != nil {
		t.Errorf("the agent has %v, want the first definition alone", services)
	}

	old.fall(nil)
	eventually(t, "named ports with the new agent", func() bool {
		services, err := server.Client.Agent().Services()
		return err == nil && refused.Open() && len(services) == 2 && services[prefix+"web"].Port == 9090
	})
}

// TestAgentThatHidesItsVersion: the message doesn't depend on it.
func TestAgentThatHidesItsVersion(t *testing.T) {
	for name, version := range map[string]string{
		"none":               "",
		"no JSON":            "<html>",
		"another's":          "[]",
		"hostile":            `{"HumanVersion": "\u001b[31m"}`,
		"longer than a line": `{"HumanVersion": "` + strings.Repeat("ä", 100) + `"}`,
	} {
		t.Run(name, func(t *testing.T) {
			agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/v1/agent/version" && version != "" {
					fmt.Fprint(w, version)
					return
				}
				http.Error(w, `Request decode failed: json: unknown field "Ports"`, http.StatusBadRequest)
			}))
			defer agent.Close()
			d := web()
			client := newClient(t, strings.TrimPrefix(agent.URL, "http://"))
			if err := client.Register(t.Context(), d, contract.Passing, nil); err == nil || strings.Contains(err.Error(), "knows no named ports") {
				t.Errorf("without named ports: %v", err)
			}
			d.Ports = []registration.Port{{Name: "http", Port: 8080, Default: true}}
			err := client.Register(t.Context(), d, contract.Passing, nil)
			if !errors.Is(err, agentlet.ErrRejected) || !strings.Contains(err.Error(), " knows no named ports") || len(err.Error()) > 300 ||
				registration.HasControl(err.Error()) {
				t.Errorf("Register = %v", err)
			}
		})
	}
}

// TestPingsAndDatagrams has a real agent run the checks of the kinds h2ping and udp.
func TestPingsAndDatagrams(t *testing.T) {
	server := consultest.Start(t)
	plain := httptest.NewUnstartedServer(http.NotFoundHandler())
	plain.Config.Protocols = new(http.Protocols)
	plain.Config.Protocols.SetUnencryptedHTTP2(true)
	plain.Start()
	defer plain.Close()
	secured := httptest.NewUnstartedServer(http.NotFoundHandler())
	secured.EnableHTTP2 = true
	asked := make(chan string, 64)
	secured.TLS = &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		select {
		case asked <- hello.ServerName:
		default:
		}
		return nil, nil //nolint:nilnil // the server's own
	}}
	secured.StartTLS()
	defer secured.Close()
	datagrams := func(answers bool) string {
		c, err := (&net.ListenConfig{}).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		go func() {
			for {
				_, from, err := c.ReadFrom(make([]byte, 1))
				if err != nil {
					return
				}
				if answers {
					_, _ = c.WriteTo([]byte("."), from)
				}
			}
		}()
		return portOf(t, c.LocalAddr().String())
	}
	echo, silent := datagrams(true), datagrams(false)

	const every = ", interval: 1s, name: "
	checks := []string{
		"{h2ping: ':" + portOf(t, plain.Listener.Addr().String()) + "', h2ping_use_tls: false" + every + "plain}",
		"{h2ping: ':" + portOf(t, secured.Listener.Addr().String()) + "', tls_skip_verify: true, tls_server_name: web.example" + every + "secured}",
		"{h2ping: ':tls'" + every + "untrusted}",
		"{udp: ':" + echo + "'" + every + "echo}",
		"{udp: ':" + silent + "'" + every + "silent}",
		"{udp: ':" + silent + "', status: passing" + every + "hopeful}",
		"{udp: ':1', status: passing" + every + "closed}",
	}
	running(t, server, structured("[{name: web, ports: [{name: tls, port: "+portOf(t, secured.Listener.Addr().String())+", default: true}], checks: ["+
		strings.Join(checks, ", ")+"]}]"), newClient(t, server.Address))
	want := map[string]string{
		"plain": "passing HTTP2 ping was successful", "secured": "passing HTTP2 ping was successful", "untrusted": "critical Failed to dial",
		"echo": "passing UDP connect", "silent": "critical", "hopeful": "passing", "closed": "critical read udp",
	}
	var have map[string]string
	eventually(t, "all results", func() bool {
		have = map[string]string{}
		found, err := server.Client.Agent().Checks() // the catalog gets an output late where the status stays
		if err != nil {
			t.Fatal(err)
		}
		missing := len(want)
		for _, c := range found {
			have[c.Name] = c.Status + " " + c.Output
			if result, own := want[c.Name]; own && strings.HasPrefix(have[c.Name], result) {
				missing--
			}
		}
		return missing == 0
	})
	for name := ""; name != "web.example"; {
		select {
		case name = <-asked: // the other check's is empty: Go names no IP
		case <-time.After(30 * time.Second):
			t.Fatal("no check asked for web.example")
		}
	}
	if have["silent"] != "critical " || have["hopeful"] != "passing " {
		t.Errorf("without an answer: %q, %q; want them as they began", have["silent"], have["hopeful"])
	}
}

func portOf(t *testing.T, address string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	return port
}
