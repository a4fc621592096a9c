package installation

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Recreate returns the command that recreates a pod.
func Recreate(pod *corev1.Pod) string {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return fmt.Sprintf("kubectl -n %s delete pod %s, and create it again", pod.Namespace, pod.Name)
	}
	kind, name := strings.ToLower(owner.Kind), owner.Name
	if hash := pod.Labels["pod-template-hash"]; kind == "replicaset" && hash != "" {
		kind, name = "deployment", strings.TrimSuffix(name, "-"+hash)
	}
	switch kind {
	case "deployment", "statefulset", "daemonset":
		return fmt.Sprintf("kubectl -n %s rollout restart %s/%s", pod.Namespace, kind, name)
	}
	return fmt.Sprintf("kubectl -n %s delete pod %s", pod.Namespace, pod.Name)
}

// HealthPort returns the number of the port with the health endpoints, which also serves the metrics. The pod proxy accepts no
// port names.
func HealthPort(pod *corev1.Pod) string {
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.Name == "health" {
				return strconv.Itoa(int(port.ContainerPort))
			}
		}
	}
	return "8080"
}
