package injector

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// guaranteedCPU is the CPU limit, at the least, of what says none in a Guaranteed pod: the kernel stops a container that has
// used up its limit for the rest of each 100 ms. With 5m a gate opened 2.6 s after the containers were ready, with 20m 0.4 s,
// with 50m 0.06 s, and with 100m hardly sooner.
var guaranteedCPU = resource.MustParse("50m")

// resources are those of the agentlet, or of the mesh proxy, in this pod. Where the pod is Guaranteed it stays so: the request
// equals the limit, or the limit the request, or guaranteedCPU, where there is none. Where the pod as a whole has a request or
// limit for a resource, neither has one of its own: it would have to fit into what the application was given.
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
