package agentlet

import (
	"context"
	"errors"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/resourceversion"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// gate is the pod's condition.
type gate struct {
	// current is the condition as it was last written or seen.
	current *corev1.PodCondition
	// written is what was last written, version the pod's resourceVersion with it, and writtenAt when the answer came.
	written   *corev1.PodCondition
	version   string
	writtenAt time.Time
	// want is what it should say, and since when that is so.
	want      gateStatus
	wantSince time.Time
	// staleAddress: an open gate speaks of another address, from before a reboot of the node. It doesn't count until the gate should
	// be open for this one, because the watch may deliver it once more after it was overwritten.
	staleAddress bool
	// othersAt is the pod as it was when the other system's gates were last written; nil: they weren't.
	othersAt *corev1.Pod
	// closedAt is when an open gate had to close.
	closedAt time.Time
}

// open reports whether the gate is open now.
func (g gate) open() bool {
	return g.current != nil && g.current.Status == corev1.ConditionTrue && !g.staleAddress
}

// gateSince is since when the gate is open or closed. Where nobody has written it yet it is closed since the pod's start, and
// where it speaks of a former address, since this process' start.
func (s *state) gateSince() time.Time {
	current := s.gate.current
	switch {
	case s.gate.staleAddress:
		return s.began
	case current != nil && !current.LastTransitionTime.IsZero():
		return current.LastTransitionTime.Time
	case s.pod.Status.StartTime != nil:
		return s.pod.Status.StartTime.Time
	}
	return s.began
}

// setWant notes what the gate should say from now on.
func (g *gate) setWant(want gateStatus, now time.Time) {
	if want != g.want {
		if g.want.open && !want.open {
			g.closedAt = now
		}
		g.want, g.wantSince = want, now
	}
	if want.open {
		g.staleAddress = false
	}
}

// watchLag bounds how long the watch may lag behind an own write. An API server whose etcd was restored counts on from an older
// version, and what it says has to be believed again.
const watchLag = time.Minute

// compare says whether a pod as the watch delivered it is older (-1) or newer (1) than the answer to the last write, or
// the same (0). The resource versions of one pod can be compared since Kubernetes 1.35 (KEP-5504), and before that in
// practice; known is false where they can't be.
func (g gate) compare(pod *corev1.Pod) (order int, known bool) {
	order, err := resourceversion.CompareResourceVersion(pod.ResourceVersion, g.version)
	return order, err == nil
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

func (v gateStatus) status() corev1.ConditionStatus {
	if v.open {
		return corev1.ConditionTrue
	}
	return corev1.ConditionFalse
}

// matches reports whether the condition says it already.
func (v gateStatus) matches(c *corev1.PodCondition) bool {
	return c != nil && c.Status == v.status() && c.Reason == string(v.reason) && c.Message == v.message
}

// condition to write. The transition time is kept where the status stays.
func (v gateStatus) condition(current *corev1.PodCondition, now time.Time) corev1.PodCondition {
	c := corev1.PodCondition{
		Type:               contract.Condition,
		Status:             v.status(),
		Reason:             string(v.reason),
		Message:            v.message,
		LastTransitionTime: metav1.NewTime(now),
	}
	if current != nil && current.Status == c.Status {
		c.LastTransitionTime = current.LastTransitionTime
	}
	return c
}

// conditionDebounce is how long a closed gate's reason must hold before it is written, so that a pod that starts in a moment
// costs one write and not four.
const conditionDebounce = time.Second

// planGate writes the condition when it should say something else, and has said so for long enough.
func planGate(s *state, now time.Time, p *schedule) {
	if s.pod == nil || s.gone || !s.waits() {
		return
	}
	if due, ok := s.timeoutAt(); ok && !s.gate.open() {
		p.reached(now, due)
	}
	want, current := s.gate.want, s.gate.current
	others := s.closedOthers(now)
	if want.matches(current) && len(others) == 0 {
		return
	}
	c := patchStatus{condition: want.condition(current, now), others: others, pod: s.pod}
	p.want(c) // also while it waits, as where the reason changes to and fro
	closedBefore := current == nil || current.Status != corev1.ConditionTrue
	hold := want.hold
	if closedBefore && !want.open && want.reason != contract.Draining {
		hold = conditionDebounce
	}
	if len(others) == 0 && !p.reached(now, s.gate.wantSince.Add(hold)) {
		return
	}
	if want.matches(s.gate.written) && len(others) == 0 && !p.reached(now, s.gate.writtenAt.Add(reregisterInterval)) {
		return
	}
	p.add(s, now, c)
}

// patchStatus writes the pod's condition.
type patchStatus struct {
	condition corev1.PodCondition
	// others are conditions of another system to write with it, pod is the one that lacks them.
	others []corev1.PodCondition
	pod    *corev1.Pod
}

func (patchStatus) key() key             { return key{name: "status"} }
func (patchStatus) operation() operation { return "patch_status" }
func (patchStatus) policy() policy {
	return policy{timeout: 10 * time.Second, asks: elsewhere, maxBackoff: backoffOther, absentIsSuccess: true}
}

func (c patchStatus) run(ctx context.Context, ports *Config) outcome {
	version, err := ports.Kube.SetConditions(ctx, append([]corev1.PodCondition{c.condition}, c.others...))
	return outcome{err: err, handle: func(s *state, t turn) { s.handleStatusPatched(c, version, err, t) }}
}

func (s *state) handleStatusPatched(c patchStatus, version string, err error, t turn) {
	switch {
	case errors.Is(err, ErrAbsent):
		s.podDeleted(t.now)
	case err == nil:
		t.metrics.gateUpdated(s, c.condition)
		t.log.Info("readiness gate updated", "status", string(c.condition.Status), "reason", c.condition.Reason)
		s.gate.written, s.gate.version, s.gate.writtenAt = &c.condition, version, t.now
		if order, known := s.gate.compare(s.pod); order < 0 || !known && s.pod == c.pod {
			s.gate.current = &c.condition
		} // else the watch has overtaken the answer, or may have, and may have delivered others' changes since
		if len(c.others) > 0 {
			s.gate.othersAt = c.pod
		}
	}
}

// waits reports whether the pod waits for a condition that this agentlet writes. Gates can't be added to or taken from a
// pod.
func (s *state) waits() bool {
	return hasGate(s.pod, contract.Condition) ||
		slices.ContainsFunc(s.otherGates, func(gate string) bool { return hasGate(s.pod, gate) })
}

// closedOthers are the conditions to write for the gates of another system that the pod still lists: they open with the
// agentlet's own, and nobody closes them again, since the own one does what is needed. The system may still be there, and
// write them as well: it is not contradicted but in this. One that was written is not written anew before the pod has been
// seen again.
func (s *state) closedOthers(now time.Time) (conditions []corev1.PodCondition) {
	if !s.gate.want.open || s.gate.othersAt == s.pod {
		return nil
	}
	for _, gate := range s.otherGates {
		if !hasGate(s.pod, gate) {
			continue
		}
		if c := condition(s.pod, gate); c == nil || c.Status != corev1.ConditionTrue {
			open := s.gate.want.condition(nil, now)
			open.Type, open.LastTransitionTime = corev1.PodConditionType(gate), metav1.NewTime(now)
			conditions = append(conditions, open)
		}
	}
	return conditions
}
