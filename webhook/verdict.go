package webhook

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/injector"
)

// kind of a webhook, with the values of Kubernetes' own metrics.
type kind string

const (
	mutating   kind = "mutating"
	validating kind = "validating"
)

// Outcomes and reasons that are not the injector's.
const (
	// accepted: a workload has no new errors.
	accepted injector.Outcome = "accepted"
	// failed: there is no decision. The API server's failurePolicy applies, or the answer is a denial with code 400.
	failed injector.Outcome = "error"

	reasonBadRequest  injector.Reason = "BadRequest"
	reasonInternal    injector.Reason = "InternalError"
	reasonNotCreation injector.Reason = "NotAPodCreation"
	// reasonNamespaceUnknown: the namespace has not been observed yet, so it is unknown what its pods may register.
	reasonNamespaceUnknown injector.Reason = "NamespaceUnknown"
	// reasonPlatformUnknown: it is unknown yet on what kind of cluster the webhook runs.
	reasonPlatformUnknown injector.Reason = "PlatformUnknown"
	// reasonTooLarge: decoding the object may take more memory than a review may.
	reasonTooLarge injector.Reason = "TooLarge"
	// reasonBusy: no memory became free for the review before its deadline.
	reasonBusy injector.Reason = "Busy"

	// Reasons for which a workload is not reviewed, or is accepted.
	reasonNotAWorkload injector.Reason = "NotAWorkload"
	reasonControlled   injector.Reason = "Controlled"
	reasonTerminating  injector.Reason = "Terminating"
	reasonUnchanged    injector.Reason = "Unchanged"
	reasonValid        injector.Reason = "Valid"
	// reasonNothingNew: the old template had each of its errors.
	reasonNothingNew injector.Reason = "NoNewErrors"
)

// outcomes lists all outcomes, and reasons all reasons, for the metrics.
func outcomes() []string {
	return []string{string(injector.Injected), string(injector.Skipped), string(injector.Denied), string(accepted), string(failed)}
}

func reasons() (all []string) {
	for _, reason := range append(injector.Reasons(),
		reasonNotCreation, reasonNotAWorkload, reasonControlled, reasonTerminating, reasonUnchanged, reasonValid, reasonNothingNew,
		reasonBadRequest, reasonInternal, reasonPlatformUnknown, reasonNamespaceUnknown, reasonTooLarge, reasonBusy) {
		all = append(all, string(reason))
	}
	return all
}

// result is the result of one request, for the metric and the log.
type result struct {
	outcome   injector.Outcome
	reason    injector.Reason
	uid       types.UID
	namespace string
	// object is the pod's or the workload's name, or what it is generated from.
	object string
	// fetched is the namespace, where it had to be fetched.
	fetched *corev1.Namespace
}

// setRequest takes over the request's own fields.
func (v *result) setRequest(in *request) {
	v.uid, v.namespace, v.object = in.UID, cut(in.Namespace, maxName), cut(in.Name, maxName)
}
