package registration

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// place decides where the agentlet runs. As one of the pod's containers it would prevent a pod from completing whose containers
// may end. It might also start after a mesh proxy that waits for the registration. If such a pod requests this placement, that is
// an error; a default applies only to other pods.
func (r *reader) place(reg *Registration) {
	s, needs := &reg.Settings, ""
	meshed := slices.ContainsFunc(reg.Services, func(service Service) bool { return service.Sidecar != nil })
	switch policy := r.pod.Spec.RestartPolicy; {
	case policy != corev1.RestartPolicyAlways && policy != "":
		needs = "restartPolicy " + string(policy) + " lets the pod end by itself, which a container that runs on would prevent"
	case mayEnd(r.pod):
		needs = "its containers' own restart policies let the pod end by itself, which a container that runs on would prevent"
	case meshed:
		needs = "the service's mesh proxy has to start after the agentlet, which registers it"
	}
	v, _ := r.value(contract.Placement, "")
	if s.Placement == contract.PlacementContainer && needs != "" && v.source == ofPod {
		r.add(field.Invalid(annotation(v.found), string(s.Placement), "must be auto or sidecar: "+needs))
	}
	// A sidecar starts before the application: so a gate that waits for the registration alone is open before an application
	// that is ready at once, and one that uses the local API when it starts gets an answer.
	better := s.Placement == contract.PlacementAuto &&
		(s.Gate == contract.GateRegistered || s.LocalAPI == contract.LocalAPIEnabled)
	switch {
	case s.Placement == contract.PlacementSidecar, needs != "", better:
		s.Placement = contract.PlacementSidecar
	default:
		s.Placement = contract.PlacementContainer
	}
}

// mayEnd reports whether every container has a restart policy of its own by which it may end for good.
func mayEnd(pod *corev1.Pod) bool {
	ends := 0
	for i := range pod.Spec.Containers {
		c := &pod.Spec.Containers[i]
		if c.Name == contract.ContainerName {
			continue
		}
		if c.RestartPolicy == nil || restartable(c) {
			return false
		}
		ends++
	}
	return ends > 0
}

// Agentlet returns the pod's injected container, a native sidecar or one of the containers, or nil if the pod has none.
func Agentlet(pod *corev1.Pod) *corev1.Container {
	for i := range pod.Spec.InitContainers {
		if c := &pod.Spec.InitContainers[i]; c.Name == contract.ContainerName && restartable(c) {
			return c
		}
	}
	for i := range pod.Spec.Containers {
		if c := &pod.Spec.Containers[i]; c.Name == contract.ContainerName {
			return c
		}
	}
	return nil
}

// restartable reports whether a container is always restarted by its own policy; an init container is a native sidecar then.
func restartable(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
