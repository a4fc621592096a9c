package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/hack/toolchain"
)

// SecuredPort is the HTTPS port of a secured Consul's agents.
const SecuredPort = 9501

// Other ports of a secured Consul, different from those of the cluster's own Consul.
const (
	securedServer = 9300
	securedSerf   = 9301
)

// managementToken has the global-management policy.
const managementToken = "00000000-0000-4000-8000-00000000acce"

// SecuredOptions configures a secured Consul.
type SecuredOptions struct {
	// Mutual makes the agents require client certificates.
	Mutual bool
	// Powerless lists the nodes whose agents have a token without node:write.
	Powerless []*Node
}

// Secured is a second Consul beside the cluster's own: a server on the host and an agent on each node, with TLS, and with ACLs
// that deny by default. Consul's own tool makes the agents' certificates, for localhost and client.dc1.consul.
type Secured struct {
	// Client is a client of the server, with all rights.
	Client *api.Client
	// Dir contains the CA, ca.crt, and a client certificate, client.crt and client.key.
	Dir string
	// Agents are the agents' processes by node name, and the server's.
	Agents map[string]*Process
	Server *Process

	program string
}

// StartSecured starts a secured Consul and returns when its agents know the leader. Only one can run at a time.
func (c *Cluster) StartSecured(ctx context.Context, options SecuredOptions) (*Secured, error) {
	s := &Secured{
		Dir: c.layout.path("secured"), Agents: map[string]*Process{}, program: c.tools.Program(toolchain.Consul, "consul"),
	}
	if err := errors.Join(os.RemoveAll(s.Dir), os.MkdirAll(s.Dir, 0o755)); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	if err := s.writeCertificates(); err != nil {
		return nil, err
	}
	if err := s.start(ctx, c, options); err != nil {
		return nil, errors.Join(fmt.Errorf("start secured consul: %w", err), s.Stop(context.WithoutCancel(ctx)))
	}
	return s, nil
}

func (s *Secured) writeCertificates() error {
	ca, err := newAuthority("agentlet-secured")
	if err != nil {
		return err
	}
	place := layout{dir: s.Dir}
	requests := map[string]request{
		"agent": {
			commonName: "client.dc1.consul",
			names:      []string{"client.dc1.consul", "localhost"},
			usage:      x509.ExtKeyUsageServerAuth,
		},
		"server": {
			commonName: "server.dc1.consul",
			names:      []string{"server.dc1.consul", "localhost"},
			usage:      x509.ExtKeyUsageServerAuth,
		},
		"client": {commonName: "pods", usage: x509.ExtKeyUsageClientAuth},
	}
	if err := os.MkdirAll(place.path("pki"), 0o755); err != nil {
		return fmt.Errorf("make folder: %w", err)
	}
	if err := ca.write(place, "ca"); err != nil {
		return err
	}
	for name, r := range requests {
		leaf, err := ca.issue(r)
		if err != nil {
			return err
		}
		if err := leaf.write(place, name); err != nil {
			return err
		}
	}
	s.Dir = place.path("pki")
	return nil
}

func (s *Secured) start(ctx context.Context, c *Cluster, options SecuredOptions) error {
	l := c.layout
	process := func(name, ip, netns, cgroup string, config map[string]any) (*Process, error) {
		p := &Process{
			Name: "consul-secured", Path: s.program, Netns: netns, Cgroup: cgroup,
			Args:    []string{"agent", "-config-file=" + filepath.Join(s.Dir, name+".json")},
			Probe:   probe{URL: "http://" + net.JoinHostPort(ip, strconv.Itoa(securedPlain)) + "/v1/status/leader", AnyStatus: true},
			LogFile: l.logFile(name, "consul-secured"), PIDFile: l.pidFile(name, "consul-secured"),
		}
		if err := s.writeConfig(name, ip, config); err != nil {
			return nil, err
		}
		return p, p.Start(ctx)
	}
	var err error
	s.Server, err = process("server", hostIP, "", l.controlCgroup(), map[string]any{
		"server": true, "bootstrap_expect": 1, "tls": s.https("server", false),
		"acl": acls(managementToken),
	})
	if err != nil {
		return err
	}
	if s.Client, err = s.client(hostIP); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		token, err := s.agentToken(ctx, n, options)
		if err != nil {
			return err
		}
		s.Agents[n.Name], err = process(n.Name, n.IP, l.netns(n.number), l.systemCgroup(n.number), map[string]any{
			"tls": s.https("agent", options.Mutual), "acl": acls(token),
		})
		if err != nil {
			return err
		}
	}
	return poll(ctx, func(ctx context.Context) error {
		known, _, err := s.Client.Catalog().Nodes((&api.QueryOptions{}).WithContext(ctx))
		if err == nil && len(known) != 1+len(c.Nodes) {
			err = fmt.Errorf("%d of %d nodes are in the catalog", len(known), 1+len(c.Nodes))
		}
		return err
	})
}

// securedPlain is the plain HTTP port for this package's own requests.
const securedPlain = 9500

func acls(agentToken string) map[string]any {
	tokens := map[string]any{"agent": agentToken}
	if agentToken == managementToken {
		tokens["initial_management"] = agentToken
	}
	return map[string]any{"enabled": true, "default_policy": "deny", "token_ttl": "2s", "tokens": tokens}
}

func (s *Secured) https(name string, mutual bool) map[string]any {
	return map[string]any{"https": map[string]any{
		"ca_file": filepath.Join(s.Dir, "ca.crt"), "cert_file": filepath.Join(s.Dir, name+".crt"),
		"key_file": filepath.Join(s.Dir, name+".key"), "verify_incoming": mutual,
	}}
}

func (s *Secured) writeConfig(name, ip string, more map[string]any) error {
	config := map[string]any{
		"node_name": "secured-" + name, "data_dir": filepath.Join(s.Dir, name), "bind_addr": ip, "client_addr": ip,
		"retry_join": []string{net.JoinHostPort(hostIP, strconv.Itoa(securedSerf))}, "retry_interval": "1s",
		"ports": map[string]any{
			"http": securedPlain, "https": SecuredPort, "server": securedServer, "serf_lan": securedSerf, "serf_wan": -1,
			"dns": -1, "grpc": -1, "grpc_tls": -1,
		},
		"leave_on_terminate": false, "disable_update_check": true,
		"limits": map[string]any{"http_max_conns_per_client": 2000}, "performance": map[string]any{"raft_multiplier": 1},
	}
	maps.Copy(config, more)
	content, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		return fmt.Errorf("encode consul configuration: %w", err)
	}
	return writeFile(filepath.Join(s.Dir, name+".json"), content)
}

// agentToken creates the token of a node's agent, with or without the right to register the node.
func (s *Secured) agentToken(ctx context.Context, n *Node, options SecuredOptions) (secret string, err error) {
	token := &api.ACLToken{NodeIdentities: []*api.ACLNodeIdentity{{NodeName: "secured-" + n.Name, Datacenter: "dc1"}}}
	for _, powerless := range options.Powerless {
		if powerless == n {
			token.NodeIdentities, token.TemplatedPolicies = nil, []*api.ACLTemplatedPolicy{{TemplateName: "builtin/dns"}} // read-only
		}
	}
	err = poll(ctx, func(ctx context.Context) error { // repeat until there is a leader
		made, _, err := s.Client.ACL().TokenCreate(token, (&api.WriteOptions{}).WithContext(ctx))
		if err == nil {
			secret = made.SecretID
		}
		return err
	})
	return secret, err
}

func (s *Secured) client(ip string) (*api.Client, error) {
	pool := x509.NewCertPool()
	content, err := os.ReadFile(filepath.Join(s.Dir, "ca.crt"))
	if err != nil || !pool.AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("read authority: %w", errors.Join(err, errors.New("no certificate")))
	}
	client, err := api.NewClient(&api.Config{
		Address: net.JoinHostPort(ip, strconv.Itoa(SecuredPort)), Scheme: "https", Token: managementToken,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "localhost", MinVersion: tls.VersionTLS12}},
	})
	if err != nil {
		return nil, fmt.Errorf("make consul client: %w", err)
	}
	return client, nil
}

// AgentClient returns a client of a node's agent, with all rights.
func (s *Secured) AgentClient(n *Node) (*api.Client, error) { return s.client(n.IP) }

// Environment returns variables with which the command consul, found in PATH, reaches the server with all rights.
func (s *Secured) Environment() []string {
	return []string{
		"CONSUL_HTTP_ADDR=https://" + net.JoinHostPort(hostIP, strconv.Itoa(SecuredPort)), "CONSUL_HTTP_TOKEN=" + managementToken,
		"CONSUL_CACERT=" + filepath.Join(s.Dir, "ca.crt"), "CONSUL_TLS_SERVER_NAME=localhost",
	}
}

// Stop stops the secured Consul and removes its data.
func (s *Secured) Stop(ctx context.Context) error {
	var errs []error
	for _, p := range s.Agents {
		if p != nil {
			errs = append(errs, p.Kill(ctx))
		}
	}
	if s.Server != nil {
		errs = append(errs, s.Server.Kill(ctx))
	}
	return errors.Join(append(errs, os.RemoveAll(filepath.Dir(s.Dir)))...)
}
