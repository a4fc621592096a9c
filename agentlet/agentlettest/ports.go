// Package agentlettest has the ports of a registrar, for the tests of its adapters. A test replaces the ports that it is about.
package agentlettest

import (
	"cmp"
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// Ports are a Consul whose catalog has each registration at once, an API server that keeps the gate's condition, and containers
// whose probes succeed.
type Ports struct {
	mu        sync.Mutex
	instances map[string]instance
	gate      corev1.PodCondition
	reasons   []contract.Reason // of the gate's conditions, in the order in which they were written
	index     uint64            // of the catalog
	changed   chan struct{}     // closed, and made anew, with each index
}

type instance struct {
	definition           agentlet.Definition
	readiness, heartbeat contract.Health
}

// New returns the ports of an empty Consul.
func New() *Ports {
	return &Ports{instances: map[string]instance{}, index: 1, changed: make(chan struct{})}
}

// Fill sets the ports that a configuration lacks, but for Login, and a logger that discards.
func (p *Ports) Fill(config agentlet.Config) agentlet.Config {
	config.Agent = cmp.Or[agentlet.Agent](config.Agent, p)
	config.View = cmp.Or[agentlet.AgentView](config.View, p)
	config.Catalog = cmp.Or[agentlet.Catalog](config.Catalog, p)
	config.Kube = cmp.Or[agentlet.Kubernetes](config.Kube, p)
	config.Prober = cmp.Or[agentlet.Prober](config.Prober, p)
	config.Hooks = cmp.Or[agentlet.Hooks](config.Hooks, p)
	config.Logger = cmp.Or(config.Logger, slog.New(slog.DiscardHandler))
	return config
}

// Gate is the condition that was written last; before that the zero condition.
func (p *Ports) Gate() corev1.PodCondition {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gate
}

// Open reports whether the gate is open.
func (p *Ports) Open() bool { return p.Gate().Status == corev1.ConditionTrue }

// Gave reports whether the gate's condition was ever written with this reason.
func (p *Ports) Gave(reason contract.Reason) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Contains(p.reasons, reason)
}

// change has the instance changed, which is the zero instance where there is none; nil removes it.
func (p *Ports) change(id string, change func(instance) *instance) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	was, there := p.instances[id]
	next := change(was)
	if next == nil {
		delete(p.instances, id)
	} else {
		p.instances[id] = *next
	}
	p.index++
	close(p.changed)
	p.changed = make(chan struct{})
	if !there {
		return agentlet.ErrAbsent
	}
	return nil
}

// Register puts an instance.
func (p *Ports) Register(_ context.Context, d agentlet.Definition, health contract.Health, _ []string) error {
	_ = p.change(d.ID, func(i instance) *instance {
		return &instance{d, cmp.Or(i.readiness, health), cmp.Or(i.heartbeat, contract.Passing)}
	})
	return nil
}

// Deregister removes an instance.
func (p *Ports) Deregister(_ context.Context, id string) error {
	return p.change(id, func(instance) *instance { return nil })
}

// Update writes a TTL check.
func (p *Ports) Update(_ context.Context, checkID string, health contract.Health, _ string) error {
	id, _, _ := strings.Cut(checkID, ":")
	return p.change(id, func(i instance) *instance {
		switch {
		case i.definition.ID == "":
			return nil
		case checkID == contract.HeartbeatID(id):
			i.heartbeat = health
		default:
			i.readiness = health
		}
		return &i
	})
}

// HasLeader reports true.
func (p *Ports) HasLeader(context.Context) (bool, error) { return true, nil }

// Instances returns what was registered, as it was registered.
func (p *Ports) Instances(_ context.Context, prefix string) (map[string]agentlet.Observed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	observed := map[string]agentlet.Observed{}
	for id, i := range p.instances {
		if strings.HasPrefix(id, prefix) {
			checks := []string{contract.HeartbeatID(id), contract.ReadinessID(id)}
			for n := range i.definition.Checks {
				checks = append(checks, contract.CheckID(id, n))
			}
			observed[id] = agentlet.Observed{
				Definition: i.definition, Fingerprint: i.definition.Fingerprint(), Readiness: i.readiness, Checks: checks,
			}
		}
	}
	return observed, nil
}

// Changed waits for another definition, whose fingerprint is the hash.
func (p *Ports) Changed(ctx context.Context, id, hash string) (string, error) {
	for {
		p.mu.Lock()
		i, there := p.instances[id]
		changed := p.changed
		p.mu.Unlock()
		if !there {
			return "", agentlet.ErrAbsent
		}
		if now := i.definition.Fingerprint(); now != hash {
			return now, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
}

// OnNode returns the catalog, with an index when it is newer than that or the wait is over.
func (p *Ports) OnNode(ctx context.Context, prefix string, index uint64, wait time.Duration) (agentlet.CatalogView, error) {
	over := time.After(wait)
	for {
		p.mu.Lock()
		view, changed := p.view(prefix), p.changed
		p.mu.Unlock()
		if view.Index > index {
			return view, nil
		}
		select {
		case <-changed:
		case <-over:
			return view, nil
		case <-ctx.Done():
			return agentlet.CatalogView{}, ctx.Err()
		}
	}
}

func (p *Ports) view(prefix string) agentlet.CatalogView {
	view := agentlet.CatalogView{Index: p.index, Instances: map[string]agentlet.CatalogInstance{}}
	for id, i := range p.instances {
		if strings.HasPrefix(id, prefix) {
			health := i.readiness
			if i.heartbeat != contract.Passing {
				health = i.heartbeat
			}
			view.Instances[id] = agentlet.CatalogInstance{
				Health: health, Heartbeat: i.heartbeat, Readiness: i.readiness, Fingerprint: i.definition.Fingerprint(),
			}
		}
	}
	return view
}

// SetConditions keeps the gate's.
func (p *Ports) SetConditions(_ context.Context, conditions []corev1.PodCondition) (version string, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conditions {
		if c.Type == contract.Condition {
			p.gate = c
			p.reasons = append(p.reasons, contract.Reason(c.Reason))
		}
	}
	return "", nil
}

// CreateEvent drops the event.
func (p *Ports) CreateEvent(context.Context, agentlet.Event) error { return nil }

// Probe succeeds.
func (p *Ports) Probe(context.Context, registration.Probe) error { return nil }

// Call succeeds.
func (p *Ports) Call(context.Context, registration.PreStop) error { return nil }
