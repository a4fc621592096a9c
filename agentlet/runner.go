package agentlet

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"time"
)

// inFlight is a command in flight.
type inFlight struct {
	command command
	begun   begun
	cancel  context.CancelFunc
}

// reconcileWork starts and ends commands so that those in flight are the planned ones. It cancels blocking ones that the plan no
// longer contains, and lets all others finish.
func (l *loop) reconcileWork(ctx context.Context, p schedule) {
	for k, f := range l.inFlight {
		if blocking, ok := f.command.(superseder); ok {
			planned, is := p.work[k]
			if !is || f.begun.login != l.state.begun().login || blocking.supersededBy(planned) {
				f.cancel()
			}
		}
	}
	for _, changes := range []bool{true, false} {
		started := false
		for k, c := range p.work {
			if _, busy := l.inFlight[k]; !busy && c.policy().changesAgent == changes {
				l.start(ctx, k, c)
				started = true
			}
		}
		if changes && started {
			runtime.Gosched() // what others wait for is sent before the rest is begun: the process has one thread
		}
	}
}

// start runs a command off the loop, and has the loop handle its outcome.
func (l *loop) start(ctx context.Context, k key, c command) {
	if noting, ok := c.(starter); ok {
		noting.start(l.state)
	}
	p := c.policy()
	if p.changesAgent {
		l.state.writeGeneration++
	}
	ctx, cancel := context.WithCancel(ctx)
	f := inFlight{command: c, begun: l.state.begun(), cancel: cancel}
	l.inFlight[k] = f
	l.group.Go(func() {
		defer cancel()
		ctx := ctx
		if p.timeout > 0 {
			var stop context.CancelFunc
			ctx, stop = context.WithTimeout(ctx, p.timeout)
			defer stop()
		}
		started := time.Now()
		o := c.run(ctx, &l.config)
		l.metrics.request(c, errors.Join(o.err, o.failure), time.Since(started))
		l.send(func(s *state, now time.Time) {
			delete(l.inFlight, k)
			log := l.log.With("action", string(c.operation()))
			if k.id != "" {
				log = log.With(k.subject(), k.id)
			}
			s.handleOutcome(c, o, turn{begun: f.begun, now: now, jitter: jitter, log: log, metrics: l.metrics})
		})
	})
}

// jitter spreads a duration over its upper half, so that nobody retries in step.
func jitter(d time.Duration) time.Duration {
	if d < 2 {
		return d
	}
	return d/2 + rand.N(d/2)
}
