package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

const (
	// probeTimeout bounds one request to the Consul agent.
	probeTimeout = 5 * time.Second
	// maxSelf bounds the agent's configuration; the largest are some 20 KiB.
	maxSelf = 1 << 20
	// maxProbeError keeps the result within a termination message, which holds 4 KiB.
	maxProbeError = 1000 // bytes
)

// probeConsul asks the Consul agent at the node's IP what an installation depends on. It writes the answer to stdout and to a
// file, usually the container's termination message. A Consul agent that is not found is a result, not an error.
func probeConsul(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	flags := flag.NewFlagSet("agentlet probe-consul", flag.ContinueOnError)
	flags.SetOutput(stderr)
	port := flags.Int("consul-port", 8500, "port of the node's Consul agent")
	scheme := flags.String("consul-scheme", "http", "http or https; the certificate is not verified, and no token is sent")
	file := flags.String("to", "", "file to write the result to, beside stdout")
	if err := flags.Parse(args); err != nil {
		return err
	}
	host := env(contract.EnvHostIP)
	if host == "" {
		return fmt.Errorf("environment variable %s is missing: it must be the node's IP", contract.EnvHostIP)
	}
	if *scheme != "http" && *scheme != "https" {
		return fmt.Errorf("--consul-scheme=%q: must be http or https", *scheme)
	}
	base := *scheme + "://" + net.JoinHostPort(host, strconv.Itoa(*port))
	text, err := json.Marshal(askConsul(ctx, base, host))
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	if *file != "" {
		if err := os.WriteFile(*file, text, 0o600); err != nil {
			return fmt.Errorf("write the result: %w", err)
		}
	}
	_, err = fmt.Fprintf(stdout, "%s\n", text)
	return err
}

// askConsul asks the agent at a URL. The catalog is asked for the node with this address.
func askConsul(ctx context.Context, base, address string) contract.AgentProbe {
	client := &http.Client{
		Timeout: probeTimeout,
		// The probe only reads, and sends nothing secret. The authority is not known before the installation.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}, //nolint:gosec // see above
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	var found contract.AgentProbe
	if _, err := getJSON(ctx, client, base+"/v1/status/leader", &found.Leader); err != nil {
		return notFound(err)
	}
	var self struct {
		Config      struct{ Version, NodeName string }
		DebugConfig struct{ LeaveOnTerm bool }
	}
	_, err := getJSON(ctx, client, base+"/v1/agent/self", &self)
	denied := (*statusError)(nil)
	switch {
	case errors.As(err, &denied) && denied.code == http.StatusForbidden:
		found.NeedsToken = true
	case err != nil:
		return notFound(err)
	case self.Config.Version == "":
		return notFound(errNoConsul)
	}
	found.Version, found.Name, found.LeavesOnTerminate = self.Config.Version, self.Config.NodeName, self.DebugConfig.LeaveOnTerm
	var nodes []struct{}
	query := url.Values{"filter": {"Address == " + strconv.Quote(address)}}
	header, err := getJSON(ctx, client, base+"/v1/catalog/nodes?"+query.Encode(), &nodes)
	// Without node:read Consul hides nodes instead of refusing the request. The header says so, for a request with a token alone.
	if err == nil && (len(nodes) > 0 || !found.NeedsToken && header.Get("X-Consul-Results-Filtered-By-ACLs") != "true") {
		found.InCatalog = new(len(nodes) > 0)
	}
	return found
}

var errNoConsul = errors.New("what answers there is no Consul agent")

// notFound is the result where there is no agent that can be used, and why.
func notFound(err error) contract.AgentProbe {
	return contract.AgentProbe{Error: registration.Truncate(err.Error(), maxProbeError)}
}

// statusError is an answer that is no success.
type statusError struct {
	code int
	body string
}

func (e *statusError) Error() string {
	return fmt.Sprintf("the answer has status %d: %s", e.code, e.body)
}

// getJSON decodes the answer to a GET.
func getJSON(ctx context.Context, client *http.Client, target string, into any) (http.Header, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, target, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("create the request: %w", err)
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, err //nolint:wrapcheck // it names method and URL
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxSelf))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", target, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, &statusError{response.StatusCode, registration.Truncate(strings.TrimSpace(string(body)), maxProbeError/2)}
	}
	if err := json.Unmarshal(body, into); err != nil {
		return nil, errNoConsul
	}
	return response.Header, nil
}
