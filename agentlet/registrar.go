package agentlet

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// Config of a registrar. All fields but Login, Defaults, Allowed, OtherGates and Logger are required.
type Config struct {
	Identity Identity
	Agent    Agent
	View     AgentView
	Catalog  Catalog
	Kube     Kubernetes
	Prober   Prober
	Hooks    Hooks
	// Login, where Consul's ACLs ask for one; nil: no token is sent.
	Login Login
	// Defaults of the installation for keys of the contract.
	Defaults registration.Defaults
	// Allowed is what the pod may register, as it was at its admission. Annotations with another name or tag are an error, and
	// are not followed.
	Allowed registration.Allowed
	// OtherGates are conditions of another system's that the pod may list as readiness gates, and that nobody else opens any
	// more.
	OtherGates []string
	// Logger; slog.Default() when nil.
	Logger *slog.Logger
}

// Registrar keeps one pod's services in Consul equal to the pod. Feed it with OnUpdate, OnDelete, PreStop and Terminate while
// Run is going on; all methods are safe for concurrent use.
type Registrar struct {
	config  Config
	log     *slog.Logger
	metrics *metrics

	events      chan event
	terminating chan struct{} // closed at the first sign of the end
	drained     chan struct{} // closed when the drain hooks may be answered
	hookCalls   chan struct{} // one for each request of a container's own hook that is under way
	done        chan struct{} // closed when Run has returned
	status      atomic.Pointer[contract.Status]
	podEnded    bool // may be read when done is closed
}

// event changes the state, and is called by the loop alone.
type event func(s *state, now time.Time)

// New returns a Registrar that has not started.
func New(config Config) *Registrar {
	if config.Logger == nil {
		config.Logger = slog.Default()
	}
	return &Registrar{
		config:      config,
		log:         config.Logger,
		metrics:     newMetrics(),
		events:      make(chan event),
		terminating: make(chan struct{}),
		drained:     make(chan struct{}),
		hookCalls:   make(chan struct{}, maxHookCalls),
		done:        make(chan struct{}),
	}
}

// OnUpdate hands over the pod as the API server has it now.
func (r *Registrar) OnUpdate(pod *corev1.Pod) {
	r.send(func(s *state, now time.Time) {
		s.observePod(pod, r.config.Defaults, now)
		r.warnUnprobed(s)
	})
}

// OnDelete says that the API server has no such pod any more. Only NotFound and a deletion mean that.
func (r *Registrar) OnDelete() { r.send(func(s *state, now time.Time) { s.podDeleted(now) }) }

// PreStop says that the kubelet has run the agentlet's own preStop hook.
func (r *Registrar) PreStop() {
	r.send(func(s *state, now time.Time) { s.signal(signals{preStop: true}, now) })
}

// Terminate says that the process was told to end: Run drains and returns.
func (r *Registrar) Terminate() {
	r.send(func(s *state, now time.Time) { s.signal(signals{sigterm: true}, now) })
}

// PortConflict says that the agentlet's own port can't be opened, or with nil that it is open now.
func (r *Registrar) PortConflict(err error) {
	r.send(func(s *state, _ time.Time) {
		s.portConflict = ""
		if err != nil {
			s.portConflict = err.Error()
		}
	})
}

func (r *Registrar) send(e event) {
	select {
	case r.events <- e:
	case <-r.done:
	}
}

// loop is what one Run holds.
type loop struct {
	*Registrar
	state    *state
	inFlight map[key]inFlight
	group    sync.WaitGroup
}

// ErrTerminationAborted means that the kubelet announced the pod's end, and that it never came. A registrar that starts
// anew serves the pod again.
var ErrTerminationAborted = errors.New("the pod's end was announced and never came: starting anew")

// Run works until Terminate was called and the drain is over, or ctx ends; what is under way is cancelled then. It
// returns nil after a drain, ErrTerminationAborted, or the context's error. It may be called once.
func (r *Registrar) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	l := &loop{Registrar: r, state: newState(r.config.Identity), inFlight: map[key]inFlight{}}
	l.state.allowed, l.state.otherGates = r.config.Allowed, r.config.OtherGates
	l.state.began = time.Now()
	l.state.login.needed = r.config.Login != nil
	defer l.group.Wait()
	defer close(r.done) // lets the commands in flight report to nobody
	defer cancel()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	var wake time.Time // when the loop was to go on at the latest
	for {
		now := time.Now()
		l.noticeFreeze(wake, now)
		l.state.tick(now)
		l.state.commit(decide(l.state, now), now)
		p := plan(l.state, now)
		if l.state.dropRetries(&p, now) {
			continue // the decision may be another one now
		}
		l.announce(p)
		switch {
		case p.ended:
			r.podEnded = l.state.podEnds()
			return nil
		case p.aborted:
			return ErrTerminationAborted
		}
		l.reconcileWork(ctx, p)
		l.state.notifyConverged()
		r.publish(l.state, p)
		r.metrics.see(l.state, now)
		if wake = p.wake; !p.wake.IsZero() {
			timer.Reset(max(time.Until(p.wake), 0))
		} else {
			timer.Reset(time.Hour)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
		case e := <-r.events:
			e(l.state, time.Now())
		}
	}
}

// freezeNoticed is the least time for which a process that did not run says so: a busy node takes less.
const freezeNoticed = 5 * time.Second

// noticeFreeze logs that the process did not run when it should have: it was stopped, or had no processor. That
// explains what follows: missed heartbeats, and an instance that was critical meanwhile.
func (l *loop) noticeFreeze(wake, now time.Time) {
	if late := now.Sub(wake); !wake.IsZero() && late > freezeNoticed {
		l.log.Warn("the process did not run", "seconds", late.Seconds())
	}
}

// PodEnded reports whether it was the pod's end that Run has returned for: the kubelet may also start the agentlet's
// container anew, alone, and then whatever else is in the pod lives on. It waits for Run.
func (r *Registrar) PodEnded() bool {
	<-r.done
	return r.podEnded
}

// announce tells the drain hooks how far the end has come.
func (l *loop) announce(p schedule) {
	if l.state.terminating() && !closed(l.terminating) {
		l.log.Info("terminating", "deletion", l.state.signals.deletion, "preStop", l.state.signals.preStop,
			"sigterm", l.state.signals.sigterm, "finished", l.state.signals.finished)
		close(l.terminating)
	}
	if p.drained && !closed(l.drained) {
		_, how := l.state.drainEnd()
		l.log.Info("drained", "seconds", time.Since(l.state.terminatingAt).Seconds(), "outcome", how)
		close(l.drained)
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Drain answers a drain hook: it returns when the application may get its SIGTERM. The hook may be called by anybody at
// any time and starts nothing: without a sign of the end within grace it returns false at once after it, and true when
// the drain is over. It returns early with ctx.
func (r *Registrar) Drain(ctx context.Context, grace time.Duration) bool {
	timer := time.NewTimer(grace)
	defer timer.Stop()
	select {
	case <-r.terminating:
	case <-timer.C:
		return false
	case <-r.done:
		return closed(r.drained)
	case <-ctx.Done():
		return false
	}
	select {
	case <-r.drained:
	case <-r.done:
	case <-ctx.Done():
	}
	return closed(r.drained)
}

// ask has the loop call e, and returns when it has; false where it did not, because ctx or the registrar has ended.
func (r *Registrar) ask(ctx context.Context, e event) bool {
	asked := make(chan struct{})
	select {
	case r.events <- func(s *state, now time.Time) { e(s, now); close(asked) }:
		<-asked
		return true
	case <-ctx.Done():
	case <-r.done:
	}
	return false
}
