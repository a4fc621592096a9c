package injector

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// windows reports whether the pod is for Windows nodes: by its own word, by the nodes that it selects, or because it has a
// HostProcess container, which only Windows runs.
func windows(pod *corev1.Pod) bool {
	return (pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows) ||
		pod.Spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows) ||
		affinityToWindows(pod.Spec.Affinity) || hostProcess(pod)
}

// hostProcess reports whether a container is a HostProcess container, or all are by the pod's word. Such a pod need not say
// that it is for Windows; the API server takes it in any case, but not with a Linux container beside.
func hostProcess(pod *corev1.Pod) bool {
	if c := pod.Spec.SecurityContext; c != nil && isHostProcess(c.WindowsOptions) {
		return true
	}
	for _, containers := range [...][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			if c := containers[i].SecurityContext; c != nil && isHostProcess(c.WindowsOptions) {
				return true
			}
		}
	}
	return false
}

func isHostProcess(options *corev1.WindowsSecurityContextOptions) bool {
	return options != nil && options.HostProcess != nil && *options.HostProcess
}

// affinityToWindows reports whether every kind of node that the affinity requires runs Windows: one term is enough for a node.
func affinityToWindows(affinity *corev1.Affinity) bool {
	if affinity == nil || affinity.NodeAffinity == nil ||
		affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution == nil {
		return false
	}
	terms := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms
	return len(terms) > 0 && !slices.ContainsFunc(terms, func(term corev1.NodeSelectorTerm) bool {
		return !slices.ContainsFunc(term.MatchExpressions, func(r corev1.NodeSelectorRequirement) bool {
			return r.Key == corev1.LabelOSStable && r.Operator == corev1.NodeSelectorOpIn &&
				len(r.Values) == 1 && r.Values[0] == string(corev1.Windows)
		})
	})
}
