package agentlet

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

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
	reg, _, errs := registration.Parse(pod, defaults)
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
	s.expireOverrides()
	s.observeReadiness(now)
	s.observeCondition(now)
	if c := s.gate.current; first && c != nil && (s.stale() || !speaksOf(c, s.ip())) {
		s.gate.staleAddress = true
	}
	if first {
		s.restoreLast(s.gate.current)
	}
	s.reconcile()
}

// stale reports whether the pod's status is that of before a reboot of the node: it has another address than this
// container.
func (s *state) stale() bool {
	return s.identity.PodIP != "" && s.pod.Status.PodIP != s.identity.PodIP
}

// observeReadiness follows the containers' readiness, by the kubelet's word and the own probes'.
func (s *state) observeReadiness(now time.Time) {
	if s.pod == nil {
		return
	}
	s.observeContainers(now)
	switch ready := !s.stale() && len(s.notReady()) == 0; {
	case !ready:
		s.readySince = time.Time{}
	case s.readySince.IsZero():
		s.readySince = now
	}
}

// observeCondition follows the condition in the pod, except in one from before the last own write: the watch may lag behind
// its answer, or overtake it. While a gate is open nobody may have followed the catalog, so that one that somebody has closed
// waits for a new reading.
func (s *state) observeCondition(now time.Time) {
	if order, known := s.gate.compare(s.pod); known && order < 0 && now.Sub(s.gate.writtenAt) < watchLag {
		return
	}
	was := s.gate.open()
	s.gate.current = condition(s.pod, contract.Condition)
	if was && !s.gate.open() {
		s.catalog.generation++
	}
}

// podDeleted takes in that there is no pod with our UID any more.
func (s *state) podDeleted(now time.Time) {
	s.gone = true
	s.signal(signals{deletion: true}, now)
}

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

// reconcile brings the instances in line with what the pod asks for. A pod without an IP keeps what it had.
func (s *state) reconcile() {
	if s.reg == nil || s.ip() == "" {
		return
	}
	s.defined = true
	for _, i := range s.instances {
		i.want = nil
	}
	for _, d := range define(s.identity, s.ip(), s.secondIP(), s.reg) {
		d.Tags = s.mergeTags(d.Tags)
		i := s.instances[d.ID]
		if i == nil {
			i = &instance{id: d.ID}
			if s.conn.listed {
				i.agent = absent
			}
			s.instances[d.ID] = i
		}
		i.want = &d
	}
}
