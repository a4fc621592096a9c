package agentlet

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// signals are the ways in which a pod's end announces itself to its agentlet. Any one of them means: terminating.
type signals struct {
	// deletion: deletionTimestamp is set, or the pod is gone.
	deletion bool
	// preStop: the kubelet ran the agentlet's own preStop hook. It comes with every way in which the kubelet ends a pod,
	// also those that set no deletionTimestamp.
	preStop bool
	// sigterm: the process was told to end.
	sigterm bool
	// finished: the pod's phase is Succeeded or Failed.
	finished bool
}

func (s signals) any() bool { return s.deletion || s.preStop || s.sigterm || s.finished }

func (s *state) terminating() bool { return s.signals.any() }

// signal takes in a sign of the end. The first one starts the drain, which owes nothing to earlier failures.
func (s *state) signal(sign signals, now time.Time) {
	if !s.terminating() {
		s.terminatingAt = now
		clear(s.retries)
	}
	if sign.sigterm && !s.signals.sigterm {
		s.sigtermAt = now
	}
	s.signals.deletion = s.signals.deletion || sign.deletion
	s.signals.preStop = s.signals.preStop || sign.preStop
	s.signals.sigterm = s.signals.sigterm || sign.sigterm
	s.signals.finished = s.signals.finished || sign.finished
}

// observePod takes in what the API server says of the pod. One with another UID is a successor: ours is gone.
func (s *state) observePod(pod *corev1.Pod, defaults registration.Defaults, now time.Time) {
	if string(pod.UID) != s.identity.UID {
		s.podDeleted(now)
		return
	}
	first := s.pod == nil
	s.pod = pod
	if pod.DeletionTimestamp != nil {
		s.signal(signals{deletion: true}, now)
	}
	if finished(pod) {
		s.signal(signals{finished: true}, now)
	}
	if !s.terminating() {
		s.observeUnserved(pod)
	}
	if s.unserved.reason == "" {
		s.observeAnnotations(pod, defaults)
	}
	s.expireOverrides()
	s.observeReadiness(now)
	s.observeCondition(now)
	if c := s.gate.current; first && c != nil {
		m, ok := parseOpenMessage(c.Message)
		s.gate.staleAddress = s.stale() || ok && m.address != s.ip()
	}
	if first {
		s.restoreLast(s.gate.current)
		s.hooks.own = registration.Chained(pod)
	}
	s.reconcile()
}

// observeAnnotations follows what the pod asks for, and keeps the last valid registration where it can't be followed.
func (s *state) observeAnnotations(pod *corev1.Pod, defaults registration.Defaults) {
	reg, errs := registration.Parse(pod, defaults)
	if len(errs) == 0 {
		services, tags := s.allowed.NotAllowed(pod, reg)
		errs = slices.Concat(services, tags)
	}
	s.invalid = ""
	if len(errs) > 0 {
		s.invalid = errs.ToAggregate().Error()
	} else {
		s.reg = reg
	}
}

// podDeleted takes in that there is no pod with our UID any more.
func (s *state) podDeleted(now time.Time) {
	s.gone = true
	s.signal(signals{deletion: true}, now)
}

// stale reports whether the pod's status is that of before a reboot of the node: it has another address than this
// container.
func (s *state) stale() bool {
	return s.identity.PodIP != "" && s.pod.Status.PodIP != s.identity.PodIP
}

// ip of the pod; empty while it has none.
func (s *state) ip() string {
	if s.identity.PodIP != "" {
		return s.identity.PodIP
	}
	return s.pod.Status.PodIP
}

// secondIP is a dual-stack pod's address of the other family; empty where there is none. A status of before a reboot of the
// node is not believed.
func (s *state) secondIP() string {
	if ips := s.pod.Status.PodIPs; len(ips) > 1 && ips[0].IP == s.ip() {
		return ips[1].IP
	}
	return ""
}

// ready reports whether the containers that count are ready.
func (s *state) ready() bool { return !s.readySince.IsZero() }

// observeReadiness follows the containers' readiness, as the kubelet and the own probes report it.
func (s *state) observeReadiness(now time.Time) {
	if s.pod == nil {
		return
	}
	s.observeContainers(now)
	switch ready := !s.stale() && len(s.notReady()) == 0; {
	case !ready:
		s.readySince = time.Time{}
	case s.readySince.IsZero():
		s.readySince, s.everReady = now, true
	}
}

// notReady names the containers that count for readiness and are not ready, in the pod's order. It reads the container
// statuses and never the pod's Ready condition, which contains the agentlet's own gate.
func (s *state) notReady() []string {
	var exclude, waiting []string
	if s.reg != nil {
		exclude = s.reg.Settings.Exclude
	}
	for _, container := range registration.Counting(s.pod, exclude) {
		if !s.containerReady(container.Name) {
			waiting = append(waiting, container.Name)
		}
	}
	return waiting
}

// running reports whether any of the application's containers still runs.
func running(pod *corev1.Pod) bool {
	return slices.ContainsFunc(applications(pod), func(status corev1.ContainerStatus) bool { return status.State.Running != nil })
}

// amongContainers reports whether the agentlet is one of the pod's containers, and no native sidecar.
func amongContainers(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == contract.ContainerName })
}

// applications are the statuses of the application's containers: the agentlet may be one of the pod's.
func applications(pod *corev1.Pod) []corev1.ContainerStatus {
	statuses := pod.Status.ContainerStatuses
	own := slices.IndexFunc(statuses, func(status corev1.ContainerStatus) bool { return status.Name == contract.ContainerName })
	if own < 0 {
		return statuses
	}
	return slices.Concat(statuses[:own], statuses[own+1:])
}

// finished reports whether the pod has reached its end by itself: a Job's pod that completed, or one that was evicted.
func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// podEnds reports whether the pod itself ends, as far as the API server reports: the signs that only the process gets
// may concern its container alone.
func (s *state) podEnds() bool {
	return s.signals.deletion || s.signals.finished || s.pod != nil && completed(s.pod)
}

// completed reports whether all containers of the application have ended for good. The phase says so only when the
// kubelet has ended the sidecars, too.
func completed(pod *corev1.Pod) bool {
	statuses := applications(pod)
	return len(statuses) > 0 && !slices.ContainsFunc(statuses, func(status corev1.ContainerStatus) bool {
		ended := status.State.Terminated
		return ended == nil || pod.Spec.RestartPolicy != corev1.RestartPolicyNever &&
			(pod.Spec.RestartPolicy != corev1.RestartPolicyOnFailure || ended.ExitCode != 0)
	})
}

// grace period that the pod has now: a deletion may have shortened the specification's.
func (s *state) grace() time.Duration {
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	if s.pod != nil {
		if s.pod.Spec.TerminationGracePeriodSeconds != nil {
			seconds = *s.pod.Spec.TerminationGracePeriodSeconds
		}
		if s.pod.DeletionGracePeriodSeconds != nil {
			seconds = *s.pod.DeletionGracePeriodSeconds
		}
	}
	return time.Duration(seconds) * time.Second
}

// hasGate reports whether the pod waits for a condition.
func hasGate(pod *corev1.Pod, kind string) bool {
	return slices.ContainsFunc(pod.Spec.ReadinessGates, func(gate corev1.PodReadinessGate) bool {
		return string(gate.ConditionType) == kind
	})
}

// condition returns the pod's condition of a kind, or nil.
func condition(pod *corev1.Pod, kind string) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if string(pod.Status.Conditions[i].Type) == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

// later of two times.
func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
