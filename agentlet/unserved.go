package agentlet

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// unservedNow is what the gate says of a pod that isn't registered whatever else its annotations say; without a reason the pod is
// served. An opt-out counts before all: it is what a person says of this very pod. Annotations that are gone were taken away
// from the pod that was injected for them. Of an injection that hasn't written down for which pod it was, only an open gate
// shows that this pod once had them.
func (s *state) unservedNow(pod *corev1.Pod) gateStatus {
	original := registration.CopyOf(pod)
	switch {
	case registration.OptedOut(pod):
		return optedOut(contract.InjectLabel + `: "` + contract.InjectDisabled + `"`)
	case original != "":
		return gateStatus{
			reason: contract.CopiedPod,
			message: "not registered: this pod is a copy, with the agentlet that was injected for " + original +
				"; to register it, create it without the container " + contract.ContainerName,
		}
	case registration.Wanted(pod):
		return gateStatus{}
	case registration.InjectionRecorded(pod), s.reg != nil, s.unserved.reason == contract.OptedOut, isOpen(pod):
		return optedOut("neither " + contract.ServiceNames + " nor " + contract.Services + " is among its annotations any more")
	}
	return gateStatus{reason: contract.InvalidConfiguration, message: "this pod has no agentlet annotations (a copy?)"}
}

func optedOut(why string) gateStatus {
	return gateStatus{open: true, reason: contract.OptedOut, message: "not registered: " + why}
}

// isOpen reports whether the pod's gate is open, be it by an earlier agentlet of the pod.
func isOpen(pod *corev1.Pod) bool {
	c := condition(pod, contract.Condition)
	return c != nil && c.Status == corev1.ConditionTrue
}

// observeUnserved follows whether the pod is served. One that isn't asks for nothing: what it has at the agent is taken out.
func (s *state) observeUnserved(pod *corev1.Pod) {
	if s.unserved = s.unservedNow(pod); s.unserved.reason == "" {
		return
	}
	s.reg, s.invalid = nil, ""
	s.defined = true
	s.wantNothing()
}
