package webhook

import (
	"fmt"
	"net/http"
	"sync/atomic"
)

// health answers the kubelet's probes.
type health struct {
	certificates Certificates
	namespaces   Namespaces // or nil
	grants       Grants     // or nil
	stopping     atomic.Bool
}

// handler serves /livez, which is 200 as long as the process answers, and /readyz, which is 200 only while the API server
// can call this replica and what it injects can work: a pod that is created without a grant would wait for its gate in vain.
// The body names each part of readiness and, where it is missing, why.
func (h *health) handler(metrics http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+LivezPath, func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET "+ReadyzPath, h.readyz)
	mux.Handle("GET "+MetricsPath, metrics)
	return mux
}

func (h *health) readyz(w http.ResponseWriter, _ *http.Request) {
	type part struct{ name, problem string }
	parts := []part{{name: "certificate"}, {name: "trust"}, {name: "running"}}
	if _, err := h.certificates.GetCertificate(nil); err != nil {
		parts[0].problem = err.Error()
	}
	if err := h.certificates.Trusted(); err != nil {
		parts[1].problem = err.Error()
	}
	if h.stopping.Load() {
		parts[2].problem = "shutting down"
	}
	if h.namespaces != nil {
		namespaces := part{name: "namespaces"}
		if err := h.namespaces.Ready(); err != nil {
			namespaces.problem = err.Error()
		}
		parts = append(parts, namespaces)
	}
	if h.grants != nil {
		grants := part{name: "grants"}
		if err := h.grants.Ready(); err != nil {
			grants.problem = err.Error()
		}
		parts = append(parts, grants)
	}
	status, body := http.StatusOK, ""
	for _, part := range parts {
		if part.problem == "" {
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
