package agentlet

import (
	"context"
	"log/slog"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// observeContainers updates the workers of the containers that the agentlet probes. A new container instance gets a new worker; a
// container that doesn't run has none.
func (s *state) observeContainers(now time.Time) {
	var probes map[string]registration.ContainerProbes
	if s.reg != nil && !s.stale() && !s.terminating() {
		probes = s.reg.Probes
	}
	for name := range s.workers {
		if _, still := probes[name]; !still {
			delete(s.workers, name)
		}
	}
	for name, own := range probes {
		status := containerStatus(s.pod, name)
		if status == nil || status.State.Running == nil {
			delete(s.workers, name)
			continue
		}
		p := s.workers[name]
		if p == nil || p.instance != status.ContainerID {
			p = &worker{probes: own, instance: status.ContainerID, begun: status.State.Running.StartedAt.Time}
			p.started = own.Startup == nil && !own.AwaitsKubelet
			p.begin(now)
			s.workers[name] = p
		}
		p.startOnly = s.reg.Settings.Readiness == contract.ReadinessStart
		p.observe(status.Ready, status.Started, now)
	}
}

// containerReady reports whether a container is ready, by the kubelet's report and, if there is one, the own probe.
func (s *state) containerReady(name string) bool {
	status := containerStatus(s.pod, name)
	p := s.workers[name]
	if status == nil || p == nil {
		return status != nil && status.Ready
	}
	return p.ready(status.Ready)
}

func containerStatus(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		if i := slices.IndexFunc(statuses, func(c corev1.ContainerStatus) bool { return c.Name == name }); i >= 0 {
			return &statuses[i]
		}
	}
	return nil
}

// planProbes schedules the containers' probes, and wakes when a missing report of the kubelet starts to count as not ready.
func planProbes(s *state, now time.Time, p *schedule) {
	for name, w := range s.workers {
		if probe := w.current(); probe != nil && p.reached(now, w.due) {
			p.add(s, now, probeContainer{container: name, instance: w.instance, probe: probe})
		}
		if !w.kubeletReported && w.result == resultReady {
			p.reached(now, w.since.Add(w.kubeletDetectionTime()))
		}
	}
}

// containerKey is the key kind of the probes; the name is the container's.
const containerKey = "container"

// probeContainer runs a container's own probe once.
type probeContainer struct {
	container string
	// instance is the container's ID.
	instance string
	probe    *registration.Probe
}

func (c probeContainer) key() key           { return key{containerKey, c.container} }
func (probeContainer) operation() operation { return "probe_container" }
func (probeContainer) policy() policy       { return policy{asks: elsewhere} }

func (c probeContainer) supersededBy(planned command) bool {
	next, ok := planned.(probeContainer)
	return !ok || next.instance != c.instance
}

func (c probeContainer) run(ctx context.Context, ports *Config) outcome {
	failure := ports.Prober.Probe(ctx, *c.probe)
	if ctx.Err() != nil {
		return outcome{err: context.Canceled} // cancelled: it says nothing about the container
	}
	return outcome{failure: failure, handle: func(s *state, t turn) { s.handleProbe(c, failure, t) }}
}

// handleProbe records a probe's result, unless the container was restarted meanwhile. It logs changes of the container's
// readiness, and the first failure in a row.
func (s *state) handleProbe(c probeContainer, failure error, t turn) {
	w := s.workers[c.container]
	if w == nil || w.instance != c.instance || w.current() != c.probe {
		return
	}
	before := *w
	w.record(failure == nil, t.now)
	switch {
	case w.result != before.result && w.result == resultReady:
		t.log.Info("the container's own probe succeeds")
	case w.result != before.result && w.result == resultNotReady:
		t.log.Info("the container's own probe fails", "error", failure)
	case w.lastResult != before.lastResult && w.lastResult == resultNotReady:
		t.log.Debug("the container's own probe begins to fail", "error", failure)
	}
	s.observeReadiness(t.now)
}

// warnUnprobed logs which containers are not probed but left to the kubelet, when that set changes.
func (r *Registrar) warnUnprobed(s *state) {
	if s.reg == nil || slices.Equal(s.reg.Unprobed, s.unprobed) {
		return
	}
	s.unprobed = s.reg.Unprobed
	level := slog.LevelDebug
	if s.reg.Settings.Readiness == contract.ReadinessProbe {
		level = slog.LevelWarn // the user has requested the probes
	}
	for _, why := range s.unprobed {
		r.log.Log(context.Background(), level, "not probed by the agentlet", "reason", why)
	}
}
