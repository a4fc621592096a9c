package consul

import (
	"net/http"
	"testing"
)

// TestNoProxyIsUsed: the environment of all of a cluster's containers may name one that doesn't reach the node's agent.
func TestNoProxyIsUsed(t *testing.T) {
	client, err := New(Config{Address: "10.0.0.1:8500", Scheme: "http"})
	if err != nil {
		t.Fatal(err)
	}
	if transport, ok := client.http.Transport.(*http.Transport); !ok || transport.Proxy != nil {
		t.Errorf("requests go by %T with a proxy", client.http.Transport)
	}
}
