package agentlet

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
)

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
	return slices.ContainsFunc(pod.Status.ContainerStatuses, func(status corev1.ContainerStatus) bool {
		return status.State.Running != nil
	})
}

// finished reports whether the pod has reached its end by itself: a Job's pod that completed, or one that was evicted.
func finished(pod *corev1.Pod) bool {
	return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
}

// podEnds reports whether the pod itself ends, as far as the API server tells: the signs that only the process gets may concern its
// container alone.
func (s *state) podEnds() bool {
	return s.signals.deletion || s.signals.finished || s.pod != nil && completed(s.pod)
}

// completed reports whether all containers of the application have ended for good. The phase says so only when the kubelet has ended
// the sidecars, too.
func completed(pod *corev1.Pod) bool {
	statuses := pod.Status.ContainerStatuses
	return len(statuses) > 0 && !slices.ContainsFunc(statuses, func(status corev1.ContainerStatus) bool {
		ended := status.State.Terminated
		return ended == nil || pod.Spec.RestartPolicy != corev1.RestartPolicyNever &&
			(pod.Spec.RestartPolicy != corev1.RestartPolicyOnFailure || ended.ExitCode != 0)
	})
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
