package webhook

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/agentlet/agentlet/internal/connlimit"
)

// Bounds for clients, so that a slow one holds no resources. The API server waits for a webhook for 10 s by default and 30 s
// at most.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 10 * time.Second
	idleTimeout       = 2 * time.Minute // the API server keeps its connections open
	maxHeader         = 4 << 10         // bytes; the API server sends less than 1 KiB, and a token where it is configured with one
	// shutdownTimeout bounds the wait for requests in flight, after the delay.
	shutdownTimeout = 10 * time.Second
)

// Config of a Server.
type Config struct {
	// Listen is the address for TLS, MetricsListen that of health and metrics in plain HTTP.
	Listen, MetricsListen string
	Decider               Decider
	// Platform is nil where the Decider has nothing to learn first.
	Platform Platform
	// Namespaces is nil where annotations of namespaces are not read.
	Namespaces   Namespaces
	Certificates Certificates
	// ClientCA is nil where the admission port requires no client certificate.
	ClientCA *ClientCA
	// Grants is nil where the webhook manages no permissions of pods.
	Grants Grants
	// ShutdownDelay is how long the server still accepts requests after it was told to end. /readyz is 503 meanwhile, so that
	// the service's endpoints leave this replica out.
	ShutdownDelay time.Duration
	// Version of the build, for a metric.
	Version string
	Log     *slog.Logger
}

// limiters bound the connections of the two ports.
type limiters struct{ admission, health *connlimit.Limiter }

// ConnectionLimits of the two ports. An API server keeps up to 25 connections open, and opens more for more requests at
// once. A connection that has carried a review is kept, so that unknown clients displace only each other. 512 connections
// with half-sent requests take 35 MiB (measured), of the chart's limit of 128 MiB. The kubelet and Prometheus open a
// connection to the other port for each request, a few at once.
func ConnectionLimits() (admission, health connlimit.Limits) {
	return connlimit.Limits{Total: 512, PerSource: 128, Kept: 256, KeptPerSource: 128}, connlimit.Limits{Total: 128, PerSource: 32}
}

func newLimiters() limiters {
	admission, health := ConnectionLimits()
	return limiters{admission: connlimit.New(admission), health: connlimit.New(health)}
}

// Server is the webhook's two HTTP servers.
type Server struct {
	config   Config
	health   *health
	limiters limiters
	tls      *http.Server
	plain    *http.Server
}

// New returns a Server. It listens from Run on.
func New(config Config) *Server {
	health := &health{
		certificates: config.Certificates, platform: config.Platform, namespaces: config.Namespaces, grants: config.Grants,
	}
	limiters := newLimiters()
	metrics := newMetrics(health, limiters, config.Version)
	if config.Grants != nil {
		metrics.registry.MustRegister(config.Grants)
	}
	mux := http.NewServeMux()
	judge, memory := podReviewer{config.Decider, config.Platform, config.Namespaces}, newMemory()
	mux.Handle(MutatePath, &handler{&pods{judge}, mutating, metrics, config.Log, memory})
	mux.Handle(ValidatePath, &handler{&workloads{judge}, validating, metrics, config.Log, memory})
	s := &Server{config: config, health: health, limiters: limiters}
	s.tls = newHTTPServer(s.closeIdleOnShutdown(mux), config.Log)
	// The API server calls webhooks by HTTP/1.1 only, so that it reaches all replicas. HTTP/2 would allow any client 250
	// requests on each connection.
	s.tls.Protocols = new(http.Protocols)
	s.tls.Protocols.SetHTTP1(true)
	s.tls.TLSConfig = &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: config.Certificates.GetCertificate}
	if config.ClientCA != nil {
		config.ClientCA.demand(s.tls.TLSConfig)
	}
	s.plain = newHTTPServer(s.health.handler(metrics.handler()), config.Log)
	s.plain.SetKeepAlivesEnabled(false)
	return s
}

// Handler answers reviews as the port for TLS does. Tests need no connection for it.
func (s *Server) Handler() http.Handler { return s.tls.Handler }

func newHTTPServer(handler http.Handler, log *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: readHeaderTimeout, ReadTimeout: readTimeout,
		WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: slog.NewLogLogger(sampled{log.Handler(), &rate.Sometimes{First: 10, Interval: time.Second}}, slog.LevelWarn),
	}
}

// sampled drops most lines of a log, because each client that aborts a handshake causes one.
type sampled struct {
	slog.Handler
	which *rate.Sometimes
}

func (s sampled) Handle(ctx context.Context, line slog.Record) (err error) {
	s.which.Do(func() { err = s.Handler.Handle(ctx, line) })
	return err
}

// closeIdleOnShutdown answers with "Connection: close" during shutdown, so that the API server reconnects to another replica
// first. It keeps connections for later calls, and doesn't repeat a call whose connection is closed.
func (s *Server) closeIdleOnShutdown(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.health.stopping.Load() {
			w.Header().Set("Connection", "close")
		}
		next.ServeHTTP(w, r)
	})
}

// Run listens and serves until the context ends. Then it becomes unready, waits ShutdownDelay, and finishes the requests in
// flight in bounded time. It returns nil when the context has ended.
func (s *Server) Run(ctx context.Context) error {
	admission, err := connlimit.Listen(ctx, s.config.Listen)
	if err != nil {
		return fmt.Errorf("listen for admission: %w", err)
	}
	health, err := connlimit.Listen(ctx, s.config.MetricsListen)
	if err != nil {
		return errors.Join(fmt.Errorf("listen for health and metrics: %w", err), admission.Close())
	}
	return s.serve(ctx, admission, health)
}

// serve accepts connections on the listeners, and closes them.
func (s *Server) serve(ctx context.Context, admission, health *net.TCPListener) error {
	s.config.Log.InfoContext(ctx, "serving", "admission", admission.Addr().String(), "health", health.Addr().String())
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return ended("serve admission", s.limiters.admission.ServeTLS(s.tls, admission)) })
	group.Go(func() error { return ended("serve health and metrics", s.limiters.health.Serve(s.plain, health)) })
	group.Go(func() error {
		<-ctx.Done()
		return s.shutdown(context.WithoutCancel(ctx))
	})
	return group.Wait()
}

// shutdown ends both servers, the one with the probes last.
func (s *Server) shutdown(ctx context.Context) error {
	s.health.stopping.Store(true)
	s.config.Log.InfoContext(ctx, "shutting down", "delay", s.config.ShutdownDelay)
	time.Sleep(s.config.ShutdownDelay)
	ctx, cancel := context.WithTimeout(ctx, shutdownTimeout)
	defer cancel()
	var problems []error
	for _, server := range []*http.Server{s.tls, s.plain} {
		if err := server.Shutdown(ctx); err != nil {
			problems = append(problems, fmt.Errorf("shut down: %w", err), server.Close())
		}
	}
	return errors.Join(problems...)
}

// ended drops the error that a server returns after its shutdown.
func ended(what string, err error) error {
	if err == nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}
