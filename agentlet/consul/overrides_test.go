package consul_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/agentlettest"
	local "github.com/agentlet/agentlet/agentlet/api"
	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestOverrides takes overrides from the application's HTTP call to the real catalog, and over a restart of the agentlet.
func TestOverrides(t *testing.T) {
	for name, c := range map[string]struct {
		configuration string
		output        string // of the readiness check in a maintenance
	}{
		"as a rule":                   {"", "maintenance: compaction"},
		"where outputs are discarded": {"discard_check_output = true", ""},
	} {
		t.Run(name, func(t *testing.T) { testOverrides(t, c.configuration, c.output) })
	}
}

func testOverrides(t *testing.T, configuration, output string) {
	server := consultest.Start(t, configuration)
	client := newClient(t, server.Address)
	watched := pod()
	watched.Annotations[contract.LocalAPI] = string(contract.LocalAPIEnabled)
	begin := func() (url string, end func()) {
		t.Helper()
		r := agentlet.New(agentlettest.New().Fill(agentlet.Config{
			Identity: agentlet.Identity{
				Namespace: "shop", Pod: "web-1", UID: string(watched.UID), Node: "node1", HostIP: "127.0.0.1", ConsulAddress: server.Address,
			},
			Agent: client, View: client, Catalog: client,
		}))
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() { defer close(done); _ = r.Run(ctx) }()
		listening := httptest.NewServer(local.New(r, "", slog.New(slog.DiscardHandler)).Handler())
		r.OnUpdate(watched)
		return listening.URL, func() { listening.Close(); cancel(); <-done }
	}
	put := func(url, path, body string) {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, url+path, strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Content-Type", "application/json")
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			t.Fatalf("%s %s: %s", path, body, response.Status)
		}
	}
	is := func(health, output string, tags ...string) bool {
		t.Helper()
		entries, _, err := server.Client.Health().Service("web", "", false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) != 1 || !slices.Equal(entries[0].Service.Tags, tags) {
			return false
		}
		return slices.ContainsFunc(entries[0].Checks, func(c *api.HealthCheck) bool {
			return c.CheckID == contract.ReadinessID(entries[0].Service.ID) && c.Status == health && c.Output == output
		})
	}
	noted := func(notes string) func() bool {
		return func() bool {
			entries, _, err := server.Client.Health().Service("web", "", false, nil)
			return err == nil && len(entries) == 1 && slices.ContainsFunc(entries[0].Checks, func(c *api.HealthCheck) bool {
				return c.CheckID == contract.ReadinessID(entries[0].Service.ID) && c.Notes == notes
			})
		}
	}
	url, end := begin()
	eventually(t, "passing", func() bool { return is(api.HealthPassing, "") })
	put(url, contract.TagsPath, `{"tags": ["primary"]}`)
	if !is(api.HealthPassing, "", "primary") {
		t.Error("the tag was not in the catalog when that was answered")
	}
	put(url, contract.MaintenancePath, `{"enabled": true, "reason": "compaction"}`)
	eventually(t, "the maintenance's reason", func() bool { return is(api.HealthCritical, output, "primary") })
	eventually(t, "the notes of it", noted("maintenance: compaction")) // from then on a restart finds it again
	end()
	url, end = begin()
	defer func() { end() }()
	eventually(t, "the tag's withdrawal, in maintenance", func() bool { return is(api.HealthCritical, output) })
	put(url, contract.MaintenancePath, `{"enabled": true, "reason": "restore"}`)
	eventually(t, "the notes of another reason", noted("maintenance: restore"))
	put(url, contract.MaintenancePath, `{"enabled": false}`)
	if !is(api.HealthPassing, "") {
		t.Error("it was not passing when that was answered")
	}
	eventually(t, "the usual notes", noted("the readiness of the pod's containers"))
}
