package injector

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// guaranteedCPU is the least CPU limit in a Guaranteed pod where none is configured, because the kernel stops a container that
// has used up its limit for the rest of each 100 ms. Measured from the containers' readiness, the gate opened after 2.6 s with
// 5m, 0.4 s with 20m, 0.06 s with 50m, and hardly sooner with 100m.
var guaranteedCPU = resource.MustParse("50m")

// resources of the agentlet, or of the mesh proxy, in this pod. A Guaranteed pod stays so: a missing request becomes the limit,
// and a missing limit the request, or guaranteedCPU. For a resource that is set for the pod as a whole, the container has none,
// because it would have to fit into what the application was given.
func resources(pod *corev1.Pod, asked *registration.Resources) (r corev1.ResourceRequirements) {
	same := guaranteed(pod)
	for _, one := range [...]struct {
		name           corev1.ResourceName
		request, limit *resource.Quantity
	}{
		{corev1.ResourceCPU, asked.CPURequest, asked.CPULimit},
		{corev1.ResourceMemory, asked.MemoryRequest, asked.MemoryLimit},
	} {
		if setForPod(pod, one.name) {
			continue
		}
		if same {
			if one.limit == nil {
				one.limit = one.request
				if one.name == corev1.ResourceCPU && one.limit != nil && one.limit.Cmp(guaranteedCPU) < 0 {
					one.limit = &guaranteedCPU
				}
			}
			one.request = one.limit
		}
		set(&r.Requests, one.name, one.request)
		set(&r.Limits, one.name, one.limit)
	}
	return r
}

func set(list *corev1.ResourceList, name corev1.ResourceName, q *resource.Quantity) {
	if q == nil {
		return
	}
	if *list == nil {
		*list = make(corev1.ResourceList, 2)
	}
	(*list)[name] = *q
}

// setForPod reports whether the pod as a whole has a request or limit for the resource.
func setForPod(pod *corev1.Pod, name corev1.ResourceName) bool {
	if pod.Spec.Resources == nil {
		return false
	}
	_, request := pod.Spec.Resources.Requests[name]
	_, limit := pod.Spec.Resources.Limits[name]
	return request || limit
}

// guaranteed reports whether the containers make the pod's QoS class Guaranteed: each has a limit for CPU and memory,
// and requests that equal them. Where the pod as a whole has resources, those alone decide.
func guaranteed(pod *corev1.Pod) bool {
	if setForPod(pod, corev1.ResourceCPU) || setForPod(pod, corev1.ResourceMemory) {
		return false
	}
	for _, containers := range [...][]corev1.Container{pod.Spec.InitContainers, pod.Spec.Containers} {
		for i := range containers {
			r := &containers[i].Resources
			if !fixed(r, corev1.ResourceCPU) || !fixed(r, corev1.ResourceMemory) {
				return false
			}
		}
	}
	return len(pod.Spec.Containers) > 0
}

// fixed reports whether the limit is set and the request equals it; an absent request becomes the limit.
func fixed(r *corev1.ResourceRequirements, name corev1.ResourceName) bool {
	limit, ok := r.Limits[name]
	if !ok || limit.Sign() <= 0 {
		return false
	}
	request, ok := r.Requests[name]
	return !ok || request.Cmp(limit) == 0
}
