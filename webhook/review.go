package webhook

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"gomodules.xyz/jsonpatch/v2"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	kjson "sigs.k8s.io/json"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/workload"
)

// request is the part of an AdmissionRequest that this webhook reads.
type request struct {
	UID         types.UID               `json:"uid"`
	Kind        metav1.GroupVersionKind `json:"kind"`
	SubResource string                  `json:"subResource"`
	Name        string                  `json:"name"`
	Namespace   string                  `json:"namespace"`
	Operation   admissionv1.Operation   `json:"operation"`
}

// review is an AdmissionReview whose object is read as New, and its old object as Old.
type review[New, Old any] struct {
	metav1.TypeMeta
	Request *struct {
		request
		Object    New `json:"object"`
		OldObject Old `json:"oldObject"`
	} `json:"request"`
}

// unread is a value that is skipped.
type unread struct{}

// UnmarshalJSON accepts any value.
func (*unread) UnmarshalJSON([]byte) error { return nil }

const (
	// maxUID bounds the request's uid, which the answer repeats, and maxName its other names, which are logged. Those of an API
	// server are shorter.
	maxUID  = 128
	maxName = 253
	// maxMessage bounds the text of an error, which may quote the object.
	maxMessage = 4096
)

// isPodCreation reports whether the webhook acts on the request. It admits all others unchanged.
func (r *request) isPodCreation() bool {
	return r.Operation == admissionv1.Create && r.SubResource == "" &&
		r.Kind == metav1.GroupVersionKind{Version: "v1", Kind: "Pod"}
}

// nonce ties drain hooks to their pod. It is a hash of the request's uid, which is random and unique, and doesn't reveal it.
func (r *request) nonce() string {
	sum := sha256.Sum256([]byte(r.UID))
	return hex.EncodeToString(sum[:])[:16]
}

// decodeReview reads a review. An error means that the caller is no API server, or one of an unknown version. Where the
// envelope is valid and the object is no pod, the pod is nil and notPod says why.
func decodeReview(body []byte) (in *request, pod *corev1.Pod, notPod, err error) {
	// Nearly every object is a pod. Decoding it together with its envelope saves two passes over it.
	var whole review[*workload.PodFields, unread]
	notPod = kjson.UnmarshalCaseSensitivePreserveInts(body, &whole)
	if notPod == nil {
		in, err = checkEnvelope(&whole)
		if err != nil {
			return nil, nil, nil, err
		}
		pod, notPod = checkPod(whole.Request.Object)
		return in, pod, notPod, nil
	}
	// Find out whether the object or the envelope can't be read.
	in, err = decodeEnvelope(body)
	return in, nil, fmt.Errorf("decode pod: %w", notPod), err
}

// decodeEnvelope reads a review without its objects.
func decodeEnvelope(body []byte) (*request, error) {
	var around review[unread, unread]
	if err := kjson.UnmarshalCaseSensitivePreserveInts(body, &around); err != nil {
		return nil, fmt.Errorf("decode AdmissionReview: %w", err)
	}
	return checkEnvelope(&around)
}

// checkEnvelope returns the review's request if the review is of a known version and complete.
func checkEnvelope[New, Old any](in *review[New, Old]) (*request, error) {
	if want := admissionv1.SchemeGroupVersion.String(); in.APIVersion != want || in.Kind != "AdmissionReview" {
		return nil, fmt.Errorf("decode AdmissionReview: want apiVersion %q and kind %q, got %q and %q",
			want, "AdmissionReview", cut(in.APIVersion, maxName), cut(in.Kind, maxName))
	}
	switch {
	case in.Request == nil:
		return nil, errors.New("decode AdmissionReview: it holds no request")
	case in.Request.UID == "":
		return nil, errors.New("decode AdmissionReview: its request has no uid")
	case len(in.Request.UID) > maxUID:
		return nil, fmt.Errorf("decode AdmissionReview: its request has a uid of %d characters, and may have %d",
			len(in.Request.UID), maxUID)
	}
	return &in.Request.request, nil
}

func checkPod(fields *workload.PodFields) (*corev1.Pod, error) {
	if fields == nil {
		return nil, errors.New("decode pod: the request holds no object")
	}
	if fields.APIVersion != "v1" || fields.Kind != "Pod" {
		return nil, fmt.Errorf("decode pod: want apiVersion %q and kind %q, got %q and %q",
			"v1", "Pod", cut(fields.APIVersion, maxName), cut(fields.Kind, maxName))
	}
	pod, err := fields.Pod()
	if err != nil {
		return nil, fmt.Errorf("decode pod: %w", err)
	}
	return pod, nil
}

// respond turns a decision into the response for the request.
func respond(uid types.UID, decision injector.Decision) (*admissionv1.AdmissionResponse, error) {
	response := &admissionv1.AdmissionResponse{UID: uid, Allowed: true, Warnings: fitWarnings(decision.Warnings)}
	if decision.Outcome == injector.Denied {
		response.Allowed = false
		response.Result = &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
			Message: denial(decision),
		}
		return response, nil
	}
	if len(decision.Patch) == 0 {
		return response, nil
	}
	patch, err := encodePatch(decision.Patch)
	if err != nil {
		return nil, err
	}
	patchType := admissionv1.PatchTypeJSONPatch
	response.Patch, response.PatchType = patch, &patchType
	return response, nil
}

// encodePatch encodes the operations. The library's marshaller encodes each value twice. The injector makes only additions,
// which always have a value.
func encodePatch(operations []jsonpatch.Operation) ([]byte, error) {
	type operation struct {
		Operation string `json:"op"`
		Path      string `json:"path"`
		Value     any    `json:"value"`
	}
	out := make([]operation, len(operations))
	for i, o := range operations {
		out[i] = operation{o.Operation, o.Path, o.Value}
	}
	patch, err := json.Marshal(out)
	if err != nil {
		return nil, fmt.Errorf("encode patch: %w", err)
	}
	return patch, nil
}

// denial lists all errors, one on each line.
func denial(decision injector.Decision) string {
	switch len(decision.Errors) {
	case 0:
		return string(decision.Reason)
	case 1:
		return decision.Errors[0].Error()
	}
	var out strings.Builder
	fmt.Fprintf(&out, "%d errors:", len(decision.Errors))
	for _, err := range decision.Errors {
		out.WriteString("\n- ")
		out.WriteString(err.Error())
	}
	return out.String()
}

// The API server cuts a warning at 256 characters and, with more than one, drops those that come after 4096 in total.
const (
	maxWarning      = 256
	maxWarningTotal = 4096
)

// fitWarnings makes each warning one line, and cuts where the API server would cut, to show that something is missing.
func fitWarnings(warnings []registration.Warning) []string {
	if len(warnings) == 0 {
		return nil
	}
	more := func(left int) string { return fmt.Sprintf("and %d more warnings", left) }
	room := maxWarningTotal - len(more(len(warnings)))
	fit := make([]string, 0, len(warnings))
	for i, warning := range warnings {
		text := cut(strings.Join(strings.Fields(warning.Message), " "), maxWarning)
		if room -= len(text); room < 0 {
			return append(fit, more(len(warnings)-i))
		}
		fit = append(fit, text)
	}
	return fit
}

// cut shortens a text to at most size bytes between two characters, and marks the cut.
func cut(text string, size int) string {
	const mark = "…"
	if len(text) <= size {
		return text
	}
	end := size - len(mark)
	for end > 0 && !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + mark
}
