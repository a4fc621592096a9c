package api

import (
	"context"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"time"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/connlimit"
)

// Registrar is what the paths show and ask; *agentlet.Registrar is one.
type Registrar interface {
	// Status is the newest one, nil before there is one. ReadStatus has the catalog read first.
	Status() *contract.Status
	ReadStatus(ctx context.Context) *contract.Status
	Samples() []contract.Sample
	Drain(ctx context.Context, grace time.Duration) (drained bool)
	DrainHook(ctx context.Context, container string, grace time.Duration) (drained bool)
	Override(ctx context.Context, o agentlet.Override) (inCatalog bool, err error)
}

var _ Registrar = (*agentlet.Registrar)(nil)

// signalGrace is how long a drain hook waits for a sign of the end. The kubelet runs the hooks of all containers at
// once, so the agentlet's own may come a moment later than the application's; an application's container that is
// restarted alone is held for no longer than this.
const signalGrace = time.Second

// Handler serves the agentlet's HTTP paths: by GET health, the own registration, metrics, and the drain hook, none of which
// changes anything; and by PUT the local API.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+contract.LivezPath, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET "+contract.ReadyzPath, s.readyz)
	mux.HandleFunc("GET "+contract.StatusPath, s.status)
	mux.HandleFunc("GET "+contract.MetricsPath, s.metrics)
	mux.HandleFunc("GET "+contract.DrainPath, s.drain)
	mux.HandleFunc("PUT "+contract.MaintenancePath, s.local(parseMaintenance))
	mux.HandleFunc("PUT "+contract.TagsPath, s.local(parseTags))
	return bounded(mux)
}

// readyz is 200 while the gate is open, else 503.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	status := s.registrar.Status()
	if status == nil || !status.Gate.Open {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	if status != nil {
		_, _ = w.Write([]byte(string(status.Gate.Reason) + ": " + status.Gate.Message + "\n"))
	}
}

func (s *Server) status(w http.ResponseWriter, r *http.Request) {
	status := s.registrar.ReadStatus(r.Context())
	w.Header().Set("Content-Type", "application/json")
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	_ = encoder.Encode(status) // the client has gone
}

// drain holds the kubelet's drain hook until the pod is out of the catalog, and the container's own hook, if it has one, has run.
func (s *Server) drain(w http.ResponseWriter, r *http.Request) {
	// Another pod's hook, sent here by a shared address: not ours to hold.
	if subtle.ConstantTimeCompare([]byte(r.Header.Get(contract.NonceHeader)), []byte(s.nonce)) != 1 {
		http.Error(w, "this drain hook belongs to another pod", http.StatusForbidden)
		return
	}
	defer connlimit.Keep(r.Context())()
	var drained bool
	if container := r.Header.Get(contract.ContainerHeader); container != "" {
		drained = s.registrar.DrainHook(r.Context(), container, signalGrace)
	} else {
		drained = s.registrar.Drain(r.Context(), signalGrace)
	}
	if drained {
		_, _ = w.Write([]byte("drained\n"))
		return
	}
	_, _ = w.Write([]byte("not terminating\n"))
}

// writeTimeout bounds the writing of an answer to a slow reader.
const writeTimeout = 5 * time.Second

// bounded gives every answer a time in which its reader has to take it; a drain hook's begins when there is one.
func bounded(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != contract.DrainPath {
			// A recorder in a test has no deadlines.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		}
		next.ServeHTTP(w, r)
	})
}
