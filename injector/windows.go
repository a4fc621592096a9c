package injector

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// windows reports whether the pod is for Windows nodes: by its os field, by the nodes that it selects, or because it has a
// HostProcess container, which only Windows runs.
func windows(pod *corev1.Pod) bool {
	return (pod.Spec.OS != nil && pod.Spec.OS.Name == corev1.Windows) ||
		pod.Spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows) ||
		affinityToWindows(pod.Spec.Affinity) || hostProcess(pod)
}

// hostProcess reports whether a container is a HostProcess container, or the pod's security context makes all of them so. Such
// a pod need not have another sign of Windows. The API server admits it without, but not with a Linux container in it.
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

// affinityToWindows reports whether every term of the required node affinity selects Windows. A node has to match only one of
// them.
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
