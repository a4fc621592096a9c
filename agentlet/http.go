package agentlet

import (
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/connlimit"
)

// signalGrace is how long a drain hook waits for a sign of the end. The kubelet runs the hooks of all containers at
// once, so the agentlet's own may come a moment later than the application's; an application's container that is
// restarted alone is held for no longer than this.
const signalGrace = time.Second

// Handler serves the agentlet's HTTP paths: by GET health, the own registration, metrics, and the drain hook, none of which
// changes anything; and by PUT the local API. nonce is what drain hooks of the own pod carry.
func (r *Registrar) Handler(nonce string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+contract.LivezPath, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("ok\n"))
	})
	mux.HandleFunc("GET "+contract.ReadyzPath, func(w http.ResponseWriter, _ *http.Request) {
		status := r.Status()
		if status == nil || !status.Gate.Open {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if status != nil {
			_, _ = w.Write([]byte(string(status.Gate.Reason) + ": " + status.Gate.Message + "\n"))
		}
	})
	mux.HandleFunc("GET "+contract.StatusPath, func(w http.ResponseWriter, request *http.Request) {
		r.readCatalog(request.Context())
		w.Header().Set("Content-Type", "application/json")
		encoder := json.NewEncoder(w)
		encoder.SetIndent("", "  ")
		_ = encoder.Encode(r.Status()) // the client has gone
	})
	mux.HandleFunc("GET "+contract.MetricsPath, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write(r.metrics.text())
	})
	mux.HandleFunc("GET "+contract.DrainPath, func(w http.ResponseWriter, request *http.Request) {
		// Another pod's hook, sent here by a shared address: not ours to hold.
		if subtle.ConstantTimeCompare([]byte(request.Header.Get(contract.NonceHeader)), []byte(nonce)) != 1 {
			http.Error(w, "this drain hook belongs to another pod", http.StatusForbidden)
			return
		}
		defer connlimit.Keep(request.Context())()
		if r.Drain(request.Context(), signalGrace) {
			_, _ = w.Write([]byte("drained\n"))
			return
		}
		_, _ = w.Write([]byte("not terminating\n"))
	})
	r.addLocal(mux)
	return bounded(mux)
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
