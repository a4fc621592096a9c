package webhook

import (
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

	"github.com/agentlet/agentlet/internal/connlimit"
)

// maxBody bounds a request. The API server accepts objects of up to 3 MiB, and etcd keeps half of that; a review can hold an
// object and its predecessor, and half a MiB is plenty for the envelope around them.
const maxBody = 5 << 20

// smallBody is how much of a body is read before it waits for room, and firstRead how much is allocated before it arrives,
// because a client can announce any length. Nearly all reviews are smaller than smallBody, and most than firstRead.
const (
	smallBody = 32 << 10
	firstRead = 16 << 10
)

// Bounds of a request's deadline. The API server sends it with each request, as ?timeout=10s, and reads no later answer.
const (
	timeoutParameter = "timeout"
	defaultTimeout   = 10 * time.Second
	maxTimeout       = 30 * time.Second // the most that a webhook configuration can have
	// bodyTimeout bounds how long a body that is still arriving may hold its room.
	bodyTimeout = 2 * time.Second
)

// statusTold is the status of an error that is left to the API server's failurePolicy and that the author of the object
// should read. The API server shows the text of this status, and not that of others such as 413 and 503.
const statusTold = http.StatusInternalServerError

// requestError is a mistake of the caller, with the HTTP status for it.
type requestError struct {
	status int
	err    error
}

func (e *requestError) Error() string { return e.err.Error() }
func (e *requestError) Unwrap() error { return e.err }

// panicError is a panic below the handler. Its value and stack are written to the log only.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return "internal error: see the webhook's log" }

// reviewer judges the objects of one webhook.
type reviewer interface {
	// review answers the review in body, and fills in found as far as it gets, also with an error. A requestError leaves the
	// decision to the API server's failurePolicy. After errAsk the handler calls ask, and then review again.
	review(ctx context.Context, body []byte, found *result) (*admissionv1.AdmissionResponse, error)
	// ask fetches what the review needs and what isn't in memory.
	ask(ctx context.Context, found *result) error
	// tooLarge answers a review of which only the envelope may be decoded; the error says why.
	tooLarge(body []byte, found *result, why *tooLargeError) (*admissionv1.AdmissionResponse, error)
}

// handler answers AdmissionReviews. A request that it can't understand gets an HTTP 4xx, and its own errors are an HTTP 500.
// The API server applies its failurePolicy to both. Only a decision, or an object that is no pod, makes an AdmissionReview.
type handler struct {
	reviewer
	// kind of the webhook, for the metrics and the log.
	kind    kind
	metrics *metrics
	log     *slog.Logger
	// memory is shared by all handlers.
	memory *memory
}

func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	started := time.Now()
	answer, found, err := h.answer(w, r)
	// The server's own deadline began with the request. A webhook configuration may let a review wait for longer than that.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout)) // only a test's has none
	if err != nil {
		status := http.StatusInternalServerError
		if bad := (*requestError)(nil); errors.As(err, &bad) {
			status = bad.status
		}
		// The API server shows this text to the author of the pod.
		http.Error(w, fmt.Sprintf("agentlet: %s (request uid %q)", cut(err.Error(), maxMessage), found.uid), status)
	} else {
		connlimit.Keep(r.Context()) // until the connection's end: the API server uses it again
		w.Header().Set("Content-Type", "application/json")
		_, err = w.Write(answer) //nolint:gosec // G705: JSON for the API server, no page for a browser
	}
	took := time.Since(started)
	h.metrics.observe(h.kind, found, took)
	h.record(r, found, took, err)
}

// record logs the result of a request, once. It leaves out the uid, because the nonce is derived from it.
func (h *handler) record(r *http.Request, found result, took time.Duration, err error) {
	level := slog.LevelInfo
	attributes := []slog.Attr{
		slog.String("webhook", string(h.kind)),
		slog.String("outcome", string(found.outcome)), slog.String("reason", string(found.reason)),
		slog.String("namespace", found.namespace), slog.String("object", found.object), slog.Float64("seconds", took.Seconds()),
		slog.String("client", r.RemoteAddr),
	}
	if err != nil {
		level = slog.LevelError
		attributes = append(attributes, slog.String("error", cut(err.Error(), maxMessage)))
	}
	if panicked := (*panicError)(nil); errors.As(err, &panicked) {
		attributes = append(attributes, slog.Any("panic", panicked.value), slog.String("stack", string(panicked.stack)))
	}
	h.log.LogAttrs(r.Context(), level, "admission", attributes...)
}

// answer reads a request and returns the body of the response. A panic below becomes an error. found holds what is known of
// the request, also with an error.
func (h *handler) answer(w http.ResponseWriter, r *http.Request) (answer []byte, found result, err error) {
	defer func() {
		if recovered := recover(); recovered != nil {
			answer, err = nil, &panicError{value: recovered, stack: debug.Stack()}
			found.outcome, found.reason = failed, reasonInternal
		}
	}()
	found.outcome, found.reason = failed, reasonBadRequest
	ctx, cancel := context.WithTimeout(r.Context(), timeoutOf(r))
	defer cancel()
	body, release, err := h.readBody(ctx, w, r)
	var response *admissionv1.AdmissionResponse
	if err == nil {
		defer release()
		response, err = h.decide(ctx, body, &found)
	}
	if unanswered := (*requestError)(nil); errors.As(err, &unanswered) {
		if errors.Is(err, errBusy) || errors.Is(err, errLate) {
			found.reason = reasonBusy
		}
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

// decide waits for room and answers the review in a body.
func (h *handler) decide(ctx context.Context, body []byte, found *result) (*admissionv1.AdmissionResponse, error) {
	cost, err := costOf(body)
	if err != nil {
		return nil, &requestError{http.StatusBadRequest, err}
	}
	response, err := h.reviewWithin(ctx, body, cost, found)
	if errors.Is(err, errAsk) {
		// Only the body is held meanwhile.
		if err = h.ask(ctx, found); err == nil {
			response, err = h.reviewWithin(ctx, body, cost, found)
		}
	}
	return response, err
}

// reviewWithin waits for room of this cost and reviews the body.
func (h *handler) reviewWithin(
	ctx context.Context,
	body []byte,
	cost int64,
	found *result,
) (*admissionv1.AdmissionResponse, error) {
	if ctx.Err() != nil {
		return nil, &requestError{statusTold, errLate}
	}
	release, err := h.memory.forReview(ctx, cost)
	if tooLarge := (*tooLargeError)(nil); errors.As(err, &tooLarge) {
		found.reason = reasonTooLarge
		return h.tooLarge(body, found, tooLarge)
	}
	if err != nil {
		return nil, err
	}
	defer release()
	return h.review(ctx, body, found)
}

// timeoutOf is how long the caller says that it waits for the answer.
func timeoutOf(r *http.Request) time.Duration {
	timeout, err := time.ParseDuration(r.URL.Query().Get(timeoutParameter))
	if err != nil || timeout <= 0 {
		return defaultTimeout
	}
	return min(timeout, maxTimeout)
}

// readBody returns the body of a POST with JSON of at most maxBody bytes. The caller calls release when it is done with it.
func (h *handler) readBody(ctx context.Context, w http.ResponseWriter, r *http.Request) (body []byte, release func(), err error) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return nil, nil, &requestError{http.StatusMethodNotAllowed, fmt.Errorf("method %s: only POST is answered", r.Method)}
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return nil, nil, &requestError{
			http.StatusUnsupportedMediaType,
			fmt.Errorf("content type %q: want application/json", r.Header.Get("Content-Type")),
		}
	}
	size := int64(maxBody + 1) // one more shows a body that is too large
	if r.ContentLength >= 0 {
		size = r.ContentLength
	}
	if r.ContentLength > maxBody {
		return nil, nil, errBodyTooLarge
	}
	from := http.MaxBytesReader(w, r.Body, maxBody)
	body, ended, err := read(from, nil, min(size, firstRead))
	if err == nil && !ended {
		body, ended, err = read(from, body, min(size, smallBody))
	}
	release = func() {}
	if err == nil && !ended && int64(len(body)) < size {
		if release, err = h.memory.forBody(ctx, size); err != nil {
			return nil, nil, err
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(bodyTimeout)) // only a test's has none
		body, _, err = read(from, body, size)
	}
	if err != nil {
		release()
		return nil, nil, readError(err)
	}
	if len(body) == 0 {
		return nil, nil, errBodyEmpty
	}
	return body, release, nil
}

// read continues a body after its beginning, until it has this size or ends.
func read(from io.Reader, beginning []byte, size int64) (body []byte, ended bool, err error) {
	if body = beginning; int64(len(body)) == size {
		return body, false, nil
	}
	body = append(make([]byte, 0, size), beginning...)
	for int64(len(body)) < size {
		n, err := from.Read(body[len(body):size])
		body = body[:len(body)+n]
		if errors.Is(err, io.EOF) {
			return body, true, nil
		}
		if err != nil {
			return nil, false, err
		}
	}
	return body, false, nil
}

var (
	errBodyEmpty    = &requestError{http.StatusBadRequest, errors.New("the body is empty")}
	errBodyTooLarge = &requestError{statusTold, fmt.Errorf("the body is larger than %d bytes", maxBody)}
)

// readError turns a failed read of a body into the error for the caller.
func readError(err error) error {
	if tooLarge := (*http.MaxBytesError)(nil); errors.As(err, &tooLarge) {
		return errBodyTooLarge
	}
	return &requestError{http.StatusBadRequest, fmt.Errorf("read body: %w", noEOF(err))}
}

// noEOF says in other words that a body is shorter than announced.
func noEOF(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("the body is shorter than announced")
	}
	return err
}
