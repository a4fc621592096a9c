package observe

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
)

// Bare is a Consul client without pods. It registers one instance of a service at a node's agent, and observes it in the catalog
// with a blocking query, as Timeline does for pods. Its times are the lower bound of an agentlet's: the share of Consul and of
// the network. It is not safe for concurrent use.
type Bare struct {
	agent   *api.Agent
	service string
	seen    chan sight
}

// sight is the instance's state in the catalog, and when it was observed.
type sight struct {
	health string // of all checks together; absent if the instance isn't there
	at     time.Time
}

const absent = "absent"

// NewBare watches the service of that name at a Consul server until ctx ends. Nothing else may register the service.
func NewBare(ctx context.Context, agent, server *api.Client, service string) *Bare {
	b := &Bare{agent: agent.Agent(), service: service, seen: make(chan sight, 16)}
	go b.follow(ctx, server.Health())
	return b
}

// Register registers the instance with a critical check. Register, Pass and Deregister return the time from the call until the
// catalog showed the new state.
func (b *Bare) Register(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := b.agent.ServiceRegisterOpts(&api.AgentServiceRegistration{
		ID: b.service, Name: b.service, Port: 8080,
		Check: &api.AgentServiceCheck{CheckID: b.check(), TTL: "24h", Status: api.HealthCritical},
	}, api.ServiceRegisterOpts{}.WithContext(ctx))
	return b.await(ctx, "register", began, err, api.HealthCritical)
}

// Pass updates the check to passing.
func (b *Bare) Pass(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := b.agent.UpdateTTLOpts(b.check(), "", api.HealthPassing, (&api.QueryOptions{}).WithContext(ctx))
	return b.await(ctx, "update the check", began, err, api.HealthPassing)
}

// Fail updates the check to critical.
func (b *Bare) Fail(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := b.agent.UpdateTTLOpts(b.check(), "", api.HealthCritical, (&api.QueryOptions{}).WithContext(ctx))
	return b.await(ctx, "update the check", began, err, api.HealthCritical)
}

// Deregister takes the instance out.
func (b *Bare) Deregister(ctx context.Context) (time.Duration, error) {
	began := time.Now()
	err := b.agent.ServiceDeregisterOpts(b.service, (&api.QueryOptions{}).WithContext(ctx))
	return b.await(ctx, "deregister", began, err, absent)
}

func (b *Bare) check() string { return b.service + ":check" }

// await waits until the catalog shows the wanted health, and skips earlier states.
func (b *Bare) await(ctx context.Context, op string, began time.Time, err error, health string) (time.Duration, error) {
	if err != nil {
		return 0, fmt.Errorf("%s %s: %w", op, b.service, err)
	}
	for {
		select {
		case <-ctx.Done():
			return 0, fmt.Errorf("%s %s: the catalog never had it %s: %w", op, b.service, health, ctx.Err())
		case s := <-b.seen:
			if s.health == health {
				return s.at.Sub(began), nil
			}
		}
	}
}

// follow sends each change of the instance's health, in order.
func (b *Bare) follow(ctx context.Context, server *api.Health) {
	last := absent
	for index := uint64(0); ctx.Err() == nil; {
		entries, meta, err := server.Service(b.service, "", false, (&api.QueryOptions{WaitIndex: index}).WithContext(ctx))
		if err != nil {
			index = 0
			pause(ctx, 100*time.Millisecond)
			continue
		}
		index = meta.LastIndex
		now := sight{healthOf(entries), time.Now()}
		if now.health == last {
			continue // the query returned for another reason
		}
		last = now.health
		select {
		case b.seen <- now:
		case <-ctx.Done():
		}
	}
}

func healthOf(entries []*api.ServiceEntry) string {
	if len(entries) == 0 {
		return absent
	}
	return entries[0].Checks.AggregatedStatus()
}
