package observe

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/consul/api"
)

// Bare is a client of Consul that knows nothing of pods: it registers one instance of a service at a node's agent, and sees it
// in the catalog by a blocking query, as Timeline sees pods. How long that takes is the floor under an agentlet's times: the
// part of Consul and of the network, which no agentlet can save. It is for one caller at a time.
type Bare struct {
	agent   *api.Agent
	service string
	seen    chan sight
}

// sight is how the catalog had the instance, and when that was seen.
type sight struct {
	health string // of its checks together; absent where it isn't there
	at     time.Time
}

const absent = "absent"

// NewBare follows the service of that name, which nobody else registers, at a Consul server until ctx ends.
func NewBare(ctx context.Context, agent, server *api.Client, service string) *Bare {
	b := &Bare{agent: agent.Agent(), service: service, seen: make(chan sight, 16)}
	go b.follow(ctx, server.Health())
	return b
}

// Register puts the instance with a check that is critical. Like the others it returns the time from the call until the
// catalog was seen to have it so.
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

// await skips what was seen of earlier states.
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

// follow sends each change of the instance's health, in its order.
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
			continue // woken by something else
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
