package injector

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestStaleHookIsReplaced has a pod that was exported from a cluster and created again without its agentlet, so that nothing
// would answer its old hook.
func TestStaleHookIsReplaced(t *testing.T) {
	stale := func(port int32, value string) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: contract.DrainPath, Port: intstr.FromInt32(port), Scheme: corev1.URISchemeHTTP,
			HTTPHeaders: []corev1.HTTPHeader{{Name: contract.NonceHeader, Value: value}},
		}}
	}
	for name, c := range map[string]struct {
		hook     *corev1.LifecycleHandler
		replaced bool
	}{
		"another nonce": {stale(19500, "another"), true},
		"another port":  {stale(19600, nonce), true},
		"ours":          {stale(19500, nonce), false},
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{contract.ServiceNames: "web", contract.ServicePort: "80"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Lifecycle: &corev1.Lifecycle{PreStop: c.hook}}}},
		}
		decision := testInjector(t).Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce})
		replaced := false
		for _, operation := range decision.Patch {
			if operation.Path == "/spec/containers/0/lifecycle/preStop" {
				replaced = operation.Operation == "add"
			}
		}
		if decision.Outcome != Injected || replaced != c.replaced {
			t.Errorf("%s: %s, hook replaced: %v, want %v", name, decision.Outcome, replaced, c.replaced)
		}
	}
}
