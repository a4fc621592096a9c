package apiproxy

import (
	"cmp"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// remedies by the reason of a gate, each for a namespace and a pod. Reasons that pass by themselves have none.
var remedies = map[contract.Reason]string{
	contract.Starting:             "kubectl -n %s logs %s -c agentlet",
	contract.ContainersNotReady:   "the application is not ready: kubectl -n %s describe pod %s",
	contract.ConsulUnreachable:    "see that a Consul agent answers at the node's address; then kubectl -n %s logs %s -c agentlet",
	contract.LoginFailed:          "see to Consul's auth method and its binding rules; then kubectl -n %s logs %s -c agentlet",
	contract.RegistrationRejected: "see what Consul's agent refuses, most often by a missing right of the token: kubectl -n %s logs %s -c agentlet",
	contract.RegistrationFailed:   "see the log of the node's Consul agent, and its disk; then kubectl -n %s logs %s -c agentlet",
	contract.InvalidConfiguration: "correct the annotations: kubectl -n %s describe pod %s",
	contract.PortConflict:         "give the agentlet another port by " + contract.AgentletPort + ": kubectl -n %s describe pod %s",
	contract.AwaitingCatalog:      "correct the checks that the reason names, or see that the node's Consul agent reaches the servers; then kubectl -n %s logs %s -c agentlet",
	contract.CopiedPod:            "nothing has to be done if the copy is for debugging: it gets no requests; else create it without its agentlet: kubectl -n %s get pod %s -o yaml",
	contract.CatalogLost:          "see who took the instance out of Consul; then kubectl -n %s logs %s -c agentlet",
}

// Remedy returns what to do about a gate that stays closed for this reason.
func Remedy(pod *corev1.Pod, reason contract.Reason) string {
	return fmt.Sprintf(cmp.Or(remedies[reason], remedies[contract.Starting]), pod.Namespace, pod.Name)
}
