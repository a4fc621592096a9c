package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"runtime/debug"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/injector"
)

// maxBody bounds a request. The API server accepts objects of up to 3 MiB; a review can hold an object and its
// predecessor, and a MiB is plenty for the envelope around them.
const maxBody = 7 << 20

// maxGrowth is how much of an announced body is made room for before it arrives.
const maxGrowth = 64 << 10

// maxObjects bounds the JSON objects in a review, roughly, by its opening braces. A pod has a few hundred. Empty ones
// become 300 times as large when they are decoded: a body of nothing else would take gigabytes.
const maxObjects = 20_000

// Bodies over largeBody are decoded a few at a time, largeAtOnce, because each may take some hundred times its size. The
// others, which are all but all of them, wait for nobody.
const (
	largeBody   = 512 << 10
	largeAtOnce = 2
)

// Outcome and reasons that are not the injector's.
const (
	// failed: no decision was reached; the API server's failurePolicy applies, or the answer is a denial with code 400.
	failed injector.Outcome = "error"

	reasonBadRequest  injector.Reason = "BadRequest"
	reasonInternal    injector.Reason = "InternalError"
	reasonNotCreation injector.Reason = "NotAPodCreation"
	// reasonNamespaceUnknown: the namespace has not been seen yet, so what its pods may register is not known.
	reasonNamespaceUnknown injector.Reason = "NamespaceUnknown"
)

// verdict is what became of one request, for the metric and the log.
type verdict struct {
	outcome   injector.Outcome
	reason    injector.Reason
	uid       types.UID
	namespace string
	pod       string
}

// requestError is a mistake of the caller's, with the HTTP status that says so.
type requestError struct {
	status int
	err    error
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// panicError is a panic below the handler. The value and the stack are for the log alone.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return "internal error: see the webhook's log" }

// mutator answers AdmissionReviews. What it cannot understand gets an HTTP 4xx, and its own mistakes an HTTP 500: the API
// server applies its failurePolicy to both. Only a decision, or an object that is no pod, makes an AdmissionReview.
type mutator struct {
	decider    Decider
	namespaces Namespaces // or nil
	metrics    *metrics
	log        *slog.Logger
	// large holds a place for each large body that is being decoded.
	large chan struct{}
}

func newMutator(decider Decider, namespaces Namespaces, metrics *metrics, log *slog.Logger) *mutator {
	return &mutator{
		decider: decider, namespaces: namespaces, metrics: metrics, log: log, large: make(chan struct{}, largeAtOnce),
	}
}

func (m *mutator) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	answer, found, err := m.answer(w, r)
	if err != nil {
		status := http.StatusInternalServerError
		if bad := (*requestError)(nil); errors.As(err, &bad) {
			status = bad.status
		}
		// This is what the API server shows to whoever creates the pod.
		http.Error(w, fmt.Sprintf("agentlet: %s (request uid %q)", err, found.uid), status)
	} else {
		w.Header().Set("Content-Type", "application/json")
		_, err = w.Write(answer) //nolint:gosec // G705: JSON for the API server, no page for a browser
	}
	took := time.Since(started)
	m.metrics.observe(found, took)
	m.record(r, found, took, err)
}

// record logs what became of a request, once. It leaves out the uid, from which the nonce is made.
func (m *mutator) record(r *http.Request, found verdict, took time.Duration, err error) {
	level := slog.LevelInfo
	attributes := []slog.Attr{
		slog.String("outcome", string(found.outcome)), slog.String("reason", string(found.reason)),
		slog.String("namespace", found.namespace), slog.String("pod", found.pod), slog.Float64("seconds", took.Seconds()),
	}
	if err != nil {
		level = slog.LevelError
		attributes = append(attributes, slog.Any("error", err))
	}
	if panicked := (*panicError)(nil); errors.As(err, &panicked) {
		attributes = append(attributes, slog.Any("panic", panicked.value), slog.String("stack", string(panicked.stack)))
	}
	m.log.LogAttrs(r.Context(), level, "admission", attributes...)
}

// answer reads a request and returns the body of the response. A panic below becomes an error. The verdict holds what is
// known, also with an error.
func (m *mutator) answer(w http.ResponseWriter, r *http.Request) (answer []byte, found verdict, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			answer, err = nil, &panicError{value: recovered, stack: debug.Stack()}
			found.outcome, found.reason = failed, reasonInternal
		}
	}()
	found.outcome, found.reason = failed, reasonBadRequest
	body, err := readBody(w, r)
	if err != nil {
		return nil, found, err
	}
	if len(body) > largeBody {
		select {
		case m.large <- struct{}{}:
			defer func() { <-m.large }()
		case <-r.Context().Done():
			return nil, found, &requestError{http.StatusServiceUnavailable, errors.New("too many large reviews at once")}
		}
	}
	in, pod, notPod, err := decodeReview(body)
	if err != nil {
		return nil, found, &requestError{http.StatusBadRequest, err}
	}
	found.uid, found.namespace, found.pod = in.UID, in.Namespace, in.Name
	response, err := m.decide(in, pod, notPod, &found)
	if unanswered := (*requestError)(nil); errors.As(err, &unanswered) {
		return nil, found, err
	}
	if err == nil {
		answer, err = json.Marshal(admissionv1.AdmissionReview{
			TypeMeta: metav1.TypeMeta{APIVersion: admissionv1.SchemeGroupVersion.String(), Kind: "AdmissionReview"},
			Response: response,
		})
	}
	if err != nil {
		found.outcome, found.reason = failed, reasonInternal
		return nil, found, fmt.Errorf("answer AdmissionReview: %w", err)
	}
	return answer, found, nil
}

// decide lets the injector judge the request's pod.
func (m *mutator) decide(in *request, pod *corev1.Pod, notPod error, found *verdict) (*admissionv1.AdmissionResponse, error) {
	if !in.isPodCreation() {
		found.outcome, found.reason = injector.Skipped, reasonNotCreation
		return &admissionv1.AdmissionResponse{UID: in.UID, Allowed: true}, nil
	}
	if notPod == nil && in.Namespace == "" {
		notPod = errors.New("the request names no namespace")
	}
	if notPod != nil {
		return refuse(in.UID, notPod), nil
	}
	if found.pod == "" {
		found.pod = pod.GenerateName
	}
	// The namespace is the request's: at creation the pod's own may be empty, and it is the pod's author who fills it in.
	question := injector.Request{Namespace: in.Namespace, Pod: pod, Nonce: in.nonce()}
	if m.namespaces != nil {
		var err error
		if question.AllowedServices, err = m.namespaces.AllowedServices(in.Namespace); err != nil {
			found.outcome, found.reason = failed, reasonNamespaceUnknown
			return nil, &requestError{http.StatusServiceUnavailable, err}
		}
	}
	decision := m.decider.Decide(question)
	found.outcome, found.reason = decision.Outcome, decision.Reason
	return respond(in.UID, decision)
}

// refuse denies a request whose object is not what the request says it is.
func refuse(uid types.UID, err error) *admissionv1.AdmissionResponse {
	return &admissionv1.AdmissionResponse{UID: uid, Result: &metav1.Status{
		Status: metav1.StatusFailure, Code: http.StatusBadRequest, Reason: metav1.StatusReasonBadRequest, Message: err.Error(),
	}}
}

// readBody returns the body of a POST with JSON of at most maxBody bytes.
func readBody(w http.ResponseWriter, r *http.Request) ([]byte, error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, &requestError{http.StatusMethodNotAllowed, fmt.Errorf("method %s: only POST is answered", r.Method)}
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, &requestError{
			http.StatusUnsupportedMediaType,
			fmt.Errorf("content type %q: want application/json", r.Header.Get("Content-Type")),
		}
	}
	var body bytes.Buffer
	if r.ContentLength > 0 {
		// One allocation for an ordinary review, of which ReadFrom wants MinRead to spare at the end. For more only as it
		// arrives: anybody who reaches the port can announce a length.
		body.Grow(int(min(r.ContentLength, maxGrowth)) + bytes.MinRead)
	}
	_, err := body.ReadFrom(http.MaxBytesReader(w, r.Body, maxBody))
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return nil, &requestError{http.StatusRequestEntityTooLarge, fmt.Errorf("the body is larger than %d bytes", tooLarge.Limit)}
	}
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, fmt.Errorf("read body: %w", noEOF(err))}
	}
	if body.Len() == 0 {
		return nil, &requestError{http.StatusBadRequest, errors.New("the body is empty")}
	}
	if bytes.Count(body.Bytes(), []byte("{")) > maxObjects {
		return nil, &requestError{http.StatusRequestEntityTooLarge, fmt.Errorf("the body holds more than %d objects", maxObjects)}
	}
	return body.Bytes(), nil
}

// noEOF names the end of a body that was announced to be longer.
func noEOF(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the body is shorter than announced")
	}
	return err
}
