package injector

import (
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestErrorsNameWhoseDefaultItIs: the author of a pod sees neither the namespace's annotations nor the installation's values.
func TestErrorsNameWhoseDefaultItIs(t *testing.T) {
	for name, test := range map[string]struct {
		pod, namespace map[string]string
		want           string
	}{
		"a port that is taken": {nil, map[string]string{contract.AgentletPort: "8080"}, "(this value is the default of the pod's namespace)"},
		"the pod's own port":   {map[string]string{contract.AgentletPort: "8080"}, nil, "give it another one with the annotation agentlet.dev/agentlet-port"},
		"a limit below the request": {
			map[string]string{contract.CPURequest: "100m"},
			map[string]string{contract.CPULimit: "20m"},
			"must not be more than agentlet.dev/cpu-limit (20m) (agentlet.dev/cpu-limit is the default of the pod's namespace)",
		},
		"a TTL above the reaping": {
			map[string]string{contract.DeregisterAfter: "1m"},
			map[string]string{contract.HeartbeatTTL: "90s"},
			"(agentlet.dev/heartbeat-ttl is the default of the pod's namespace)",
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := serving("web")
			pod.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 8080}}
			maps.Copy(pod.Annotations, test.pod)
			_, d := pass(t, pod, Request{Namespace: "shop", Nonce: nonce, NamespaceAnnotations: test.namespace})
			if d.Outcome != Denied || !strings.HasSuffix(d.Errors.ToAggregate().Error(), test.want) {
				t.Errorf("%s: %v", d.Outcome, d.Errors)
			}
		})
	}
}
