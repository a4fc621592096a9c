// Command sample is the application of scenarios and the demo: an HTTP server that says who it is.
//
//	GET /         the pod's name
//	GET /ready    200, or 503 until READY_AFTER has passed since the start and while /unready was the last word
//	PUT /ready    ready from now on
//	PUT /unready  not ready from now on
//
// On SIGTERM it tells the collector (COLLECTOR, host:port, UDP) and exits at once, as an application does that knows
// nothing of draining. With RUN_FOR it exits by itself with 0 after that time, like a Job.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

// Report is what the collector receives.
type Report struct {
	Pod, UID string
	At       time.Time
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "sample:", err)
		os.Exit(1)
	}
}

func run() error {
	started := time.Now()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)

	var unready atomic.Bool
	after := duration("READY_AFTER")
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, os.Getenv("POD_NAME")) })
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, _ *http.Request) {
		if unready.Load() || time.Since(started) < after {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("PUT /ready", func(http.ResponseWriter, *http.Request) { unready.Store(false) })
	mux.HandleFunc("PUT /unready", func(http.ResponseWriter, *http.Request) { unready.Store(true) })

	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	server := &http.Server{Addr: ":" + port, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 1)
	go func() { failed <- server.ListenAndServe() }()

	var end <-chan time.Time
	if d := duration("RUN_FOR"); d > 0 {
		end = time.After(d)
	}
	select {
	case err := <-failed:
		return err
	case <-end:
		return nil
	case <-signals:
		return report(time.Now())
	}
}

func duration(name string) time.Duration {
	d, err := time.ParseDuration(os.Getenv(name))
	if err != nil {
		return 0
	}
	return d
}

// report tells the collector that SIGTERM came.
func report(at time.Time) error {
	collector := os.Getenv("COLLECTOR")
	if collector == "" {
		return nil
	}
	connection, err := (&net.Dialer{}).DialContext(context.Background(), "udp", collector)
	if err != nil {
		return fmt.Errorf("dial collector: %w", err)
	}
	defer connection.Close()
	return json.NewEncoder(connection).Encode(Report{Pod: os.Getenv("POD_NAME"), UID: os.Getenv("POD_UID"), At: at})
}
