package webhook

import (
	"bytes"
	"context"
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
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// reviewer judges the objects of one webhook.
type reviewer interface {
	// review answers the review in body. It says in found what it knows, also with an error. A requestError leaves the word to
	// the API server's failurePolicy.
	review(ctx context.Context, body []byte, found *verdict) (*admissionv1.AdmissionResponse, error)
}

// handler answers AdmissionReviews. What it cannot understand gets an HTTP 4xx, and its own mistakes an HTTP 500: the API
// server applies its failurePolicy to both. Only a decision, or an object that is no pod, makes an AdmissionReview.
type handler struct {
	reviewer
	// kind of the webhook, for the metrics and the log.
	kind    kind
	metrics *metrics
	log     *slog.Logger
	// large holds a place for each large body that is being decoded. All handlers share it.
	large chan struct{}
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	answer, found, err := h.answer(w, r)
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
	h.metrics.observe(h.kind, found, took)
	h.record(r, found, took, err)
}

// record logs what became of a request, once. It leaves out the uid, from which the nonce is made.
func (h *handler) record(r *http.Request, found verdict, took time.Duration, err error) {
	level := slog.LevelInfo
	attributes := []slog.Attr{
		slog.String("webhook", string(h.kind)),
		slog.String("outcome", string(found.outcome)), slog.String("reason", string(found.reason)),
		slog.String("namespace", found.namespace), slog.String("object", found.object), slog.Float64("seconds", took.Seconds()),
	}
	if err != nil {
		level = slog.LevelError
		attributes = append(attributes, slog.Any("error", err))
	}
	if panicked := (*panicError)(nil); errors.As(err, &panicked) {
		attributes = append(attributes, slog.Any("panic", panicked.value), slog.String("stack", string(panicked.stack)))
	}
	h.log.LogAttrs(r.Context(), level, "admission", attributes...)
}

// answer reads a request and returns the body of the response. A panic below becomes an error. The verdict holds what is
// known, also with an error.
func (h *handler) answer(w http.ResponseWriter, r *http.Request) (answer []byte, found verdict, err error) {
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
		case h.large <- struct{}{}:
			defer func() { <-h.large }()
		case <-r.Context().Done():
			return nil, found, &requestError{http.StatusServiceUnavailable, errors.New("too many large reviews at once")}
		}
	}
	response, err := h.review(r.Context(), body, &found)
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
