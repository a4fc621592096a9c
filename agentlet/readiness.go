package agentlet

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// notReady names the containers that count for readiness and are not ready, in the pod's order. The agentlet itself and
// the excluded ones don't count; native sidecars do. It reads the container statuses and never the pod's Ready
// condition, which contains the agentlet's own gate.
func notReady(pod *corev1.Pod, exclude []string) []string {
	ready := make(map[string]bool, len(pod.Status.ContainerStatuses)+len(pod.Status.InitContainerStatuses))
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		ready[status.Name] = status.Ready
	}
	var waiting []string
	check := func(name string) {
		if name != contract.ContainerName && !ready[name] && !slices.Contains(exclude, name) {
			waiting = append(waiting, name)
		}
	}
	for _, container := range pod.Spec.InitContainers {
		if container.RestartPolicy != nil && *container.RestartPolicy == corev1.ContainerRestartPolicyAlways {
			check(container.Name)
		}
	}
	for _, container := range pod.Spec.Containers {
		check(container.Name)
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

// hasGate reports whether the pod waits for the agentlet's condition: a gate can't be added to or taken from a pod.
func hasGate(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Spec.ReadinessGates, func(gate corev1.PodReadinessGate) bool {
		return gate.ConditionType == contract.Condition
	})
}

// condition returns the agentlet's own condition, or nil.
func condition(pod *corev1.Pod) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == contract.Condition {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}
