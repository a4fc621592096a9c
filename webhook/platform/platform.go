// Package platform decides on pods as the injector does, once it is known what the injector has to know of the cluster: whether
// its admission assigns users to containers.
package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/agentlet/agentlet/injector"
)

// Decider decides on pods. It is safe for concurrent use.
type Decider struct {
	config       injector.Config
	assignsUsers func(ctx context.Context) (bool, error)
	log          *slog.Logger
	// injector is nil until the platform is known.
	injector atomic.Pointer[injector.Injector]
}

// New returns a Decider with this configuration, or all errors of it. Unless RunAsUser is RunAsAuto it is ready at once, and
// never asks whether the cluster assigns users.
func New(config injector.Config, assignsUsers func(ctx context.Context) (bool, error), log *slog.Logger) (*Decider, error) {
	made, err := injector.New(config)
	if err != nil {
		return nil, err
	}
	d := &Decider{config: config, assignsUsers: assignsUsers, log: log}
	if !config.RunAsUser.Auto() {
		d.injector.Store(made)
	}
	return d, nil
}

// newBackoff is the pause between questions. The jitter keeps replicas from asking in step.
func newBackoff() wait.Backoff {
	return wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 100, Cap: 10 * time.Second}
}

// Run asks until there is an answer or the context ends. It returns nil, unless no injector can be made.
func (d *Decider) Run(ctx context.Context) error {
	for backoff := newBackoff(); d.Ready() != nil && ctx.Err() == nil; {
		assigned, err := d.assignsUsers(ctx)
		if err == nil {
			return d.decideFor(ctx, assigned)
		}
		pause := backoff.Step()
		d.log.WarnContext(ctx, "platform unknown, no pod is decided on", "error", err, "retry", pause)
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
	return nil
}

// decideFor makes the injector for the platform.
func (d *Decider) decideFor(ctx context.Context, assignsUsers bool) error {
	config := d.config
	if assignsUsers {
		config.RunAsUser = injector.RunAsNone
	}
	made, err := injector.New(config)
	if err != nil {
		return fmt.Errorf("create injector: %w", err)
	}
	d.injector.Store(made)
	d.log.InfoContext(ctx, "platform known", "assignsUsers", assignsUsers)
	return nil
}

var errUnknown = errors.New("it is not known yet whether the cluster assigns users to containers")

// Ready is nil once the platform is known, and stays nil.
func (d *Decider) Ready() error {
	if d.injector.Load() == nil {
		return errUnknown
	}
	return nil
}

// Decide on one pod. It may be called once Ready is nil.
func (d *Decider) Decide(request injector.Request) injector.Decision {
	return d.injector.Load().Decide(request)
}
