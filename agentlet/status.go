package agentlet

import (
	"context"
	"strings"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Status is the newest one; nil before Run has begun.
func (r *Registrar) Status() *contract.Status { return r.status.Load() }

// ReadStatus has the catalog read, unless that was done within the last second, and returns the status then. With an open gate
// nobody reads it otherwise. It waits two seconds at the most.
func (r *Registrar) ReadStatus(ctx context.Context) *contract.Status {
	ctx, cancel := context.WithTimeout(ctx, statusWait)
	defer cancel()
	var read <-chan struct{}
	asked := r.ask(ctx, func(s *state, now time.Time) {
		if !s.terminating() { // the drain reads it anyway
			read = s.catalog.ask(now)
		}
	})
	if asked && read != nil {
		select {
		case <-read:
			r.ask(ctx, func(*state, time.Time) {}) // the status of it is published with the next event
		case <-ctx.Done():
		case <-r.done:
		}
	}
	return r.Status()
}

func (r *Registrar) publish(s *state, p schedule) {
	status := &contract.Status{
		Namespace: s.identity.Namespace, Pod: s.identity.Pod, UID: s.identity.UID, Node: s.identity.Node,
		Consul:   s.identity.ConsulAddress,
		Gate:     contract.GateStatus{Open: s.gate.want.open, Reason: s.gate.want.reason, Message: s.gate.want.message},
		Services: []contract.ServiceStatus{},
		Errors:   s.invalid, Maintenance: s.maintenanceOutput(), Tags: s.overrides.tags,
		Phase: phase(s, p),
	}
	if s.ready() {
		since := s.readySince
		status.ReadySince = &since
	}
	for _, i := range s.wanted {
		service := contract.ServiceStatus{
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
	for k, retry := range s.retries {
		if c, planned := p.work[k]; planned && isBlocking(c) {
			continue // in flight again, and has not failed since
		}
		if status.Failing == nil {
			status.Failing = map[string]string{}
		}
		status.Failing[strings.TrimSpace(k.name+" "+k.id)] = retry.err.Error()
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
