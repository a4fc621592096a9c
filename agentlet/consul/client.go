// Package consul is the registrar's adapter to the Consul agent of its node, and through it to the catalog. It observes
// and acts, and decides nothing.
package consul

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
)

// Config says where the agent is.
type Config struct {
	// Address of the node's agent, host:port.
	Address string
	// Scheme is http or https.
	Scheme string
	// HostIP is the node's address in the catalog, by which the node's Consul name is found.
	HostIP string
	// NodeName overrides the look-up by HostIP where the node's Consul address isn't its Kubernetes IP.
	NodeName string
	// Wait bounds the blocking queries; 5 minutes when zero.
	Wait time.Duration
}

// Client talks to one Consul agent. It is safe for concurrent use.
type Client struct {
	api    *api.Client
	http   *http.Client
	config Config

	mu   sync.Mutex
	node string // as the agent named itself, or as it was looked up
}

var (
	_ agentlet.Agent     = (*Client)(nil)
	_ agentlet.AgentView = (*Client)(nil)
	_ agentlet.Catalog   = (*Client)(nil)
)

// New returns a client. It makes no request. Consul's library fills what is not set here from CONSUL_* in the
// environment, which the injected container does not have.
func New(config Config) (*Client, error) {
	if config.Wait == 0 {
		config.Wait = 5 * time.Minute
	}
	transport := &http.Transport{
		DialContext:         (&net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     90 * time.Second,
		TLSHandshakeTimeout: 3 * time.Second,
	}
	client, err := api.NewClient(&api.Config{Address: config.Address, Scheme: config.Scheme, Transport: transport})
	if err != nil {
		return nil, fmt.Errorf("make Consul client: %w", err)
	}
	return &Client{api: client, http: &http.Client{Transport: transport}, config: config, node: config.NodeName}, nil
}

// classify turns what the client library returns into the registrar's kinds of failure. The text holds no ephemeral port:
// it ends up in the pod's condition, which would be written for ever.
func classify(doing string, err error) error {
	if err == nil {
		return nil
	}
	var status api.StatusError
	var network net.Error
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w", doing, agentlet.ErrRefused)
	case errors.As(err, &status):
		return classifyStatus(doing, status.Code, strings.TrimSpace(status.Body))
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return fmt.Errorf("%s: %w in time", doing, agentlet.ErrUnreachable)
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: %w: %w", doing, agentlet.ErrUnreachable, agentlet.Bare(err))
	}
	return fmt.Errorf("%s: %w", doing, err)
}

func classifyStatus(doing string, code int, body string) error {
	switch {
	case code == http.StatusNotFound, strings.Contains(body, "Unknown check ID"), strings.Contains(body, "Unknown service ID"):
		return fmt.Errorf("%s: %w", doing, agentlet.ErrAbsent)
	case code == http.StatusBadRequest, code == http.StatusForbidden, code == http.StatusUnauthorized:
		return fmt.Errorf("%s: %w: %d %s", doing, agentlet.ErrRejected, code, body)
	}
	return fmt.Errorf("%s: %d %s", doing, code, body)
}
