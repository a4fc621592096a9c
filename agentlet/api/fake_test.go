package api

import (
	"context"
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
)

const testNonce = "0123456789abcdef"

// fake is a registrar that says what it is told to.
type fake struct {
	status *contract.Status
	// answer to an override.
	inCatalog bool
	err       error
	// drained is closed when the pod is out of the catalog; nil: it doesn't end.
	drained chan struct{}

	mu         sync.Mutex
	overrides  []agentlet.Override
	containers []string // whose own hooks were asked for
	reads      int
	drains     int
}

func (f *fake) Status() *contract.Status { return f.status }

func (f *fake) ReadStatus(context.Context) *contract.Status {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.reads++
	return f.status
}

func (f *fake) Samples() []contract.Sample {
	return []contract.Sample{
		{Name: "agentlet_gate_open", Value: 1},
		{Name: "agentlet_requests_total", Labels: []string{"register", "ok"}, Value: 3},
		{Name: "agentlet_request_duration_seconds", Suffix: "_sum", Labels: []string{"register"}, Value: .5},
		{Name: "agentlet_request_duration_seconds", Suffix: "_count", Labels: []string{"register"}, Value: 3},
	}
}

func (f *fake) Drain(ctx context.Context, grace time.Duration) bool {
	f.mu.Lock()
	f.drains++
	drained := f.drained
	f.mu.Unlock()
	if drained == nil {
		select {
		case <-ctx.Done():
		case <-time.After(grace):
		}
		return false
	}
	select {
	case <-ctx.Done():
		return false
	case <-drained:
		return true
	}
}

func (f *fake) DrainHook(ctx context.Context, container string, grace time.Duration) bool {
	f.mu.Lock()
	f.containers = append(f.containers, container)
	f.mu.Unlock()
	return f.Drain(ctx, grace)
}

func (f *fake) Override(_ context.Context, o agentlet.Override) (bool, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.overrides = append(f.overrides, o)
	return f.inCatalog, f.err
}

func (f *fake) server() *Server { return New(f, testNonce, slog.New(slog.DiscardHandler)) }

// running is a registrar whose pod is served.
func running(*testing.T) *fake {
	return &fake{
		inCatalog: true,
		status: &contract.Status{
			Phase: "running", Gate: contract.GateStatus{Open: true, Reason: contract.Registered, Message: "the catalog shows web"},
			Services: []contract.ServiceStatus{{Name: "web", Catalog: contract.Passing}},
		},
	}
}
