package webhook

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync/atomic"
)

// health answers the kubelet's probes.
type health struct {
	certificates Certificates
	platform     Platform   // or nil
	namespaces   Namespaces // or nil
	grants       Grants     // or nil
	stopping     atomic.Bool
}

// handler serves /livez and /readyz. /livez is 200 as long as the process answers. /readyz is 200 only while the API server
// can call this replica and injected pods can work: the gate of a pod without a grant would never open. The body names each
// part of readiness and what is missing.
func (h *health) handler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+LivezPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET "+ReadyzPath, h.readyz)
	mux.Handle("GET "+MetricsPath, metrics)
	return mux
}

// part of readiness. With a problem it is missing.
type part struct {
	name    string
	problem error
}

func (h *health) parts() []part {
	_, missing := h.certificates.GetCertificate(nil)
	parts := []part{{"certificate", missing}, {"trust", h.certificates.Trusted()}, {"running", nil}}
	if h.stopping.Load() {
		parts[2].problem = errStopping
	}
	if h.platform != nil {
		parts = append(parts, part{"platform", h.platform.Ready()})
	}
	if h.namespaces != nil {
		parts = append(parts, part{"namespaces", h.namespaces.Ready()})
	}
	if h.grants != nil {
		parts = append(parts, part{"grants", h.grants.Ready()})
	}
	return parts
}

var errStopping = errors.New("shutting down")

func (h *health) ready() bool {
	return !slices.ContainsFunc(h.parts(), func(p part) bool { return p.problem != nil })
}

func (h *health) readyz(w http.ResponseWriter, _ *http.Request) {
	status, body := http.StatusOK, ""
	for _, part := range h.parts() {
		if part.problem == nil {
			body += fmt.Sprintf("[+] %s: ok\n", part.name)
			continue
		}
		status = http.StatusServiceUnavailable
		body += fmt.Sprintf("[-] %s: %s\n", part.name, part.problem)
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = fmt.Fprint(w, body)
}
