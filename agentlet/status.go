package agentlet

import (
	"context"
	"strings"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Status is what /status shows: the own registration, nothing else and nothing secret.
type Status struct {
	Namespace string          `json:"namespace"`
	Pod       string          `json:"pod"`
	UID       string          `json:"uid"`
	Node      string          `json:"node"`
	Consul    string          `json:"consul"`
	Gate      GateStatus      `json:"gate"`
	Services  []ServiceStatus `json:"services"`
	// CatalogReadAt is when the catalog was last read; nil before it was.
	CatalogReadAt *time.Time `json:"catalogReadAt,omitempty"`
	Errors        string     `json:"errors,omitempty"`
	Phase         string     `json:"phase"` // starting, running, draining, drained
	ReadySince    *time.Time `json:"readySince,omitempty"`
	// Maintenance and Tags are what the application has said of itself by the local API.
	Maintenance string            `json:"maintenance,omitempty"`
	Tags        []string          `json:"tags,omitempty"`
	Failing     map[string]string `json:"failing,omitempty"` // what is being tried again, and why
}

// GateStatus is the gate as the agentlet wants it.
type GateStatus struct {
	Open    bool            `json:"open"`
	Reason  contract.Reason `json:"reason"`
	Message string          `json:"message,omitempty"`
}

// ServiceStatus is one service.
type ServiceStatus struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address"`
	Port    int    `json:"port"`
	// Agent is "present", "absent" or "unknown".
	Agent string `json:"agent"`
	// Readiness is the readiness check's health at the agent, Catalog the instance's in the catalog when last read.
	Readiness contract.Health `json:"readiness,omitempty"`
	Catalog   contract.Health `json:"catalog,omitempty"`
	// Failing are the checks in the catalog that are not passing, beside the registrar's own two.
	Failing string `json:"failing,omitempty"`
}

func (p presence) String() string { return [...]string{"unknown", "absent", "present"}[p] }

// Status is the newest one; nil before Run has begun.
func (r *Registrar) Status() *Status { return r.status.Load() }

// Bounds of /status, which anybody in the network may ask for: one reading of the catalog serves all who ask within statusAge, and
// an answer waits no longer than statusWait for it.
const (
	statusAge  = time.Second
	statusWait = 2 * time.Second
)

// readCatalog has the catalog read, unless that was done within statusAge, and waits until it is, for statusWait at the most. With
// an open gate nobody reads it otherwise.
func (r *Registrar) readCatalog(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	var read <-chan struct{}
	asked := r.ask(ctx, func(s *state, now time.Time) {
		if !s.terminating() { // the drain reads it anyway
			read = s.catalog.ask(now)
		}
	})
	if !asked || read == nil {
		return
	}
	select {
	case <-read:
		r.ask(ctx, func(*state, time.Time) {}) // the status of it is published with the next event
	case <-ctx.Done():
	case <-r.done:
	}
}

// ask for a reading, and returns what is closed when it is there; nil where the last one is new enough.
func (c *catalog) ask(now time.Time) <-chan struct{} {
	if c.view != nil && now.Sub(c.answeredAt) < statusAge {
		return nil
	}
	if c.asked == nil {
		c.asked = make(chan struct{})
		c.generation++ // one that waits for something newer is ended
	}
	return c.asked
}

func (r *Registrar) publish(s *state, p schedule) {
	status := &Status{
		Namespace: s.identity.Namespace, Pod: s.identity.Pod, UID: s.identity.UID, Node: s.identity.Node,
		Consul:   s.identity.ConsulAddress,
		Gate:     GateStatus{Open: s.gate.want.open, Reason: s.gate.want.reason, Message: s.gate.want.message},
		Services: []ServiceStatus{},
		Errors:   s.invalid, Maintenance: s.maintenanceOutput(), Tags: s.overrides.tags,
		Phase: phase(s, p),
	}
	if s.ready() {
		since := s.readySince
		status.ReadySince = &since
	}
	for _, i := range s.wanted() {
		service := ServiceStatus{
			ID: i.id, Name: i.want.Name, Address: i.want.Address, Port: i.want.Port,
			Agent: i.agent.String(), Readiness: i.readiness,
		}
		if s.catalog.view != nil {
			seen := s.catalog.view.Instances[i.id]
			service.Catalog, service.Failing = seen.Health, seen.Failing
		}
		status.Services = append(status.Services, service)
	}
	if s.catalog.view != nil {
		at := s.catalog.answeredAt
		status.CatalogReadAt = &at
	}
	for lane, retry := range s.retries {
		if p.work[lane].kind.isBlockingQuery() {
			continue // under way again, and has not failed since
		}
		if status.Failing == nil {
			status.Failing = map[string]string{}
		}
		status.Failing[strings.TrimSpace(lane.name+" "+lane.id)] = retry.err.Error()
	}
	r.status.Store(status)
}

func phase(s *state, p schedule) string {
	switch {
	case p.drained:
		return "drained"
	case s.terminating():
		return "draining"
	case s.pod == nil:
		return "starting"
	}
	return "running"
}
