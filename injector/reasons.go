package injector

// Reason of an outcome, for the answer, the log and the metric.
type Reason string

// The reasons.
const (
	// ReasonNotAnnotated: the pod requests no registration.
	ReasonNotAnnotated Reason = "NotAnnotated"
	// ReasonOptedOut: the pod has inject: "false".
	ReasonOptedOut Reason = "OptedOut"
	// ReasonMeshed: the mesh of consul-k8s registers the pod.
	ReasonMeshed Reason = "Meshed"
	// ReasonUnsupportedOS: the pod is for Windows.
	ReasonUnsupportedOS Reason = "UnsupportedOS"
	// ReasonMirrorPod: the pod only shows a static pod of its node's kubelet.
	ReasonMirrorPod Reason = "MirrorPod"
	// ReasonAlreadyInjected: the pod has everything already.
	ReasonAlreadyInjected Reason = "AlreadyInjected"
	// ReasonInjected: the patch adds what is missing.
	ReasonInjected Reason = "Injected"
	// ReasonInvalidAnnotations: the annotations hold errors.
	ReasonInvalidAnnotations Reason = "InvalidAnnotations"
	// ReasonServiceNotAllowed: the namespace's pods may not register a service of this name.
	ReasonServiceNotAllowed Reason = "ServiceNotAllowed"
	// ReasonTagNotAllowed: the namespace's pods may not register a service with this tag.
	ReasonTagNotAllowed Reason = "TagNotAllowed"
	// ReasonNameCollision: a container or a volume has a name of the agentlet's.
	ReasonNameCollision Reason = "NameCollision"
	// ReasonPortCollision: a container declares the agentlet's port.
	ReasonPortCollision Reason = "PortCollision"
)

// Reasons returns all reasons, in the order in which they are checked. The caller owns the slice.
func Reasons() []Reason {
	return []Reason{
		ReasonNotAnnotated, ReasonOptedOut, ReasonMeshed, ReasonUnsupportedOS, ReasonMirrorPod,
		ReasonInvalidAnnotations, ReasonServiceNotAllowed, ReasonTagNotAllowed, ReasonNameCollision, ReasonPortCollision,
		ReasonAlreadyInjected, ReasonInjected,
	}
}
