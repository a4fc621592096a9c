package webhook

import (
	"context"
	"errors"
	"net/http"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/injector"
)

// podReviewer asks the injector. It takes no lock and sends no request.
type podReviewer struct {
	decider    Decider
	platform   Platform   // or nil
	namespaces Namespaces // or nil
}

// errLate is read by nobody, because the caller no longer waits.
var errLate = errors.New("the request's deadline has passed")

// errAsk says that the namespace has to be fetched first.
var errAsk = errors.New("the namespace is not known")

// decide has the injector decide on a pod of the request's namespace. After errAsk it is called again, with the namespace in
// found.
func (j *podReviewer) decide(ctx context.Context, in *request, pod *corev1.Pod, found *result) (injector.Decision, error) {
	if ctx.Err() != nil {
		return injector.Decision{}, &requestError{statusTold, errLate}
	}
	if j.platform != nil {
		if err := j.platform.Ready(); err != nil {
			found.outcome, found.reason = failed, reasonPlatformUnknown
			return injector.Decision{}, &requestError{statusTold, err}
		}
	}
	request := injector.Request{Namespace: in.Namespace, Pod: pod, Nonce: in.nonce()}
	if j.namespaces != nil {
		namespace, known := found.fetched, found.fetched != nil
		if !known {
			namespace, known = j.namespaces.Get(in.Namespace)
		}
		if !known {
			return injector.Decision{}, errAsk
		}
		request.NamespaceAnnotations, request.NamespaceLabels = namespace.Annotations, namespace.Labels
	}
	return j.decider.Decide(request), nil
}

// ask fetches the namespace into found.
func (j *podReviewer) ask(ctx context.Context, found *result) (err error) {
	if found.fetched, err = j.namespaces.Ask(ctx, found.namespace); err != nil {
		found.outcome, found.reason = failed, reasonNamespaceUnknown
		return &requestError{statusTold, err}
	}
	return nil
}

// pods reviews pods at their creation.
type pods struct{ podReviewer }

func (p *pods) review(ctx context.Context, body []byte, found *result) (*admissionv1.AdmissionResponse, error) {
	in, pod, notPod, err := decodeReview(body)
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	found.setRequest(in)
	if !in.isPodCreation() {
		found.outcome, found.reason = injector.Skipped, reasonNotCreation
		return allow(in.UID), nil
	}
	if notPod == nil && in.Namespace == "" {
		notPod = errors.New("the request names no namespace")
	}
	if notPod != nil {
		return refuse(in.UID, http.StatusBadRequest, metav1.StatusReasonBadRequest, notPod), nil
	}
	if found.object == "" {
		found.object = cut(pod.GenerateName, maxName)
	}
	// Take the request's namespace: the pod's own may be empty at creation, or anything that its author writes.
	decision, err := p.decide(ctx, in, pod, found)
	if err != nil {
		return nil, err
	}
	found.outcome, found.reason = decision.Outcome, decision.Reason
	return respond(in.UID, decision)
}

// tooLarge denies a pod that is too large to decode, because the API server would hide the text of an HTTP error.
func (p *pods) tooLarge(body []byte, found *result, why *tooLargeError) (*admissionv1.AdmissionResponse, error) {
	in, err := decodeEnvelope(body)
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	found.setRequest(in)
	if !in.isPodCreation() {
		found.outcome, found.reason = injector.Skipped, reasonNotCreation
		return allow(in.UID), nil
	}
	return refuse(in.UID, http.StatusRequestEntityTooLarge, metav1.StatusReasonRequestEntityTooLarge, why), nil
}

// allow admits an object unchanged.
func allow(uid types.UID) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{UID: uid, Allowed: true}
}

// refuse denies a request whose object is of another kind than the request says, or too large.
func refuse(uid types.UID, code int32, reason metav1.StatusReason, err error) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{UID: uid, Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: code, Reason: reason, Message: cut(err.Error(), maxMessage),
	}}
}
