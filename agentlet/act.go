package agentlet

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Bounds of the calls that answer at once; those that wait are bounded by their adapters.
const (
	agentTimeout = 5 * time.Second
	gateTimeout  = 10 * time.Second
)

// do carries an action out. It knows no state.
func (r *Registrar) do(ctx context.Context, a action) (res result) {
	res.action = a
	if !a.kind.long() {
		bound := agentTimeout
		if a.kind == setGate {
			bound = gateTimeout
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, bound)
		defer cancel()
	}
	switch a.kind {
	case probe:
		if res.leader, res.err = r.config.View.HasLeader(ctx); res.err == nil && !res.leader {
			res.err = errNoLeader
		}
	case inspect:
		res.observed, res.err = r.config.View.Instances(ctx, r.config.Identity.Prefix())
	case register:
		res.err = r.config.Agent.Register(ctx, a.definition, a.health, a.obsolete)
	case deregister:
		res.err = r.config.Agent.Deregister(ctx, a.id)
	case setHealth:
		res.err = r.config.Agent.Update(ctx, contract.ReadinessID(a.id), a.health, a.output)
	case beat:
		res.err = r.config.Agent.Update(ctx, contract.HeartbeatID(a.id), contract.Passing, "")
	case watch:
		res.hash, res.err = r.config.View.Changed(ctx, a.id, a.hash)
	case readCatalog:
		res.view, res.err = r.config.Catalog.OnNode(ctx, r.config.Identity.Prefix(), a.index)
	case setGate:
		res.err = r.config.Kube.SetCondition(ctx, a.condition)
	}
	return res
}

// report logs what has happened: each change once, a failure when it begins and when it is over.
func (l *loop) report(ctx context.Context, s *state, r result) {
	if errors.Is(r.err, context.Canceled) {
		return
	}
	was := s.retries[r.action.lane()]
	log := l.log.With("action", string(r.action.kind))
	if r.action.id != "" {
		log = log.With("service", r.action.id)
	}
	switch {
	case errors.Is(r.err, ErrAbsent) && (r.action.kind == setHealth || r.action.kind == beat || r.action.kind == watch):
		l.metrics.lost()
		log.Warn("the Consul agent has lost an instance or a check")
	case r.err != nil && !errors.Is(r.err, ErrAbsent):
		level := slog.LevelDebug
		if was.failures == 0 || was.err.Error() != r.err.Error() {
			level = slog.LevelWarn
		}
		log.Log(ctx, level, "failed", "error", r.err)
	case was.failures > 0:
		log.Info("succeeded again", "failures", was.failures)
	}
	if r.err != nil {
		return
	}
	switch r.action.kind {
	case register:
		log.Info("registered", "health", string(r.action.health), "fresh", r.action.fresh)
	case deregister:
		log.Info("deregistered")
	case setHealth:
		if i := s.instances[r.action.id]; i != nil && i.readiness != r.action.health {
			log.Info("health set", "health", string(r.action.health))
		}
	case setGate:
		l.metrics.gateSet(s, r.action.condition)
		log.Info("gate set", "status", string(r.action.condition.Status), "reason", r.action.condition.Reason)
	case probe, inspect, beat, watch, readCatalog: // everyday
	}
}
