package consul_test

import (
	"context"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

const prefix = "agentlet_shop_web-1_12345678_"

func newClient(t *testing.T, address string) *consul.Client {
	t.Helper()
	client, err := consul.New(consul.Config{Address: address, Scheme: "http", HostIP: "127.0.0.1", Wait: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func web() agentlet.Definition {
	return agentlet.Definition{
		ID: prefix + "web",
		Service: registration.Service{
			Name: "web", Port: 8080, Address: "127.0.0.1", Tags: []string{"a", "b"},
			Meta:            map[string]string{"k8s-pod": "web-1"},
			Weights:         &registration.Weights{Passing: 3, Warning: 2},
			TaggedAddresses: map[string]registration.TaggedAddress{"lan": {Address: "127.0.0.1", Port: 8080}},
		},
		HeartbeatTTL: 30 * time.Second, DeregisterAfter: 2 * time.Minute,
	}
}

func TestLife(t *testing.T) {
	server := consultest.Start(t)
	client := newClient(t, server.Address)
	ctx := t.Context()
	definition := web()

	if leader, err := client.HasLeader(ctx); err != nil || !leader {
		t.Fatalf("HasLeader = %v, %v", leader, err)
	}
	before, err := client.OnNode(ctx, prefix, 0, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if len(before.Instances) != 0 || len(before.FailingNodeChecks) != 0 {
		t.Errorf("view before the registration = %+v, want nothing", before)
	}
	if err := client.Register(ctx, definition, contract.Passing, nil); err != nil {
		t.Fatal(err)
	}
	awaitCatalog(t, client, before.Index, func(view agentlet.CatalogView) bool {
		return view.Instances[definition.ID].Health == contract.Passing
	})

	observed, err := client.Instances(ctx, prefix)
	if err != nil {
		t.Fatal(err)
	}
	got := observed[definition.ID]
	if len(got.Checks) != 2 || got.Readiness != contract.Passing || got.Fingerprint != definition.Fingerprint() {
		t.Errorf("observed = %+v, want both checks, passing, and the fingerprint %s", got, definition.Fingerprint())
	}
	if got.Definition.Port != 8080 || got.Definition.Address != "127.0.0.1" || !slices.Equal(got.Definition.Tags, definition.Tags) ||
		!maps.Equal(got.Definition.Meta, definition.Meta) || *got.Definition.Weights != *definition.Weights ||
		got.Definition.TaggedAddresses["lan"] != definition.TaggedAddresses["lan"] {
		t.Errorf("observed definition = %+v, want %+v", got.Definition, definition)
	}

	if err := client.Update(ctx, contract.ReadinessID(definition.ID), contract.Critical, "not ready"); err != nil {
		t.Fatal(err)
	}
	awaitCatalog(t, client, 0, func(view agentlet.CatalogView) bool {
		return view.Instances[definition.ID] == agentlet.CatalogInstance{
			Health: contract.Critical, Heartbeat: contract.Passing, Readiness: contract.Critical, Fingerprint: definition.Fingerprint(),
		}
	})

	if err := client.Deregister(ctx, definition.ID); err != nil {
		t.Fatal(err)
	}
	awaitCatalog(t, client, 0, func(view agentlet.CatalogView) bool { _, there := view.Instances[definition.ID]; return !there })
	if err := client.Deregister(ctx, definition.ID); !errors.Is(err, agentlet.ErrAbsent) {
		t.Errorf("second Deregister = %v, want ErrAbsent", err)
	}
	if err := client.Update(ctx, contract.HeartbeatID(definition.ID), contract.Passing, ""); !errors.Is(err, agentlet.ErrAbsent) {
		t.Errorf("Update of an absent check = %v, want ErrAbsent", err)
	}
}

// awaitCatalog follows the catalog from index until it is as wanted.
func awaitCatalog(t *testing.T, client *consul.Client, index uint64, wanted func(agentlet.CatalogView) bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for {
		view, err := client.OnNode(ctx, prefix, index, time.Minute)
		if err != nil {
			t.Fatalf("the catalog never was as wanted: %v", err)
		}
		if wanted(view) {
			return
		}
		index = view.Index
	}
}

func TestChangedNoticesEditsAndRemoval(t *testing.T) {
	server := consultest.Start(t)
	client := newClient(t, server.Address)
	ctx := t.Context()
	definition := web()
	if _, err := client.Changed(ctx, definition.ID, ""); !errors.Is(err, agentlet.ErrAbsent) {
		t.Fatalf("Changed of an absent service = %v, want ErrAbsent", err)
	}
	if err := client.Register(ctx, definition, contract.Passing, nil); err != nil {
		t.Fatal(err)
	}
	hash, err := client.Changed(ctx, definition.ID, "")
	if err != nil || hash == "" {
		t.Fatalf("Changed = %q, %v, want a hash", hash, err)
	}
	type answer struct {
		hash string
		err  error
	}
	answers := make(chan answer, 1)
	follow := func(hash string) {
		go func() {
			next, err := client.Changed(ctx, definition.ID, hash)
			answers <- answer{next, err}
		}()
	}
	follow(hash)
	definition.Tags = []string{"edited"}
	if err := client.Register(ctx, definition, contract.Passing, nil); err != nil {
		t.Fatal(err)
	}
	edited := <-answers
	if edited.err != nil || edited.hash == hash {
		t.Errorf("after an edit Changed = %q, %v, want another hash than %q", edited.hash, edited.err, hash)
	}
	follow(edited.hash)
	if err := server.Client.Agent().ServiceDeregister(definition.ID); err != nil {
		t.Fatal(err)
	}
	if removed := <-answers; !errors.Is(removed.err, agentlet.ErrAbsent) {
		t.Errorf("after the removal Changed = %v, want ErrAbsent", removed.err)
	}
}

func TestOwnChecksFollowNoRedirects(t *testing.T) {
	server := consultest.Start(t)
	client := newClient(t, server.Address)
	reached := make(chan struct{}, 1)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		select {
		case reached <- struct{}{}:
		default:
		}
	}))
	defer elsewhere.Close()
	asked := make(chan struct{}, 16)
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		http.Redirect(w, r, elsewhere.URL, http.StatusFound)
	}))
	defer service.Close()
	definition := web()
	definition.Checks = []registration.Check{{Name: "own", HTTP: service.URL, Interval: time.Second}}
	if err := client.Register(t.Context(), definition, contract.Passing, nil); err != nil {
		t.Fatal(err)
	}
	<-asked
	<-asked // the first round, redirect included, is over
	select {
	case <-reached:
		t.Error("the agent followed a redirect")
	default:
	}
}

func TestFailuresAreTold(t *testing.T) {
	closed, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refusing := closed.Addr().String()
	closed.Close()
	answer := func(code int, body string) string {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			http.Error(w, body, code)
		}))
		t.Cleanup(server.Close)
		return strings.TrimPrefix(server.URL, "http://")
	}
	cases := map[string]struct {
		address string
		is      error
		says    string
	}{
		"nothing listens":   {refusing, agentlet.ErrRefused, ""},
		"forbidden":         {answer(403, "Permission denied: token lacks service:write"), agentlet.ErrRejected, "service:write"},
		"bad request":       {answer(400, "Invalid check"), agentlet.ErrRejected, "Invalid check"},
		"not found":         {answer(404, "nothing"), agentlet.ErrAbsent, ""},
		"unknown check":     {answer(500, `Unknown check ID "x"`), agentlet.ErrAbsent, ""},
		"too many requests": {answer(429, "slow down"), nil, "429 slow down"},
		"server error":      {answer(500, "No cluster leader"), nil, "No cluster leader"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			client := newClient(t, c.address)
			errs := map[string]error{
				"Register":   client.Register(t.Context(), web(), contract.Passing, nil),
				"Deregister": client.Deregister(t.Context(), "x"),
				"Update":     client.Update(t.Context(), "x", contract.Passing, ""),
			}
			for call, err := range errs {
				if err == nil || c.is != nil && !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%s = %v, want %v saying %q", call, err, c.is, c.says)
				}
				for _, other := range []error{agentlet.ErrAbsent, agentlet.ErrRefused, agentlet.ErrRejected} {
					if errors.Is(err, other) && !errors.Is(c.is, other) {
						t.Errorf("%s = %v, which is %v too", call, err, other)
					}
				}
			}
		})
	}
}

func TestCancelledCallsSaySo(t *testing.T) {
	release := make(chan struct{})
	hanging := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-release }))
	defer hanging.Close()
	defer close(release)
	client := newClient(t, strings.TrimPrefix(hanging.URL, "http://"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := client.Register(ctx, web(), contract.Passing, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Register = %v, want context.Canceled", err)
	}
	if _, err := client.OnNode(ctx, prefix, 0, time.Minute); !errors.Is(err, context.Canceled) {
		t.Errorf("OnNode = %v, want context.Canceled", err)
	}
}

func TestRegisteringAgainLeavesAMaintenanceAlone(t *testing.T) {
	server := consultest.Start(t)
	client := newClient(t, server.Address)
	definition := web()
	definition.Checks = []registration.Check{{Name: "old", TCP: "127.0.0.1:1", Interval: time.Minute}}
	if err := client.Register(t.Context(), definition, contract.Passing, nil); err != nil {
		t.Fatal(err)
	}
	if err := server.Client.Agent().EnableServiceMaintenance(definition.ID, "being mended"); err != nil {
		t.Fatal(err)
	}
	definition.Checks, definition.Meta = nil, map[string]string{"v": "2"}
	if err := client.Register(t.Context(), definition, contract.Passing, []string{contract.CheckID(definition.ID, 0)}); err != nil {
		t.Fatal(err)
	}
	checks, err := server.Client.Agent().Checks()
	if err != nil {
		t.Fatal(err)
	}
	if _, there := checks["_service_maintenance:"+definition.ID]; !there {
		t.Error("a registration ended the maintenance")
	}
	if _, there := checks[contract.CheckID(definition.ID, 0)]; there {
		t.Error("an obsolete check of ours stayed")
	}
}

func TestMaintenanceOfTheApplicationIsFoundAgain(t *testing.T) {
	server := consultest.Start(t)
	client := newClient(t, server.Address)
	definition := web()
	excuse := func() (string, contract.Health) {
		t.Helper()
		observed, err := client.Instances(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		return observed[definition.ID].MaintenanceOutput, observed[definition.ID].Readiness
	}
	if err := client.Register(t.Context(), definition, contract.Passing, nil); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		health       contract.Health
		output, want string
	}{
		{contract.Critical, "the pod's containers are not ready", ""},
		{contract.Critical, contract.MaintenanceOutput + "compaction", contract.MaintenanceOutput + "compaction"},
		{contract.Passing, contract.MaintenanceOutput + "compaction", ""},
	} {
		if err := client.Update(t.Context(), contract.ReadinessID(definition.ID), c.health, c.output); err != nil {
			t.Fatal(err)
		}
		if got, health := excuse(); got != c.want || health != c.health {
			t.Errorf("%s with %q: the excuse is %q, %s; want %q", c.health, c.output, got, health, c.want)
		}
	}
	if err := client.Update(t.Context(), contract.ReadinessID(definition.ID), contract.Critical, contract.MaintenanceOutput+"compaction"); err != nil {
		t.Fatal(err)
	}
	definition.Tags = []string{"more"}
	if err := client.Register(t.Context(), definition, contract.Passing, nil); err != nil {
		t.Fatal(err)
	}
	if got, health := excuse(); got != contract.MaintenanceOutput+"compaction" || health != contract.Critical {
		t.Errorf("after another registration the excuse is %q, %s", got, health)
	}
}

// TestNodeIsTheOneThatTheAgentNames: an agent in a pod may advertise the pod's address, and then the host's leads nowhere, or to
// another node.
func TestNodeIsTheOneThatTheAgentNames(t *testing.T) {
	const elsewhere = "192.0.2.1"
	for name, test := range map[string]struct {
		host, other string // addresses of the host and of another node
		before      string // what a reading says before the pod is registered; empty for no error
	}{
		"another node has the address, too":  {"127.0.0.1", "127.0.0.1", "several Consul nodes have this address"},
		"no node has the address":            {elsewhere, "192.0.2.2", "no Consul node has this address"},
		"another node alone has the address": {elsewhere, elsewhere, ""},
		"the node alone has the address":     {"127.0.0.1", elsewhere, ""},
	} {
		t.Run(name, func(t *testing.T) {
			server := consultest.Start(t)
			client, err := consul.New(consul.Config{Address: server.Address, Scheme: "http", HostIP: test.host})
			if err != nil {
				t.Fatal(err)
			}
			other := &api.CatalogRegistration{Node: "another", Address: test.other}
			if _, err := server.Client.Catalog().Register(other, nil); err != nil {
				t.Fatal(err)
			}
			_, err = client.OnNode(t.Context(), prefix, 0, time.Minute)
			if (err == nil) != (test.before == "") || err != nil && !strings.Contains(err.Error(), test.host+": "+test.before) {
				t.Errorf("OnNode = %v, want %q with the address", err, test.before)
			}
			definition := web()
			if err := client.Register(t.Context(), definition, contract.Passing, nil); err != nil {
				t.Fatal(err)
			}
			awaitCatalog(t, client, 0, func(view agentlet.CatalogView) bool { _, there := view.Instances[definition.ID]; return there })
		})
	}
}

// TestNewReadingsAreConsistent: an agent with discovery_max_stale, and a leader of a second ago, must not tell of an old state.
func TestNewReadingsAreConsistent(t *testing.T) {
	server := consultest.Start(t)
	var mu sync.Mutex
	consistent := map[string]bool{} // by the index that was waited for
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: server.Address})
	recorder := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if query := r.URL.Query(); strings.HasPrefix(r.URL.Path, "/v1/health/node/") {
			mu.Lock()
			consistent[query.Get("index")] = query.Has("consistent")
			mu.Unlock()
		}
		proxy.ServeHTTP(w, r)
	}))
	defer recorder.Close()
	client := newClient(t, recorder.Listener.Addr().String())
	first, err := client.OnNode(t.Context(), prefix, 0, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.OnNode(t.Context(), prefix, first.Index, time.Millisecond); err != nil {
		t.Fatal(err)
	}
	later := first.Index + 1000
	if want := map[string]bool{"": true, strconv.FormatUint(first.Index, 10): false}; !maps.Equal(consistent, want) {
		t.Errorf("consistent readings by index: %v, want %v", consistent, want)
	}
	clear(consistent)
	old, err := client.OnNode(t.Context(), prefix, later, time.Millisecond) // of before the servers' state was restored
	if err != nil || old.Index >= later {
		t.Errorf("a reading after index %d has %d, %v", later, old.Index, err)
	}
	if want := map[string]bool{"": true, strconv.FormatUint(later, 10): false}; !maps.Equal(consistent, want) {
		t.Errorf("consistent readings by index, where the state is an older one: %v, want %v", consistent, want)
	}
}

func TestErrorsHoldNoEphemeralPort(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				return
			}
			_ = connection.(*net.TCPConn).SetLinger(0) // a reset
			connection.Close()
		}
	}()
	client := newClient(t, listener.Addr().String())
	said := map[string]bool{}
	for range 5 {
		_, err := client.HasLeader(t.Context())
		if !errors.Is(err, agentlet.ErrUnreachable) {
			t.Fatalf("HasLeader = %v, want ErrUnreachable", err)
		}
		if strings.Contains(err.Error(), "127.0.0.1:") {
			t.Errorf("the error names a port: %v", err)
		}
		said[err.Error()] = true
	}
	if len(said) > 2 { // a reset may come while writing or while reading
		t.Errorf("the same failure was told in %d ways: %v", len(said), said)
	}
}

// TestSilentInstanceIsReapedAndAnUnreadyOneIsNot waits for Consul's reaper, whose times can't be changed, only with
// AGENTLET_LONG; without, it ends when the silent one is critical.
func TestSilentInstanceIsReapedAndAnUnreadyOneIsNot(t *testing.T) {
	server := consultest.Start(t)
	client := newClient(t, server.Address)
	silent, unready := web(), web()
	silent.ID += "-silent"
	silent.HeartbeatTTL, silent.DeregisterAfter = 3*time.Second, time.Minute
	unready.HeartbeatTTL, unready.DeregisterAfter = 3*time.Second, time.Minute
	for definition, health := range map[*agentlet.Definition]contract.Health{&silent: contract.Passing, &unready: contract.Critical} {
		if err := client.Register(t.Context(), *definition, health, nil); err != nil {
			t.Fatal(err)
		}
	}
	began, critical := time.Now(), time.Duration(0)
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for time.Since(began) < 2*time.Minute {
		<-ticker.C
		if err := client.Update(t.Context(), contract.HeartbeatID(unready.ID), contract.Passing, ""); err != nil {
			t.Fatalf("the one that is unready and beats was reaped after %s: %v", time.Since(began), err)
		}
		view, err := client.OnNode(t.Context(), prefix, 0, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		seen, there := view.Instances[silent.ID]
		switch {
		case !there && time.Since(began) > time.Minute:
			t.Logf("critical after %s, reaped after %s", critical, time.Since(began))
			return
		case there && seen.Heartbeat == contract.Critical && critical == 0:
			critical = time.Since(began)
			if critical < 2*time.Second {
				t.Errorf("critical after %s, with a TTL of 3s", critical)
			}
			if os.Getenv("AGENTLET_LONG") == "" {
				t.Logf("critical after %s, with a TTL of 3s", critical)
				return
			}
		}
	}
	t.Errorf("critical after %s, and not reaped after %s", critical, time.Since(began))
}

func TestDualStackInTheCatalog(t *testing.T) {
	server := consultest.Start(t)
	client := newClient(t, server.Address)
	for address, second := range map[string]string{"10.1.0.5": "fd00::5", "fd00::5": "10.1.0.5"} {
		definition := web()
		definition.Address = address
		tag := map[bool]string{true: "lan_ipv6", false: "lan_ipv4"}[strings.Contains(second, ":")]
		definition.TaggedAddresses = map[string]registration.TaggedAddress{tag: {Address: second, Port: 8080}}
		if err := client.Register(t.Context(), definition, contract.Passing, nil); err != nil {
			t.Fatal(err)
		}
		awaitCatalog(t, client, 0, func(view agentlet.CatalogView) bool {
			return view.Instances[definition.ID].Fingerprint == definition.Fingerprint()
		})
		entries, _, err := server.Client.Catalog().Service("web", "", nil)
		if err != nil || len(entries) != 1 {
			t.Fatalf("%d entries, %v", len(entries), err)
		}
		got := entries[0]
		for tag, want := range map[string]string{"lan_ipv4": "10.1.0.5", "lan_ipv6": "fd00::5"} {
			if got.ServiceTaggedAddresses[tag].Address != want || got.ServiceAddress != address {
				t.Errorf("at %s the catalog has %s and %v, want %s as %s", address, got.ServiceAddress, got.ServiceTaggedAddresses, want, tag)
			}
		}
		if err := client.Deregister(t.Context(), definition.ID); err != nil {
			t.Fatal(err)
		}
		awaitCatalog(t, client, 0, func(view agentlet.CatalogView) bool { return len(view.Instances) == 0 })
	}
}
