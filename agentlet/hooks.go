package agentlet

import (
	"context"
	"errors"
	"time"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// hooks are the containers' own preStop hooks, which the agentlet runs when it has held their SIGTERM for the drain.
type hooks struct {
	// own hooks by container, of the pod's specification, which doesn't change.
	own map[string]registration.PreStop
	// underWay counts the calls of a container's hook that are not answered yet. answered are the containers of which one was
	// answered since the pod terminates.
	underWay map[string]int
	answered map[string]bool
}

func newHooks() hooks {
	return hooks{underWay: map[string]int{}, answered: map[string]bool{}}
}

func (h *hooks) begin(container string) { h.underWay[container]++ }

func (h *hooks) end(container string, terminating bool) {
	if h.underWay[container]--; h.underWay[container] <= 0 {
		delete(h.underWay, container)
	}
	if _, known := h.own[container]; known && terminating {
		h.answered[container] = true
	}
}

// lateHook is how long after SIGTERM a hook may still come. The kubelet runs all hooks of a pod at once, and an agentlet that
// is one of its containers gets SIGTERM after its own.
const lateHook = time.Second

// awaitsHooks reports whether the process has to live on for the own hooks of containers that run: for those under way until the
// kubelet waits no longer, and for a moment for those that have not come.
func (s *state) awaitsHooks(now time.Time, p *schedule) (awaits bool) {
	for container := range s.hooks.own {
		if status := containerStatus(s.pod, container); status == nil || status.State.Running == nil {
			continue
		}
		switch {
		case s.hooks.underWay[container] > 0:
			awaits = !p.reached(now, s.terminatingAt.Add(s.grace())) || awaits
		case !s.hooks.answered[container]:
			awaits = !p.reached(now, s.sigtermAt.Add(lateHook)) || awaits
		}
	}
	return awaits
}

// DrainHook answers the drain hook of a container that has a preStop hook of its own: it does what Drain does, and then runs
// that hook, also without a drain, as for a container that is restarted alone. It runs hooks of the pod's specification only.
// Both end with the grace period, which the kubelet counts from the call, or with ctx.
func (r *Registrar) DrainHook(ctx context.Context, container string, grace time.Duration) (drained bool) {
	came, log := time.Now(), r.log.With("container", container)
	const notRun = "did not run the container's own preStop hook"
	if !r.ask(ctx, func(s *state, _ time.Time) { s.hooks.begin(container) }) {
		log.Warn(notRun, "reason", "it came when the agentlet had ended, or its caller has gone")
		return r.Drain(ctx, grace)
	}
	defer r.send(func(s *state, _ time.Time) { s.hooks.end(container, s.terminating()) })
	drained = r.Drain(ctx, grace)
	var hook registration.PreStop
	var known bool
	end := came
	if ctx.Err() != nil || !r.ask(ctx, func(s *state, _ time.Time) {
		hook, known = s.hooks.own[container]
		end = came.Add(s.grace())
	}) {
		log.Warn(notRun, "reason", "the caller has gone, or the agentlet has ended")
		return drained
	}
	if !known {
		log.Warn(notRun, "reason", "the pod, as far as it was read from the API server, has no such hook")
		return drained
	}
	ctx, cancel := context.WithDeadlineCause(ctx, end, errGraceOver)
	defer cancel()
	began := time.Now()
	if err := r.runHook(ctx, &hook); err != nil {
		log.Warn("the container's own preStop hook failed", "seconds", time.Since(began).Seconds(), "error", err)
	} else {
		log.Info("ran the container's own preStop hook", "seconds", time.Since(began).Seconds())
	}
	return drained
}

var errGraceOver = errors.New("cut off, because the grace period is over")

// maxHookCalls bounds the hooks' requests under way: whoever knows the nonce can call hooks at any time.
const maxHookCalls = 32

func (r *Registrar) runHook(ctx context.Context, hook *registration.PreStop) (err error) {
	if hook.HTTPGet != nil {
		select {
		case r.hookCalls <- struct{}{}:
			defer func() { <-r.hookCalls }()
			err = r.config.Hooks.Call(ctx, *hook)
		case <-ctx.Done():
		}
	} else {
		select {
		case <-time.After(hook.Sleep):
			return nil
		case <-ctx.Done():
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}
