package consul

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// Register implements agentlet.Agent. It writes its own request, because Consul's client knows no DisableRedirects. It
// doesn't ask for replace-existing-checks, by which the agent would also drop a maintenance that an operator has set.
func (c *Client) Register(ctx context.Context, d agentlet.Definition, health contract.Health, obsolete []string) error {
	op := "register " + d.ID
	body, err := json.Marshal(service(d, health))
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	endpoint := url.URL{Scheme: c.config.Scheme, Host: c.config.Address, Path: "/v1/agent/service/register"}
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, endpoint.String(), bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("%s: %w", op, err)
	}
	request.Header.Set("Content-Type", "application/json")
	if token := c.token(); token != "" {
		request.Header.Set("X-Consul-Token", token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return c.classify(op, err)
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err == nil && response.StatusCode != http.StatusOK {
		if d.Ports != nil && knowsNoPorts(response.StatusCode, answer) {
			return fmt.Errorf("%s: %w: %s", op, agentlet.ErrRejected, c.noNamedPorts(ctx))
		}
		err = api.StatusError{Code: response.StatusCode, Body: string(answer)}
	}
	if err != nil {
		return c.classify(op, err)
	}
	for _, check := range obsolete {
		err := c.classify("deregister "+check, c.api.Agent().CheckDeregisterOpts(check, c.query(ctx)))
		if err != nil && !errors.Is(err, agentlet.ErrAbsent) {
			return err
		}
	}
	return nil
}

// maxAnswer bounds what is read of an agent's answer to a registration, which is empty or one line.
const maxAnswer = 4 << 10

// registrationBody is a service definition whose checks can say more than the client library's.
type registrationBody struct {
	*api.AgentServiceRegistration
	Checks []checkBody
}

// checkBody is a check definition with a field that the client library lacks, and with one that it leaves out where it is false,
// though Consul's default is true.
type checkBody struct {
	*api.AgentServiceCheck
	DisableRedirects bool  `json:",omitempty"`
	H2PingUseTLS     *bool `json:",omitempty"`
}

// Deregister implements agentlet.Agent.
func (c *Client) Deregister(ctx context.Context, id string) error {
	return c.classify("deregister "+id, c.api.Agent().ServiceDeregisterOpts(id, c.query(ctx)))
}

// Update implements agentlet.Agent.
func (c *Client) Update(ctx context.Context, checkID string, health contract.Health, output string) error {
	return c.classify("update "+checkID, c.api.Agent().UpdateTTLOpts(checkID, output, string(health), c.query(ctx)))
}

// HasLeader implements agentlet.AgentView.
func (c *Client) HasLeader(ctx context.Context) (bool, error) {
	leader, err := c.api.Status().LeaderWithQueryOptions(c.query(ctx))
	if err != nil && strings.Contains(err.Error(), "No cluster leader") {
		return false, nil
	}
	return leader != "", c.classify("ask for the leader", err)
}

// Instances implements agentlet.AgentView.
func (c *Client) Instances(ctx context.Context, prefix string) (map[string]agentlet.Observed, error) {
	services, err := c.api.Agent().ServicesWithFilterOpts("ID contains "+quote(prefix), c.query(ctx))
	if err != nil {
		return nil, c.classify("list the agent's services", err)
	}
	checks, err := c.checks(ctx, prefix)
	if err != nil {
		return nil, err
	}
	observed := make(map[string]agentlet.Observed, len(services))
	for id, s := range services {
		if s != nil && strings.HasPrefix(id, prefix) {
			observed[id] = agentlet.Observed{Definition: definition(s)}
		}
	}
	for _, check := range checks {
		o, ours := observed[check.ServiceID]
		if !ours || !strings.HasPrefix(check.CheckID, check.ServiceID+":") {
			continue
		}
		o.Checks = append(o.Checks, check.CheckID)
		switch check.CheckID {
		case contract.HeartbeatID(check.ServiceID):
			o.Fingerprint = fingerprintIn(check.Notes)
		case contract.ReadinessID(check.ServiceID):
			o.Readiness, o.MaintenanceOutput = contract.Health(check.Status), maintenanceIn(check)
			o.Definition.Maintenance = maintenanceInNotes(check.Notes)
		}
		observed[check.ServiceID] = o
	}
	for _, o := range observed {
		slices.Sort(o.Checks)
	}
	return observed, nil
}

// checks are those that the agent has of the pod's instances. Each has the name of the agent's node.
func (c *Client) checks(ctx context.Context, prefix string) ([]*api.AgentCheck, error) {
	listed, err := c.api.Agent().ChecksWithFilterOpts("ServiceID contains "+quote(prefix), c.query(ctx))
	if err != nil {
		return nil, c.classify("list the agent's checks", err)
	}
	var checks []*api.AgentCheck
	for _, check := range listed {
		if check != nil && strings.HasPrefix(check.ServiceID, prefix) {
			c.setNodeName(check.Node)
			checks = append(checks, check)
		}
	}
	return checks, nil
}

// Changed implements agentlet.AgentView with the agent's hash-based blocking query.
func (c *Client) Changed(ctx context.Context, id, hash string) (string, error) {
	q := c.query(ctx)
	q.WaitHash, q.WaitTime = hash, c.config.Wait
	ctx, cancel := context.WithTimeout(ctx, c.config.Wait+c.config.Wait/8)
	defer cancel()
	_, meta, err := c.api.Agent().Service(id, q.WithContext(ctx))
	if err != nil {
		return "", c.classify("watch "+id, err)
	}
	return meta.LastContentHash, nil
}

// definition of an instance as the agent has it.
func definition(s *api.AgentService) agentlet.Definition {
	d := agentlet.Definition{ID: s.ID, Service: registration.Service{
		Name: s.Service, Port: s.DefaultPort(), Ports: namedPorts(s.Ports), Tags: s.Tags, Meta: s.Meta, Address: s.Address,
		EnableTagOverride: s.EnableTagOverride,
		Weights:           &registration.Weights{Passing: s.Weights.Passing, Warning: s.Weights.Warning},
		TaggedAddresses:   make(map[string]registration.TaggedAddress, len(s.TaggedAddresses)),
	}}
	for tag, address := range s.TaggedAddresses {
		d.TaggedAddresses[tag] = registration.TaggedAddress{Address: address.Address, Port: address.Port}
	}
	d.Native = s.Connect != nil && s.Connect.Native
	if s.Kind == api.ServiceKindConnectProxy && s.Proxy != nil {
		d.ProxyFor, d.ProxyForName, d.Proxy = s.Proxy.DestinationServiceID, s.Proxy.DestinationServiceName, proxy(s.Proxy)
	}
	return d
}

// namedPorts of a service as the agent has it; nil where it has none.
func namedPorts(ports api.ServicePorts) (named []registration.Port) {
	for _, p := range ports {
		named = append(named, registration.Port(p))
	}
	return named
}

// proxy is a mesh proxy as the agent has it.
func proxy(p *api.AgentServiceConnectProxyConfig) *registration.Proxy {
	told := &registration.Proxy{LocalServiceAddress: p.LocalServiceAddress, LocalServicePort: p.LocalServicePort, Config: p.Config}
	for _, u := range p.Upstreams {
		told.Upstreams = append(told.Upstreams, registration.Upstream{
			DestinationType: string(u.DestinationType), DestinationName: u.DestinationName, DestinationPeer: u.DestinationPeer,
			Datacenter: u.Datacenter, DestinationNamespace: u.DestinationNamespace, DestinationPartition: u.DestinationPartition,
			LocalBindAddress: u.LocalBindAddress, LocalBindPort: u.LocalBindPort, Config: u.Config,
		})
	}
	return told
}

// proxyConfig is a mesh proxy's configuration, in Consul's form. The mode is said, because to a proxy that takes the
// default one the agent adds the upstreams of proxy-defaults and service-defaults, and it would never be as it was put.
func proxyConfig(d agentlet.Definition) *api.AgentServiceConnectProxyConfig {
	p := &api.AgentServiceConnectProxyConfig{
		DestinationServiceName: d.ProxyForName, DestinationServiceID: d.ProxyFor, Mode: api.ProxyModeDirect,
		LocalServiceAddress: d.Proxy.LocalServiceAddress, LocalServicePort: d.Proxy.LocalServicePort, Config: d.Proxy.Config,
	}
	for _, u := range d.Proxy.Upstreams {
		p.Upstreams = append(p.Upstreams, api.Upstream{
			DestinationType: api.UpstreamDestType(u.DestinationType), DestinationName: u.DestinationName,
			DestinationPeer: u.DestinationPeer, Datacenter: u.Datacenter, DestinationNamespace: u.DestinationNamespace,
			DestinationPartition: u.DestinationPartition, LocalBindAddress: u.LocalBindAddress, LocalBindPort: u.LocalBindPort,
			Config: u.Config,
		})
	}
	return p
}

// service is the definition in Consul's form, with the registrar's own two checks.
func service(d agentlet.Definition, health contract.Health) registrationBody {
	s := registrationBody{AgentServiceRegistration: &api.AgentServiceRegistration{
		ID: d.ID, Name: d.Name, Port: d.Port, Tags: d.Tags, Meta: d.Meta, Address: d.Address,
		EnableTagOverride: d.EnableTagOverride, Namespace: d.Namespace, Partition: d.Partition,
	}}
	if d.Ports != nil {
		s.Port = 0 // Consul takes one or the other
		for _, p := range d.Ports {
			s.Ports = append(s.Ports, api.ServicePort(p))
		}
	}
	s.Checks = []checkBody{
		{AgentServiceCheck: &api.AgentServiceCheck{
			CheckID: contract.HeartbeatID(d.ID), Name: "agentlet heartbeat",
			Notes: heartbeatNotesOf(d), TTL: d.HeartbeatTTL.String(),
			Status: api.HealthPassing, DeregisterCriticalServiceAfter: d.DeregisterAfter.String(),
		}},
		{AgentServiceCheck: &api.AgentServiceCheck{
			CheckID: contract.ReadinessID(d.ID), Name: "agentlet readiness",
			Notes: readinessNotesOf(d), TTL: contract.ReadinessTTL.String(),
			Status: string(health),
		}},
	}
	if d.Native {
		s.Connect = &api.AgentServiceConnect{Native: true}
	}
	if d.Proxy != nil {
		s.Kind, s.Proxy = api.ServiceKindConnectProxy, proxyConfig(d)
	}
	if d.Weights != nil {
		s.Weights = &api.AgentWeights{Passing: d.Weights.Passing, Warning: d.Weights.Warning}
	}
	if len(d.TaggedAddresses) > 0 {
		s.TaggedAddresses = make(map[string]api.ServiceAddress, len(d.TaggedAddresses))
		for tag, address := range d.TaggedAddresses {
			s.TaggedAddresses[tag] = api.ServiceAddress{Address: address.Address, Port: address.Port}
		}
	}
	for i, own := range d.Checks {
		s.Checks = append(s.Checks, check(contract.CheckID(d.ID, i), withSync(d, ""), own))
	}
	return s
}

// check is one of the service's own in Consul's form. It follows no redirects: they could lead anywhere.
func check(id, notes string, c registration.Check) checkBody {
	converted := &api.AgentServiceCheck{
		CheckID: id, Name: c.Name, Notes: notes,
		HTTP: c.HTTP, TCP: c.TCP, UDP: c.UDP, GRPC: c.GRPC, GRPCUseTLS: c.GRPCUseTLS, H2PING: c.H2PING,
		TLSSkipVerify: c.TLSSkipVerify, TLSServerName: c.TLSServerName, Method: c.Method, Body: c.Body, Header: c.Header,
		Interval: c.Interval.String(), Status: string(c.Status),
		SuccessBeforePassing: c.SuccessBeforePassing, FailuresBeforeWarning: c.FailuresBeforeWarning,
		FailuresBeforeCritical: c.FailuresBeforeCritical,
	}
	if c.Timeout > 0 {
		converted.Timeout = c.Timeout.String()
	}
	body := checkBody{AgentServiceCheck: converted, DisableRedirects: true}
	if c.H2PING != "" {
		body.H2PingUseTLS = &c.H2PingUseTLS
	}
	return body
}

// query is a call's bound, and the token that it is made with.
func (c *Client) query(ctx context.Context) *api.QueryOptions {
	return (&api.QueryOptions{Token: c.token()}).WithContext(ctx)
}

// quote makes a string literal of Consul's filter language. No name of Kubernetes' holds a backquote.
func quote(s string) string { return "`" + s + "`" }
