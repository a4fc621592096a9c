package injector

import corev1 "k8s.io/api/core/v1"

// mirrors reports whether the pod only shows a static pod at the API server. The kubelet runs that from a file, whatever the
// API server makes of its image, and the API server refuses one that mounts a service account's token, as an agentlet does.
func mirrors(pod *corev1.Pod) bool {
	_, mirror := pod.Annotations[corev1.MirrorPodAnnotationKey]
	return mirror
}
