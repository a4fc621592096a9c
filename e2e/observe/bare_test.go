package observe

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet/consul/consultest"
)

func TestBareAwaitsWhatItAskedFor(t *testing.T) {
	began := time.Now()
	b := &Bare{service: "bare", seen: make(chan sight, 3)}
	for i, health := range []string{absent, api.HealthCritical, api.HealthPassing} {
		b.seen <- sight{health, began.Add(time.Duration(i+1) * time.Second)}
	}
	if took, err := b.await(t.Context(), "register", began, nil, api.HealthCritical); err != nil || took != 2*time.Second {
		t.Errorf("await = %s, %v, want 2s: the earlier state is skipped", took, err)
	}
	if took, err := b.await(t.Context(), "update the check", began, nil, api.HealthPassing); err != nil || took != 3*time.Second {
		t.Errorf("await = %s, %v, want 3s: the later state is still there", took, err)
	}
	refused := errors.New("refused")
	if _, err := b.await(t.Context(), "deregister", began, refused, absent); !errors.Is(err, refused) || !strings.Contains(err.Error(), "deregister bare") {
		t.Errorf("a call that failed gave %v, want what was called and its error", err)
	}
	over, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.await(over, "deregister", began, nil, absent); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), absent) {
		t.Errorf("a state that never came gave %v, want an error that names it", err)
	}
}

func TestBareInConsul(t *testing.T) {
	consul := consultest.Start(t).Client
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	b := NewBare(ctx, consul, consul, "bare")
	for range 3 {
		for _, c := range []struct {
			do     func(context.Context) (time.Duration, error)
			health string
		}{{b.Register, api.HealthCritical}, {b.Pass, api.HealthPassing}, {b.Fail, api.HealthCritical}, {b.Deregister, absent}} {
			began := time.Now()
			took, err := c.do(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if took <= 0 || took > time.Since(began) {
				t.Errorf("%s took %s of the %s that passed", c.health, took, time.Since(began))
			}
			entries, _, err := consul.Health().Service("bare", "", false, nil)
			if err != nil || healthOf(entries) != c.health {
				t.Errorf("the catalog has it %s (%v), want %s", healthOf(entries), err, c.health)
			}
		}
	}
}
