package check

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/internal/cli/installation"
	"github.com/agentlet/agentlet/internal/cli/limits"
)

// limits finds the LimitRanges of opted-in namespaces that refuse an agentlet whose pod doesn't set its resources. No such pod is
// there: only an event of what should have created it holds the API server's message, which names no container.
func (r *run) limits(ctx context.Context) {
	ranges, err := installation.LimitRanges(ctx, r.Kube, r.Namespace)
	if err != nil {
		r.add(Skip, "limits", "", "can't "+err.Error(), "")
		return
	}
	judge, err := injector.New(injector.Config{Image: "any", ConsulPort: 8500, ConsulScheme: "http", Defaults: r.defaults()})
	if err != nil {
		r.add(Skip, "limits", "", "can't judge pods: "+err.Error(), "")
		return
	}
	admitted := true
	for _, namespace := range slices.Sorted(maps.Keys(ranges)) {
		if !r.optedIn(namespace) {
			continue
		}
		for _, container := range limits.Added(judge.Decide(r.ordinary(namespace)).Patch) {
			for _, refusal := range limits.Refused(container, ranges[namespace]) {
				admitted = false
				r.add(Warn, "limits", "limitrange/"+namespace+"/"+refusal.LimitRange, refusal.Message, refusal.Remedy)
			}
		}
	}
	if admitted {
		r.add(OK, "limits", "", "no LimitRange of an opted-in namespace refuses an agentlet with the installation's resources", "")
	}
}

// ordinary asks for an agentlet in a namespace, and sets nothing else.
func (r *run) ordinary(namespace string) injector.Request {
	annotations := maps.Clone(r.namespaceAnnotations(namespace))
	delete(annotations, contract.AllowedServices)
	return injector.Request{
		Namespace: namespace, Nonce: "any", NamespaceAnnotations: annotations,
		Pod: &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{contract.ServiceNames: "any", contract.ServicePort: "80"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "any"}}},
		},
	}
}
