package api

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

	"github.com/agentlet/agentlet/agentlet"
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

// refusal is an answer to a call that is not taken.
type refusal struct {
	code int
	why  string
}

func (r *refusal) Error() string { return r.why }

// codes of the registrar's refusals.
var codes = map[error]int{
	agentlet.ErrOverrideUnavailable: http.StatusServiceUnavailable,
	agentlet.ErrOverrideConflict:    http.StatusConflict,
	agentlet.ErrOverrideForbidden:   http.StatusForbidden,
	agentlet.ErrTooManyOverrides:    http.StatusTooManyRequests,
}

// local answers a call of the local API, which the pod's own containers make over the loopback: 200 when the catalog
// has what was asked for, 202 when it was taken and the catalog doesn't have it within localWait, or nothing of the pod
// is to be there yet. Else the answer's "error" says what is wrong, and with which field.
func (s *Server) local(parse func([]byte) (agentlet.Override, error)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		inCatalog, err := s.override(w, r, parse)
		answer, code := map[string]any{"inCatalog": inCatalog}, http.StatusOK
		switch {
		case err != nil:
			answer, code = map[string]any{"error": err.Error()}, codeOf(err)
		case !inCatalog:
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

func codeOf(err error) int {
	if refused, ok := errors.AsType[*refusal](err); ok {
		return refused.code
	}
	for kind, code := range codes {
		if errors.Is(err, kind) {
			return code
		}
	}
	return http.StatusInternalServerError
}

// override takes a call's request to the registrar.
func (s *Server) override(
	w http.ResponseWriter,
	r *http.Request,
	parse func([]byte) (agentlet.Override, error),
) (inCatalog bool, err error) {
	if err := own(r); err != nil {
		return false, err
	}
	defer connlimit.Keep(r.Context())()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxLocalBody))
	if _, large := errors.AsType[*http.MaxBytesError](err); large {
		return false, &refusal{http.StatusRequestEntityTooLarge, fmt.Sprintf("the body must not have more than %d bytes", maxLocalBody)}
	} else if err != nil {
		return false, &refusal{http.StatusBadRequest, "read the body: " + agentlet.RootCause(err).Error()}
	}
	o, err := parse(body)
	if err != nil {
		return false, &refusal{http.StatusBadRequest, err.Error()}
	}
	// What the body took is not the answer's: a recorder in a test has no deadlines.
	_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
	ctx, cancel := context.WithTimeout(r.Context(), localWait)
	defer cancel()
	return s.registrar.Override(ctx, o)
}

// own reports what shows that a request is not one of the pod's own containers': it came over the network; or it names another
// host, as a page in a browser does whose own name leads to the loopback; or it is a form's.
func own(request *http.Request) error {
	to, _ := request.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if to == nil || !loopback(to.String()) || !loopback(request.RemoteAddr) {
		return &refusal{http.StatusForbidden, "only over the pod's loopback"}
	}
	if !loopback(request.Host) {
		return &refusal{
			http.StatusForbidden,
			fmt.Sprintf("Host: must be localhost or a loopback address, not %q", excerpt(request.Host)),
		}
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
func parseMaintenance(body []byte) (agentlet.Override, error) {
	fields, err := parseBody(body, "enabled", "reason")
	if err != nil {
		return agentlet.Override{}, err
	}
	m := agentlet.Maintenance{}
	var isBool bool
	if m.Enabled, isBool = fields["enabled"].(bool); !isBool {
		return agentlet.Override{}, errors.New("enabled: must be true or false")
	}
	if m.Enabled {
		m.Reason = "no reason given"
	}
	if value, there := fields["reason"]; there {
		reason, isText := value.(string)
		if !isText || !m.Enabled || strings.TrimSpace(reason) == "" {
			return agentlet.Override{}, errors.New("reason: must be a text that is not empty, and go with enabled: true")
		}
		if err := checkText("reason", reason, maxLocalCause); err != nil {
			return agentlet.Override{}, err
		}
		m.Reason = reason
	}
	return agentlet.Override{Maintenance: &m}, nil
}

// parseTags reads {"tags": ["primary"]}. The list is the whole of what the application adds; an empty one withdraws all.
func parseTags(body []byte) (agentlet.Override, error) {
	fields, err := parseBody(body, "tags")
	if err != nil {
		return agentlet.Override{}, err
	}
	list, isList := fields["tags"].([]any)
	if !isList {
		return agentlet.Override{}, errors.New("tags: must be a list of texts")
	}
	if len(list) > maxLocalTags {
		return agentlet.Override{}, fmt.Errorf("tags: there are %d, and must not be more than %d", len(list), maxLocalTags)
	}
	tags := make([]string, 0, len(list))
	for i, item := range list {
		field := fmt.Sprintf("tags[%d]", i)
		tag, isText := item.(string)
		if !isText || tag == "" || strings.TrimSpace(tag) != tag {
			return agentlet.Override{}, errors.New(field + ": must be a text, not empty, with no space around it")
		}
		if err := checkText(field, tag, maxLocalTag); err != nil {
			return agentlet.Override{}, err
		}
		if slices.Contains(tags, tag) {
			return agentlet.Override{}, fmt.Errorf("%s: %q is there twice", field, excerpt(tag))
		}
		tags = append(tags, tag)
	}
	return agentlet.Override{Tags: &tags}, nil
}

// parseBody reads one JSON object with no field but these, and none of them twice.
func parseBody(body []byte, known ...string) (map[string]any, error) {
	var fields map[string]any
	twice, err := strict.UnmarshalStrict(body, &fields, strict.DisallowDuplicateFields)
	switch {
	case err != nil || fields == nil:
		return nil, fmt.Errorf("the body must be a JSON object with %s", strings.Join(known, " and "))
	case len(twice) > 0:
		return nil, errors.New(excerpt(twice[0].Error()))
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if !slices.Contains(known, name) {
			return nil, fmt.Errorf("%s: unknown field; known are %s", excerpt(name), strings.Join(known, ", "))
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

// excerpt is the begin of what somebody sent, in one line.
func excerpt(text string) string {
	return strings.Map(func(r rune) rune {
		if registration.IsControl(r) {
			return utf8.RuneError
		}
		return r
	}, registration.Truncate(text, 100))
}
