package agentlet

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Bounds of the calls that answer at once; those that wait are bounded by their adapters.
const (
	agentTimeout = 5 * time.Second // and at least that for updates, which have their instance's patience
	gateTimeout  = 10 * time.Second
	eventTimeout = 5 * time.Second
	loginTimeout = 10 * time.Second // Consul may ask the API server
)

// execute carries an action out. It knows no state.
func (r *Registrar) execute(ctx context.Context, a action) (res outcome) {
	res.action = a
	if !a.kind.isBlockingQuery() {
		bound := agentTimeout
		switch a.kind {
		case updateHeartbeat, updateReadiness:
			bound = a.wait
		case patchStatus:
			bound = gateTimeout
		case createEvent:
			bound = eventTimeout
		case logIn:
			bound = loginTimeout
		default:
		}
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, bound)
		defer cancel()
	}
	switch a.kind {
	case getLeader:
		if res.leader, res.err = r.config.View.HasLeader(ctx); res.err == nil && !res.leader {
			res.err = errNoLeader
		}
	case listServices:
		res.observed, res.err = r.config.View.Instances(ctx, r.config.Identity.Prefix())
	case register:
		res.err = r.config.Agent.Register(ctx, a.definition, a.health, a.obsolete)
	case deregister:
		res.err = r.config.Agent.Deregister(ctx, a.id)
	case updateReadiness:
		res.err = r.config.Agent.Update(ctx, contract.ReadinessID(a.id), a.health, a.output)
	case updateHeartbeat:
		res.err = r.config.Agent.Update(ctx, contract.HeartbeatID(a.id), contract.Passing, "")
	case watch:
		res.hash, res.err = r.config.View.Changed(ctx, a.id, a.hash)
	case readCatalog:
		res.view, res.err = r.config.Catalog.OnNode(ctx, r.config.Identity.Prefix(), a.index, a.wait)
	case patchStatus:
		res.version, res.err = r.config.Kube.SetConditions(ctx, append([]corev1.PodCondition{a.condition}, a.others...))
	case createEvent:
		res.err = r.config.Kube.CreateEvent(ctx, a.event)
	case probeContainer:
		if res.failure = r.config.Prober.Probe(ctx, *a.probe); ctx.Err() != nil {
			res.err = context.Canceled // given up, and says nothing of the container
		}
	case logIn:
		res.session, res.err = r.config.Login.Login(ctx)
	case logOut:
		res.err = r.config.Login.Logout(ctx, a.session)
	}
	return res
}

// report logs what has happened: each change once, a failure when it begins and when it is over.
func (l *loop) report(ctx context.Context, s *state, r outcome) {
	if errors.Is(r.err, context.Canceled) {
		return
	}
	if r.action.kind == probeContainer {
		l.reportProbe(s, r)
		return
	}
	was := s.retries[r.action.key()]
	log := l.log.With("action", string(r.action.kind))
	if r.action.id != "" {
		log = log.With("service", r.action.id)
	}
	switch {
	case errors.Is(r.err, ErrAbsent) && (r.action.kind == updateReadiness || r.action.kind == updateHeartbeat || r.action.kind == watch):
		log.Warn("the Consul agent has lost an instance or a check")
	case r.err != nil && !errors.Is(r.err, ErrAbsent):
		level := slog.LevelDebug
		if was.isNew(r.err) {
			level = slog.LevelWarn
		}
		log.Log(ctx, level, "failed", "error", r.err)
	case was.failures > 0:
		log.Info("recovered", "failures", was.failures)
	}
	if r.err != nil {
		return
	}
	switch r.action.kind {
	case register:
		if r.action.markCritical {
			log.Warn("registered once more, as critical: " + notRemovedMessage(s))
			return
		}
		l.metrics.registered(r.action.cause)
		log.Info("registered", "health", string(r.action.health), "cause", r.action.cause)
	case deregister:
		log.Info("deregistered")
	case updateReadiness:
		if i := s.instances[r.action.id]; i != nil && i.readiness != r.action.health {
			log.Info("readiness check updated", "health", string(r.action.health))
		}
	case patchStatus:
		l.metrics.gateSet(s, r.action.condition)
		log.Info("readiness gate updated", "status", string(r.action.condition.Status), "reason", r.action.condition.Reason)
	case logIn:
		if s.login.session.ID != r.session.ID {
			log.Info("logged in", "session", r.session.ID, "renew", r.session.Renew)
		}
	case logOut:
		log.Info("logged out", "session", r.action.session)
	case getLeader, listServices, updateHeartbeat, watch, readCatalog, createEvent, probeContainer: // everyday
	}
}

// reportProbe logs a container's readiness by its own probe when it changes, and the first failure of a row.
func (l *loop) reportProbe(s *state, r outcome) {
	p := s.workers[r.action.id]
	if p == nil || p.current() != r.action.probe {
		return
	}
	next := *p
	next.record(r.failure == nil, time.Now())
	log := l.log.With("container", r.action.id)
	switch {
	case next.result != p.result && next.result == isReady:
		log.Info("the container's own probe succeeds")
	case next.result != p.result && next.result == notReady:
		log.Info("the container's own probe fails", "error", r.failure)
	case next.lastResult != p.lastResult && next.lastResult == notReady:
		log.Debug("the container's own probe begins to fail", "error", r.failure)
	}
}

// warnUnprobed logs which containers are left to the kubelet, when that changes.
func (r *Registrar) warnUnprobed(s *state) {
	if s.reg == nil || slices.Equal(s.reg.Unprobed, s.unprobed) {
		return
	}
	s.unprobed = s.reg.Unprobed
	for _, why := range s.unprobed {
		r.log.Warn("not probed by the agentlet", "reason", why)
	}
}
