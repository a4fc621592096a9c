package main

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestProbeConsul(t *testing.T) {
	const self = `{"Config":{"Version":"1.22.7","NodeName":"node1"},"DebugConfig":{"LeaveOnTerm":true}}`
	ok := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
	}
	denies := func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "Permission denied: anonymous token lacks permission 'agent:read'", http.StatusForbidden)
	}
	filtered := func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Consul-Results-Filtered-By-ACLs", "true")
		_, _ = io.WriteString(w, "[]")
	}
	for name, c := range map[string]struct {
		leader, self, nodes http.HandlerFunc
		want                contract.AgentProbe
		wantError           string
	}{
		"an agent": {
			ok(`"10.0.0.1:8300"`), ok(self), ok(`[{"Node":"node1"}]`),
			contract.AgentProbe{Leader: "10.0.0.1:8300", Version: "1.22.7", Name: "node1", LeavesOnTerminate: true, InCatalog: new(true)},
			"",
		},
		"an agent that the catalog doesn't have": {
			ok(`"a"`), ok(self), ok(`[]`),
			contract.AgentProbe{Leader: "a", Version: "1.22.7", Name: "node1", LeavesOnTerminate: true, InCatalog: new(false)},
			"",
		},
		"an agent without a leader": {
			ok(`""`), ok(self), func(w http.ResponseWriter, _ *http.Request) {
				http.Error(w, "No cluster leader", http.StatusInternalServerError)
			},
			contract.AgentProbe{Version: "1.22.7", Name: "node1", LeavesOnTerminate: true},
			"",
		},
		"an agent with ACLs":             {ok(`"a"`), denies, ok(`[]`), contract.AgentProbe{Leader: "a", NeedsToken: true}, ""},
		"an agent with hidden nodes":     {ok(`"a"`), ok(`{"Config":{"Version":"1.22.7"}}`), filtered, contract.AgentProbe{Leader: "a", Version: "1.22.7"}, ""},
		"another program":                {ok("hello"), ok("hello"), ok("hello"), contract.AgentProbe{}, "no Consul agent"},
		"another program that says JSON": {ok(`"a"`), ok(`{}`), ok(`[]`), contract.AgentProbe{}, "no Consul agent"},
		"another program's 404":          {http.NotFound, http.NotFound, http.NotFound, contract.AgentProbe{}, "status 404"},
		"a redirect": {
			func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://192.0.2.1/", http.StatusFound)
			}, nil, nil,
			contract.AgentProbe{},
			"status 302",
		},
	} {
		t.Run(name, func(t *testing.T) {
			mux := http.NewServeMux()
			for path, handler := range map[string]http.HandlerFunc{"/v1/status/leader": c.leader, "/v1/agent/self": c.self} {
				if handler != nil {
					mux.HandleFunc(path, handler)
				}
			}
			mux.HandleFunc("/v1/catalog/nodes", func(w http.ResponseWriter, r *http.Request) {
				if got := r.URL.Query().Get("filter"); got != `Address == "127.0.0.1"` {
					t.Errorf("filter %s", got)
				}
				c.nodes(w, r)
			})
			for scheme, start := range map[string]func(http.Handler) *httptest.Server{"http": httptest.NewServer, "https": httptest.NewTLSServer} {
				server := start(mux)
				defer server.Close()
				got := probed(t, scheme, server.Listener.Addr())
				if c.wantError != "" && strings.Contains(got.Error, c.wantError) {
					got.Error = ""
				} else if c.wantError != "" {
					t.Errorf("%s: error %q, want %q", scheme, got.Error, c.wantError)
				}
				if !reflect.DeepEqual(got, c.want) {
					t.Errorf("%s: %+v, want %+v", scheme, got, c.want)
				}
			}
		})
	}
	t.Run("nothing", func(t *testing.T) {
		server := httptest.NewServer(http.NotFoundHandler())
		server.Close()
		if got := probed(t, "http", server.Listener.Addr()); !strings.Contains(got.Error, "refused") {
			t.Errorf("%+v", got)
		}
	})
}

// probed runs the command against an address, and returns what it writes to stdout and to its file, which must be the same.
func probed(t *testing.T, scheme string, address net.Addr) (found contract.AgentProbe) {
	t.Helper()
	host, port, err := net.SplitHostPort(address.String())
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "result")
	var stdout bytes.Buffer
	env := func(name string) string { return map[string]string{contract.EnvHostIP: host}[name] }
	args := []string{"probe-consul", "--consul-port=" + port, "--consul-scheme=" + scheme, "--to=" + file}
	if err := command(t.Context(), args, env, &stdout, io.Discard); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(file)
	if err != nil || string(text)+"\n" != stdout.String() {
		t.Errorf("file %q, stdout %q: %v", text, stdout.String(), err)
	}
	if err := json.Unmarshal(text, &found); err != nil {
		t.Fatal(err)
	}
	return found
}

func TestProbeConsulOfBadInput(t *testing.T) {
	env := func(string) string { return "10.0.0.1" }
	for name, c := range map[string]struct {
		args []string
		env  func(string) string
		want string
	}{
		"no address":     {nil, func(string) string { return "" }, "environment variable HOST_IP is missing"},
		"another scheme": {[]string{"--consul-scheme=ftp"}, env, `--consul-scheme="ftp": must be http or https`},
		"another flag":   {[]string{"--x"}, env, "-x"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := probeConsul(t.Context(), c.args, c.env, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v", err)
			}
		})
	}
}
