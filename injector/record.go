package injector

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// record is what is written down of a pod at its injection, in the environment of its agentlet: what can't be told from the pod
// any more when it runs.
func record(request *Request) (env []corev1.EnvVar) {
	if original := registration.InjectedFor(request.Pod); original != "" {
		env = append(env, corev1.EnvVar{Name: contract.EnvInjectedFor, Value: original})
	}
	return append(env, corev1.EnvVar{Name: contract.EnvDefaultPort, Value: registration.DefaultPort(request.Pod)})
}

// copied is the decision on a pod with the agentlet of another one. Nothing is added to it.
func copied(original string) Decision {
	return Decision{Outcome: Skipped, Reason: ReasonAlreadyInjected, CopyOf: original, Warnings: []registration.Warning{
		{Message: "this pod has the agentlet of " + original + ", and so is taken for a copy: it is not registered in Consul. " +
			"To register it, create it without the container " + contract.ContainerName},
	}}
}
