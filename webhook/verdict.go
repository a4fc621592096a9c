package webhook

import (
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/injector"
)

// kind of a webhook, in the words of Kubernetes' own metrics.
type kind string

const (
	mutating   kind = "mutating"
	validating kind = "validating"
)

// Outcomes and reasons that are not the injector's.
const (
	// accepted: a workload may be as it is.
	accepted injector.Outcome = "accepted"
	// failed: no decision was reached; the API server's failurePolicy applies, or the answer is a denial with code 400.
	failed injector.Outcome = "error"

	reasonBadRequest  injector.Reason = "BadRequest"
	reasonInternal    injector.Reason = "InternalError"
	reasonNotCreation injector.Reason = "NotAPodCreation"
	// reasonNamespaceUnknown: the namespace has not been seen yet, so what its pods may register is not known.
	reasonNamespaceUnknown injector.Reason = "NamespaceUnknown"
	// reasonTooLarge: to decode the object may take more memory than any may.
	reasonTooLarge injector.Reason = "TooLarge"
	// reasonBusy: there was no memory for the review before its deadline.
	reasonBusy injector.Reason = "Busy"

	// The reasons for which a workload is not judged, or is accepted.
	reasonNotAWorkload injector.Reason = "NotAWorkload"
	reasonControlled   injector.Reason = "Controlled"
	reasonTerminating  injector.Reason = "Terminating"
	reasonUnchanged    injector.Reason = "Unchanged"
	reasonValid        injector.Reason = "Valid"
	// reasonNothingNew: each of its errors was there before.
	reasonNothingNew injector.Reason = "NoNewErrors"
)

// outcomes are all of them, and reasons all reasons, for the metrics.
func outcomes() []string {
	return []string{string(injector.Injected), string(injector.Skipped), string(injector.Denied), string(accepted), string(failed)}
}

func reasons() (all []string) {
	for _, reason := range append(injector.Reasons(),
		reasonNotCreation, reasonNotAWorkload, reasonControlled, reasonTerminating, reasonUnchanged, reasonValid, reasonNothingNew,
		reasonBadRequest, reasonInternal, reasonNamespaceUnknown, reasonTooLarge, reasonBusy) {
		all = append(all, string(reason))
	}
	return all
}

// result is what became of one request, for the metric and the log.
type result struct {
	outcome   injector.Outcome
	reason    injector.Reason
	uid       types.UID
	namespace string
	// object is the pod's or the workload's name, or what it is generated from.
	object string
	// asked: annotations are what was asked for of the namespace.
	asked       bool
	annotations map[string]string
}

// setRequest keeps what the request says of itself.
func (v *result) setRequest(in *request) {
	v.uid, v.namespace, v.object = in.UID, cut(in.Namespace, maxName), cut(in.Name, maxName)
}
