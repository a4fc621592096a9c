package agentlet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"mime"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	strict "sigs.k8s.io/json"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/connlimit"
)

// Bounds of the local API.
const (
	maxLocalBody  = 32 << 10 // bytes
	maxLocalTags  = 64
	maxLocalTag   = 255 // bytes
	maxLocalCause = 200 // bytes; it becomes part of a check's output
	// localWait is how long a call waits for the catalog. It is less than writeTimeout.
	localWait = 3 * time.Second
)

// addLocal adds the local API: what the pod's own containers may say, over the loopback alone. Whether the pod asks for it is the
// annotations' to say, which are live, so that is looked at with each call.
func (r *Registrar) addLocal(mux *http.ServeMux) {
	mux.HandleFunc("PUT "+contract.MaintenancePath, r.local(parseMaintenance))
	mux.HandleFunc("PUT "+contract.TagsPath, r.local(parseTags))
}

// local answers a call: 200 when the catalog has what was said, 202 when it was taken and the catalog doesn't have it within
// localWait, or nothing of the pod is to be there yet. Else the answer's "error" says what is wrong, and with which field.
func (r *Registrar) local(parse func([]byte) (overrideRequest, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, request *http.Request) {
		known, err := r.handleOverride(w, request, parse)
		answer, code := map[string]any{"inCatalog": known}, http.StatusOK
		if refused, ok := errors.AsType[*refusal](err); ok {
			answer, code = map[string]any{"error": refused.why}, refused.code
		} else if !known {
			code = http.StatusAccepted
		}
		w.Header().Set("Content-Type", "application/json")
		if code == http.StatusTooManyRequests || code == http.StatusServiceUnavailable {
			w.Header().Set("Retry-After", "1")
		}
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(answer) // the client has gone
	}
}

// handleOverride takes a call's word to the registrar. Its error is a refusal.
func (r *Registrar) handleOverride(w http.ResponseWriter, request *http.Request, parse func([]byte) (overrideRequest, error)) (inCatalog bool, err error) {
	if err := own(request); err != nil {
		return false, err
	}
	defer connlimit.Keep(request.Context())()
	body, err := io.ReadAll(http.MaxBytesReader(w, request.Body, maxLocalBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return false, &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body must not have more than %d bytes", maxLocalBody)}
	} else if err != nil {
		return false, &refusal{http.StatusBadRequest, "read the body: " + RootCause(err).Error()}
	}
	word, err := parse(body)
	if err != nil {
		return false, &refusal{http.StatusBadRequest, err.Error()}
	}
	// What the body took is not the answer's: a recorder in a test has no deadlines.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	return r.override(request.Context(), word)
}

// override has the registrar hear a word, and waits until the catalog shows it, for localWait at the most.
func (r *Registrar) override(ctx context.Context, w overrideRequest) (inCatalog bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, localWait)
	defer cancel()
	var heard <-chan struct{}
	if !r.ask(ctx, func(s *state, now time.Time) {
		if err = s.setOverride(w, now); err == nil {
			heard = s.convergedCh()
		}
	}) {
		return false, &refusal{http.StatusServiceUnavailable, "the agentlet is starting or ending"}
	}
	if err != nil {
		return false, err
	}
	select {
	case <-heard:
	case <-ctx.Done():
	case <-r.done:
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), localWait/3)
	defer cancel()
	r.ask(bounded, func(s *state, _ time.Time) { inCatalog = s.allConverged() })
	return inCatalog, nil
}

// ask has the loop call e, and returns when it has; false where it did not, because ctx or the registrar has ended.
func (r *Registrar) ask(ctx context.Context, e event) bool {
	asked := make(chan struct{})
	select {
	case r.events <- func(s *state, now time.Time) { e(s, now); close(asked) }:
		<-asked
		return true
	case <-ctx.Done():
	case <-r.done:
	}
	return false
}

// own reports what shows that a request is not one of the pod's own containers': it came over the network; or it names another
// host, as a page in a browser does whose own name leads to the loopback; or it is a form's.
func own(request *http.Request) error {
	to, _ := request.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if to == nil || !loopback(to.String()) || !loopback(request.RemoteAddr) {
		return &refusal{http.StatusForbidden, "only over the pod's loopback"}
	}
	if !loopback(request.Host) {
		return &refusal{http.StatusForbidden, fmt.Sprintf("Host: must be localhost or a loopback address, not %q", clip(request.Host))}
	}
	if kind, _, err := mime.ParseMediaType(request.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		return &refusal{http.StatusUnsupportedMediaType, "Content-Type: must be application/json"}
	}
	return nil
}

// loopback reports whether a host, with a port or without, is this machine as it calls itself.
func loopback(host string) bool {
	if bare, _, err := net.SplitHostPort(host); err == nil {
		host = bare
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	ip, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && ip.Unmap().IsLoopback()
}

// parseMaintenance reads {"enabled": true, "reason": "compaction"} or {"enabled": false}.
func parseMaintenance(body []byte) (overrideRequest, error) {
	fields, err := parseBody(body, "enabled", "reason")
	if err != nil {
		return overrideRequest{}, err
	}
	m := maintenance{}
	var isBool bool
	if m.enabled, isBool = fields["enabled"].(bool); !isBool {
		return overrideRequest{}, errors.New("enabled: must be true or false")
	}
	if m.enabled {
		m.reason = "no reason given"
	}
	if value, there := fields["reason"]; there {
		reason, isText := value.(string)
		if !isText || !m.enabled || strings.TrimSpace(reason) == "" {
			return overrideRequest{}, errors.New("reason: must be a text that is not empty, and go with enabled: true")
		}
		if err := checkText("reason", reason, maxLocalCause); err != nil {
			return overrideRequest{}, err
		}
		m.reason = reason
	}
	return overrideRequest{maintenance: &m}, nil
}

// parseTags reads {"tags": ["primary"]}. The list is the whole of what the application adds; an empty one withdraws all.
func parseTags(body []byte) (overrideRequest, error) {
	fields, err := parseBody(body, "tags")
	if err != nil {
		return overrideRequest{}, err
	}
	list, isList := fields["tags"].([]any)
	if !isList {
		return overrideRequest{}, errors.New("tags: must be a list of texts")
	}
	if len(list) > maxLocalTags {
		return overrideRequest{}, fmt.Errorf("tags: there are %d, and must not be more than %d", len(list), maxLocalTags)
	}
	tags := make([]string, 0, len(list))
	for i, item := range list {
		field := fmt.Sprintf("tags[%d]", i)
		tag, isText := item.(string)
		if !isText || tag == "" || strings.TrimSpace(tag) != tag {
			return overrideRequest{}, errors.New(field + ": must be a text, not empty, with no space around it")
		}
		if err := checkText(field, tag, maxLocalTag); err != nil {
			return overrideRequest{}, err
		}
		if slices.Contains(tags, tag) {
			return overrideRequest{}, fmt.Errorf("%s: %q is there twice", field, clip(tag))
		}
		tags = append(tags, tag)
	}
	return overrideRequest{tags: &tags}, nil
}

// parseBody reads one JSON object with no field but these, and none of them twice.
func parseBody(body []byte, known ...string) (map[string]any, error) {
	var fields map[string]any
	twice, err := strict.UnmarshalStrict(body, &fields, strict.DisallowDuplicateFields)
	switch {
	case err != nil || fields == nil:
		return nil, fmt.Errorf("the body must be a JSON object with %s", strings.Join(known, " and "))
	case len(twice) > 0:
		return nil, errors.New(clip(twice[0].Error()))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%s: unknown field; known are %s", clip(name), strings.Join(known, ", "))
		}
	}
	return fields, nil
}

// checkText refuses what is no short line of text.
func checkText(field, text string, most int) error {
	switch {
	case len(text) > most:
		return fmt.Errorf("%s: has %d bytes, and must not have more than %d", field, len(text), most)
	case registration.HasControl(text) || strings.ContainsRune(text, utf8.RuneError):
		return fmt.Errorf("%s: must hold no control characters, and be valid UTF-8", field)
	}
	return nil
}

// clip shortens what somebody sent for a message, and keeps it in one line.
func clip(text string) string {
	const most = 100
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strings.Map(func(r rune) rune {
		if registration.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, text)
}
