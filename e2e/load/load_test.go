package load

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
)

// consul is a fake Consul that has instances, or fails.
type consul struct {
	mu        sync.Mutex
	addresses []string
	broken    bool
}

func (c *consul) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.broken {
		http.Error(w, "no leader", http.StatusInternalServerError)
		return
	}
	var entries []*api.ServiceEntry
	for _, address := range c.addresses {
		entries = append(entries, &api.ServiceEntry{Service: &api.AgentService{Address: address, Port: 80}})
	}
	w.Header().Set("X-Consul-Index", "1")
	_ = json.NewEncoder(w).Encode(entries)
}

func (c *consul) client(t *testing.T) *api.Client {
	t.Helper()
	server := httptest.NewServer(c)
	t.Cleanup(server.Close)
	client, err := api.NewClient(&api.Config{Address: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestAnotherConsulIsAskedWhenOneFails(t *testing.T) {
	first, second := &consul{addresses: []string{"10.0.0.1"}}, &consul{addresses: []string{"10.0.0.2"}}
	client := New(first.client(t), "web", second.client(t))
	if err := client.Follow(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := client.Instances(); !slices.Equal(got, []string{"10.0.0.1:80"}) {
		t.Errorf("instances %v, want the first one's", got)
	}
	first.mu.Lock()
	first.broken = true
	first.mu.Unlock()
	for !slices.Equal(client.Instances(), []string{"10.0.0.2:80"}) {
		select {
		case <-t.Context().Done():
			t.Fatal("the second was never asked")
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func TestFailuresAreTold(t *testing.T) {
	server := httptest.NewServer(http.NotFoundHandler())
	defer server.Close()
	client := Fixed(server.Listener.Addr().String())
	told := make(chan Failure, 1)
	client.Failed = func(f Failure) {
		select {
		case told <- f:
		default:
		}
	}
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	done := make(chan struct{})
	go func() { defer close(done); client.Run(ctx, 100) }()
	f := <-told
	enough()
	<-done
	if f.Instance != server.Listener.Addr().String() || f.Err == nil || f.Ended.Before(f.Began) {
		t.Errorf("told: %+v", f)
	}
}

func TestCheck(t *testing.T) {
	status := http.StatusOK
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) }))
	t.Cleanup(server.Close)
	c := Fixed(strings.TrimPrefix(server.URL, "http://"))
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "0 of 0 requests failed") {
		t.Errorf("without a request: %v", err)
	}
	c.request(t.Context(), http.DefaultClient)
	if err := c.Check(); err != nil {
		t.Errorf("after an answer: %v", err)
	}
	status = http.StatusInternalServerError
	c.request(t.Context(), http.DefaultClient)
	if err := c.Check(); err == nil || !strings.Contains(err.Error(), "1 of 2 requests failed: map[answered 500") {
		t.Errorf("after a failure: %v", err)
	}
}
