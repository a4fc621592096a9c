package check

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/internal/cli/apiproxy"
)

// fakeConsul has nodes at 10.0.0.1 to 10.0.0.120, except every tenth. The one at 10.0.0.2 has failed.
func fakeConsul(t *testing.T, queries *[]string) http.Handler {
	t.Helper()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		filter := r.URL.Query().Get("filter")
		*queries = append(*queries, filter)
		var answer []map[string]string
		switch r.URL.Path {
		case "/v1/health/state/critical":
			answer = append(answer, map[string]string{"CheckID": "serfHealth", "Node": "node2"})
		case "/v1/catalog/nodes":
			for i := range 120 {
				if address := fmt.Sprintf("10.0.0.%d", i); i%10 > 0 && strings.Contains(filter, `"`+address+`"`) {
					answer = append(answer, map[string]string{"Node": fmt.Sprintf("node%d", i), "Address": address})
				}
			}
		default:
			t.Errorf("unexpected %s", r.URL.Path)
		}
		_ = json.NewEncoder(w).Encode(answer)
	})
}

func TestNodesOfConsul(t *testing.T) {
	var queries []string
	server := httptest.NewUnstartedServer(fakeConsul(t, &queries))
	socket := filepath.Join(t.TempDir(), "s")
	listener, err := new(net.ListenConfig).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	onSocket := &http.Server{Handler: server.Config.Handler}
	go func() { _ = onSocket.Serve(listener) }()
	t.Cleanup(func() { onSocket.Close() })
	server.Start()
	t.Cleanup(server.Close)

	var addresses []string
	for i := range 120 {
		addresses = append(addresses, fmt.Sprintf("10.0.0.%d", i))
	}
	for _, address := range []string{server.URL, server.Listener.Addr().String(), "unix://" + socket} {
		queries = nil
		consul, err := NewAPI(address)
		if err != nil {
			t.Fatal(err)
		}
		alive, err := consul.Nodes(t.Context(), addresses)
		if err != nil || len(alive) != 108 || alive["10.0.0.2"] || !alive["10.0.0.119"] {
			t.Errorf("%s: %d nodes, %v", address, len(alive), err)
		}
		if len(queries) != 4 || queries[0] != `CheckID == "serfHealth"` || !strings.HasPrefix(queries[1], `Address == "10.0.0.0" or Address == "10.0.0.1" or `) {
			t.Errorf("%q", queries)
		}
	}
}

func TestConsulIsReadToABound(t *testing.T) {
	for name, test := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"too much":   {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(bytes.Repeat([]byte(" "), 2<<20)) }, apiproxy.ErrTooLarge},
		"a redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, apiproxy.ErrRedirected},
	} {
		server := httptest.NewServer(test.answer)
		consul, err := NewAPI(server.URL)
		if err != nil {
			t.Fatal(err)
		}
		if _, err = consul.Version(t.Context()); err == nil || !strings.Contains(err.Error(), test.want.Error()) {
			t.Errorf("%s: %v", name, err)
		}
		if _, err = consul.Nodes(t.Context(), []string{"10.0.0.1"}); err == nil || !strings.Contains(err.Error(), test.want.Error()) {
			t.Errorf("%s: %v", name, err)
		}
		server.Close()
	}
}

// TestNodesOfARealConsul checks that a real Consul understands the filters.
func TestNodesOfARealConsul(t *testing.T) {
	agent := consultest.Start(t)
	nodes := []*api.CatalogRegistration{
		{Node: "well", Address: "10.0.0.1"},
		{Node: "failed", Address: "10.0.0.2", Check: &api.AgentCheck{Node: "failed", CheckID: "serfHealth", Name: "Serf Health Status", Status: api.HealthCritical}},
		{Node: "other", Address: "10.0.0.3", Check: &api.AgentCheck{Node: "other", CheckID: "disk", Name: "disk", Status: api.HealthCritical}},
		{Node: "not-asked", Address: "10.0.0.4"},
	}
	for _, node := range nodes {
		if _, err := agent.Client.Catalog().Register(node, nil); err != nil {
			t.Fatal(err)
		}
	}
	consul, err := NewAPI(agent.Address)
	if err != nil {
		t.Fatal(err)
	}
	alive, err := consul.Nodes(t.Context(), []string{"10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.9", `a"b\`, "fd00::1"})
	if diff := cmp.Diff(map[string]bool{"10.0.0.1": true, "10.0.0.2": false, "10.0.0.3": true}, alive); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if version, err := consul.Version(t.Context()); version == "" || err != nil {
		t.Errorf("%q, %v", version, err)
	}
}
