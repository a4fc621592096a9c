package consul_test

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/agentlettest"
	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/cost"
)

// counts are what a registrar asks of the two systems.
type counts struct {
	*agentlettest.Ports
	agentlet.Catalog
	reads, patches, events atomic.Int64
}

func (c *counts) OnNode(ctx context.Context, prefix string, index uint64, wait time.Duration) (agentlet.CatalogView, error) {
	c.reads.Add(1)
	return c.Catalog.OnNode(ctx, prefix, index, wait)
}

func (c *counts) SetConditions(ctx context.Context, conditions []corev1.PodCondition) (string, error) {
	c.patches.Add(1)
	return c.Ports.SetConditions(ctx, conditions)
}

func (c *counts) CreateEvent(ctx context.Context, event agentlet.Event) error {
	c.events.Add(1)
	return c.Ports.CreateEvent(ctx, event)
}

// connections forwards to an address, and knows how many connections are open, and the most that ever were.
type connections struct {
	mu         sync.Mutex
	open, most int
}

func (c *connections) change(by int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open += by
	c.most = max(c.most, c.open)
}

func (c *connections) peak() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.most
}

// before returns the address of a listener in front of that one.
func (c *connections) before(t *testing.T, address string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", address)
			if err != nil {
				client.Close()
				continue
			}
			c.change(1)
			go func() { defer server.Close(); _, _ = io.Copy(server, client) }()
			go func() { defer c.change(-1); defer client.Close(); _, _ = io.Copy(client, server) }()
		}
	}()
	return listener.Addr().String()
}

// writes are how many registrations and deregistrations a server has applied from its raft log.
func writes(t *testing.T, address string) int {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+address+"/v1/agent/metrics?format=prometheus", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	sum := 0
	for lines := bufio.NewScanner(response.Body); lines.Scan(); {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if name == "consul_fsm_register_count" || name == "consul_fsm_deregister_count" {
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

// TestLifeCosts counts what the plan for large clusters in docs/benchmarks.md is computed from.
func TestLifeCosts(t *testing.T) {
	server := consultest.Start(t, `telemetry { prometheus_retention_time = "1h" }`)
	life := func(name string) (c *counts, written, most int) {
		began := writes(t, server.Address)
		var conns connections
		address := conns.before(t, server.Address)
		client, err := consul.New(consul.Config{Address: address, Scheme: "http", HostIP: "127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		c = &counts{Ports: agentlettest.New(), Catalog: client}
		watched := pod()
		watched.Name, watched.Status.ContainerStatuses[0].Ready = name, false
		r, _, ended := start(t, address, watched, agentlet.Config{Agent: client, View: client, Catalog: c, Kube: c})
		eventually(t, "a reason of the closed gate", func() bool { return c.Gate().Reason == string(contract.ContainersNotReady) })
		watched = watched.DeepCopy()
		watched.Status.ContainerStatuses[0].Ready = true
		r.OnUpdate(watched)
		eventually(t, "an open gate", c.Open)
		eventually(t, "an event of it", func() bool { return c.events.Load() == 1 })
		deleted := watched.DeepCopy()
		deleted.DeletionTimestamp = &metav1.Time{Time: time.Now()}
		r.OnUpdate(deleted)
		if !r.Drain(t.Context(), time.Minute) {
			t.Error("the hook was not held to the end of the drain")
		}
		eventually(t, "an event of the drain", func() bool { return c.events.Load() > 1 })
		r.Terminate()
		<-ended
		return c, writes(t, server.Address) - began, conns.peak()
	}
	life("first") // after it the agent has synced what is its own
	for try := 1; ; try++ {
		c, written, most := life("second")
		got := [...]int{written, int(c.reads.Load()), int(c.patches.Load()), int(c.events.Load()), most}
		want := [...]int{cost.LifeRaftWrites, cost.LifeCatalogReads, cost.LifeStatusPatches, cost.LifeEvents, cost.AgentConnections}
		if got == want {
			return
		}
		if try == 3 { // one that has to wait, on a busy machine, asks more
			t.Fatalf("raft writes, catalog reads, status patches, events, connections: %v, want %v", got, want)
		}
	}
}
