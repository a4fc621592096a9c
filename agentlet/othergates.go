package agentlet

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

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
