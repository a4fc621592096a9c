// Package consul is the registrar's adapter to the Consul agent of its node, and through it to the catalog. It observes
// and acts, and decides nothing.
package consul

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
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
	// HostIP is the node's address, by which it is looked up in the catalog until the agent has named it.
	HostIP string
	// NodeName overrides both, where the node's Consul address isn't its Kubernetes IP.
	NodeName string
	// Wait bounds the blocking queries; 5 minutes when zero.
	Wait time.Duration
	// TLS for the scheme https.
	TLS TLS
	// ACL says where tokens come from.
	ACL ACL
	// Logger; slog.Default() when nil.
	Logger *slog.Logger
}

// Client talks to one Consul agent. It is safe for concurrent use.
type Client struct {
	api    *api.Client
	http   *http.Client
	config Config

	mu   sync.Mutex
	node string // as it is configured, or as the agent named it; empty before
	// sessions by ID that were begun and not ended; the current one is that of every call.
	sessions       map[int]session
	begun, current int
}

var (
	_ agentlet.Agent     = (*Client)(nil)
	_ agentlet.AgentView = (*Client)(nil)
	_ agentlet.Catalog   = (*Client)(nil)
	_ agentlet.Login     = (*Client)(nil)
)

// New returns a client. It makes no request. Consul's library fills what is not set here from CONSUL_* in the
// environment, which the injected container does not have.
func New(config Config) (*Client, error) {
	if config.Wait == 0 {
		config.Wait = 5 * time.Minute
	}
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	if config.TLS.ServerName == "" {
		config.TLS.ServerName = DefaultServerName
	}
	dialer := &net.Dialer{Timeout: 3 * time.Second, KeepAlive: 30 * time.Second}
	transport := &http.Transport{
		// Proxy stays nil, whatever the environment says: the agent is on the pod's node.
		DialContext:         dialer.DialContext,
		DialTLSContext:      config.TLS.dial(dialer),
		MaxIdleConnsPerHost: 2,
		IdleConnTimeout:     90 * time.Second,
	}
	// Consul's agent redirects nobody. Whatever else does would be followed with the token, which is no header that Go knows
	// to leave out.
	stay := func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	plain := &http.Client{Transport: transport, CheckRedirect: stay}
	client, err := api.NewClient(&api.Config{Address: config.Address, Scheme: config.Scheme, HttpClient: plain})
	if err != nil {
		return nil, fmt.Errorf("make Consul client: %w", err)
	}
	return &Client{
		api: client, http: plain, config: config, node: config.NodeName, sessions: map[int]session{},
	}, nil
}

// classify turns what the client library returns into the registrar's kinds of failure. The text holds no ephemeral port:
// it ends up in the pod's condition, which would be written for ever.
func (c *Client) classify(op string, err error) error {
	if err == nil {
		return nil
	}
	if wrong := tlsProblem(err, c.config.TLS.ServerName); wrong != nil {
		return fmt.Errorf("%s: %w", op, wrong)
	}
	var status api.StatusError
	var network net.Error
	var dial *net.OpError
	switch {
	case errors.Is(err, context.Canceled):
		return context.Canceled
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%s: %w", op, agentlet.ErrRefused)
	case errors.As(err, &status):
		return c.withHint(classifyStatus(op, status.Code, truncate(withoutAccessor(strings.TrimSpace(status.Body)))))
	case errors.As(err, &dial) && dial.Op == "dial" && dial.Timeout():
		return fmt.Errorf("%s: %w", op, agentlet.ErrUnreachable)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return fmt.Errorf("%s: %w", op, agentlet.ErrLate)
	case errors.As(err, &network), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%s: %w: %w", op, agentlet.ErrUnreachable, agentlet.RootCause(err))
	}
	if words := err.Error(); words != truncate(words) {
		err = errors.New(truncate(words)) // it quotes a header, or a part of the answer
	}
	return fmt.Errorf("%s: %w", op, err)
}

// maxQuoted is how much of an answer a message quotes, in bytes. Consul says a line or two; what else listens at its
// port may say anything, and all of it would be written into the pod's condition.
const maxQuoted = 1024

// truncate is what a condition can hold of a text. The API server would take other bytes for something else than was sent, and it
// would be written for ever.
func truncate(text string) string {
	if len(text) <= maxQuoted {
		return strings.ToValidUTF8(text, "?")
	}
	return strings.ToValidUTF8(text[:maxQuoted], "") + "..."
}

func classifyStatus(op string, code int, body string) error {
	switch {
	case code == http.StatusBadRequest && strings.Contains(body, "HTTP request to an HTTPS server"):
		return fmt.Errorf("%s: %w: it wants HTTPS at this port: see --consul-port and --consul-scheme", op, agentlet.ErrUnreachable)
	case code == http.StatusNotFound, strings.Contains(body, "Unknown check ID"), strings.Contains(body, "Unknown service ID"):
		return fmt.Errorf("%s: %w", op, agentlet.ErrAbsent)
	case code == http.StatusForbidden && strings.Contains(body, "ACL not found"):
		return fmt.Errorf("%s: %w: %s", op, agentlet.ErrUnknownToken, body)
	case code == http.StatusForbidden:
		return fmt.Errorf("%s: %w: %s", op, agentlet.ErrDenied, body)
	case code == http.StatusBadRequest, code == http.StatusUnauthorized:
		return fmt.Errorf("%s: %w: %d %s", op, agentlet.ErrRejected, code, body)
	}
	return fmt.Errorf("%s: %d %s", op, code, body)
}
