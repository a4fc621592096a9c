package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	coordination "k8s.io/client-go/kubernetes/typed/coordination/v1"
	core "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
)

// Times of the election. A lease's duration is in whole seconds; a released lease is taken at the next attempt.
const (
	leaseDuration = 2 * time.Second
	renewDeadline = 1500 * time.Millisecond
	lookEvery     = 100 * time.Millisecond
	// restAfter is how long a member doesn't compete for the lease after a stepdown.
	restAfter = time.Second
)

// member is a pod that may become the primary. It writes its role into its own pod's label "role".
type member struct {
	pods    core.PodInterface
	leases  coordination.CoordinationV1Interface
	lease   string
	name    string
	space   string
	primary atomic.Bool

	mu       sync.Mutex // held while the label is written, so that the last role stays
	stepping sync.Mutex // held by stepDown
	stepDown context.CancelFunc
}

// newMember returns nil if LEASE is not set.
func newMember() (*member, error) {
	lease := os.Getenv("LEASE")
	if lease == "" {
		return nil, nil
	}
	config, err := rest.InClusterConfig()
	if err != nil {
		return nil, fmt.Errorf("find the API server: %w", err)
	}
	config.QPS, config.Burst = 100, 100 // high, so that client-side throttling doesn't delay the election
	pods, err := core.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	leases, err := coordination.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make client: %w", err)
	}
	space := os.Getenv("POD_NAMESPACE")
	return &member{pods: pods.Pods(space), leases: leases, lease: lease, name: os.Getenv("POD_NAME"), space: space}, nil
}

func (m *member) role() string {
	if m.primary.Load() {
		return "primary"
	}
	return "replica"
}

// run takes part in elections until ctx ends.
func (m *member) run(ctx context.Context) error {
	for ctx.Err() == nil {
		term, cancel := context.WithCancel(ctx)
		m.stepping.Lock()
		m.stepDown = cancel
		m.stepping.Unlock()
		elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
			Lock: &resourcelock.LeaseLock{
				LeaseMeta:  metav1.ObjectMeta{Name: m.lease, Namespace: m.space},
				Client:     m.leases,
				LockConfig: resourcelock.ResourceLockConfig{Identity: m.name},
			},
			LeaseDuration: leaseDuration, RenewDeadline: renewDeadline, RetryPeriod: lookEvery, ReleaseOnCancel: true, Name: m.lease,
			Callbacks: leaderelection.LeaderCallbacks{
				OnStartedLeading: func(term context.Context) { m.primary.Store(true); m.label(term, ctx) },
				OnStoppedLeading: func() { m.primary.Store(false); m.label(ctx, ctx) },
			},
		})
		if err != nil {
			cancel()
			return fmt.Errorf("take part in elections: %w", err)
		}
		elector.Run(term)
		cancel()
		select {
		case <-ctx.Done():
		case <-time.After(restAfter):
		}
	}
	return nil
}

// label writes the member's current role, until that succeeds or a context ends.
func (m *member) label(term, ctx context.Context) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for term.Err() == nil && ctx.Err() == nil {
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{"role":%q}}}`, m.role())
		_, err := m.pods.Patch(ctx, m.name, types.MergePatchType, patch, metav1.PatchOptions{})
		if err == nil {
			return
		}
		fmt.Fprintln(os.Stderr, "sample: label the pod:", err)
		time.Sleep(lookEvery)
	}
}

// serve adds a member's handlers.
func (m *member) serve(mux *http.ServeMux) {
	mux.HandleFunc("GET /role", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, m.role()) })
	mux.HandleFunc("PUT /stepdown", func(http.ResponseWriter, *http.Request) {
		m.primary.Store(false) // first, because others may hold the lease from then on
		m.stepping.Lock()
		defer m.stepping.Unlock()
		m.stepDown()
	})
}
