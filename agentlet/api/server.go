package api

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/agentlet/agentlet/internal/connlimit"
)

// Bounds of the agentlet's HTTP server, which anybody on the network can reach. A drain hook is held for as long as the
// drain takes, so there is no write timeout for all; see bounded.
const (
	requestTimeout = 2 * time.Second // for a request's header and body together
	maxHeader      = 4 << 10         // bytes; the API server's proxy sends less than one KiB
	shutdownBound  = time.Second
)

// ConnectionLimits of the agentlet's port. The kubelet, Prometheus and the API server's proxy open a connection for
// each request, and have a handful at once, for milliseconds; from behind one address, where a node masquerades. 256
// connections with half-sent requests were measured to take 8 MiB, an eighth of the default memory-limit. Drain hooks,
// of which a pod has one for each container, and calls of the local API are kept.
func ConnectionLimits() connlimit.Limits {
	return connlimit.Limits{Total: 256, PerSource: 32, Kept: 64, KeptPerSource: 64}
}

// Server answers on the agentlet's port.
type Server struct {
	registrar   Registrar
	nonce       string
	log         *slog.Logger
	connections *connlimit.Limiter
}

// New returns a server for a registrar. nonce is what drain hooks of the own pod carry.
func New(registrar Registrar, nonce string, log *slog.Logger) *Server {
	return &Server{registrar: registrar, nonce: nonce, log: log, connections: connlimit.New(ConnectionLimits())}
}

// Serve answers on a listener until ctx ends, and closes it. It returns nil then, after the held hooks have their answer. It may
// be called once.
func (s *Server) Serve(ctx context.Context, on *net.TCPListener) error {
	server := &http.Server{
		Handler:           s.Handler(),
		ReadHeaderTimeout: requestTimeout, ReadTimeout: requestTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug), // what strangers on the network do
	}
	server.SetKeepAlivesEnabled(false) // nobody asks so often that it would pay for a place
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownBound)
		defer cancel()
		if server.Shutdown(bounded) != nil {
			_ = server.Close()
		}
	})
	err := s.connections.Serve(server, on)
	if stop() {
		return fmt.Errorf("serve: %w", err)
	}
	<-ended // Serve returns when Shutdown begins
	return nil
}
