// Command sample is the application of scenarios and the demo: an HTTP server that answers with its pod's name.
//
//	GET /         the pod's name; with UPSTREAM (host:port) that server's answer, over a new connection
//	GET /ready    200, or 503 until READY_AFTER has passed since the start, and after /unready; with DEAF_TO_ITSELF always 503
//	              for clients inside the pod, as if a mesh or a network policy blocked them
//	PUT /ready    ready from now on; also ends /broken
//	PUT /unready  not ready from now on
//	PUT /broken   answer 500 to every GET from now on
//	GET /stop     report to the collector, as its preStop hook would be called
//	GET /lookup   the addresses of ?name= as JSON, from the pod's resolver, or from the name server at ?server=host:port
//	PUT /v1/…     forwarded to the pod's agentlet over the loopback interface
//
// With LEASE it takes part in the election for that Lease in its namespace, and labels its pod with its role:
//
//	GET /role      primary or replica
//	PUT /stepdown  a primary releases the lease
//
// With GRPC_PORT it serves gRPC's health protocol there, with the same result as /ready. "sample true" succeeds at once, for
// exec probes. "sample flood" opens many connections to an address, as any client on the network could. "sample drive URL SERVICE HOST"
// runs package driver. "sample register NAME" is a sidecar that registers its pod with a Consul agent without Agentlet, as people
// write it by hand.
//
// On SIGTERM it reports to the collector (COLLECTOR, host:port, UDP) and exits at once, like an application without graceful
// shutdown; with LINGER only after that time. With RUN_FOR it exits by itself with 0 after that time, like a Job.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/agentlet/agentlet/e2e/load/driver"
)

// Report is the body of the sample's report to the collector: of SIGTERM, or of the call of its preStop hook.
type Report struct {
	Pod, UID string
	At       time.Time
	Hook     bool
}

func main() {
	do, err := choose(os.Args[1:])
	if err == nil {
		err = do()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "sample:", err)
		os.Exit(1)
	}
}

// choose returns what the arguments ask for. Without any it is the application, as with flags: those are of the public image in
// whose place examples run the sample.
func choose(args []string) (func() error, error) {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return run, nil
	}
	name, args := args[0], args[1:]
	switch name {
	case "true":
		return func() error { return nil }, nil
	case "flood":
		return func() error { return flood(args) }, nil
	case "drive":
		if len(args) != 3 {
			return nil, fmt.Errorf("drive %q: want the Consul agent's URL, the service's name and an address of this pod", args)
		}
		return func() error { return drive(args[0], args[1], args[2]) }, nil
	case "register":
		return func() error { return register(args) }, nil
	}
	return nil, fmt.Errorf("%s: want true, flood, drive, register or nothing", name)
}

// drive runs a driver until SIGTERM.
func drive(consul, service, host string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	return driver.Serve(ctx, driver.Config{Consul: consul, Service: service, Host: host})
}

func run() error {
	started := time.Now()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)

	var unready, broken atomic.Bool
	after := duration("READY_AFTER")
	ready := func() bool { return !unready.Load() && time.Since(started) >= after }
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) {
		if upstream := os.Getenv("UPSTREAM"); upstream != "" {
			relay(w, r, "http://"+upstream+"/")
			return
		}
		fmt.Fprintln(w, os.Getenv("POD_NAME"))
	})
	mux.HandleFunc("GET /ready", func(w http.ResponseWriter, r *http.Request) {
		if !ready() || os.Getenv("DEAF_TO_ITSELF") != "" && fromWithin(r) {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("PUT /ready", func(http.ResponseWriter, *http.Request) { unready.Store(false); broken.Store(false) })
	mux.HandleFunc("PUT /broken", func(http.ResponseWriter, *http.Request) { broken.Store(true) })
	mux.HandleFunc("PUT /unready", func(http.ResponseWriter, *http.Request) { unready.Store(true) })

	mux.HandleFunc("GET /stop", func(w http.ResponseWriter, r *http.Request) {
		if err := report(r.Context(), time.Now(), true); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	mux.HandleFunc("GET /lookup", lookUp)
	mux.HandleFunc("PUT /v1/", func(w http.ResponseWriter, r *http.Request) { relay(w, r, "http://127.0.0.1:19500"+r.URL.Path) })

	failed := make(chan error, 3)
	member, err := newMember()
	if err != nil {
		return err
	}
	if member != nil {
		member.serve(mux)
		go func() { failed <- member.run(context.Background()) }()
	}

	port := os.Getenv("PORT")
	if port == "" {
		port = "8080"
	}
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() && r.Method == http.MethodGet {
			http.Error(w, "broken", http.StatusInternalServerError)
			return
		}
		mux.ServeHTTP(w, r)
	})
	server := &http.Server{Addr: ":" + port, Handler: handler, ReadHeaderTimeout: 5 * time.Second}
	go func() { failed <- server.ListenAndServe() }()
	if port := os.Getenv("GRPC_PORT"); port != "" {
		go func() { failed <- serveGRPC(port, ready) }()
	}

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
		if err := report(context.Background(), time.Now(), false); err != nil {
			return err
		}
		time.Sleep(duration("LINGER"))
		return nil
	}
}

// fromWithin reports whether a request comes from the pod itself.
func fromWithin(r *http.Request) bool {
	local, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return false
	}
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	to, _, errTo := net.SplitHostPort(local.String())
	return err == nil && errTo == nil && from == to
}

func duration(name string) time.Duration {
	d, err := time.ParseDuration(os.Getenv(name))
	if err != nil {
		return 0
	}
	return d
}

// report reports the SIGTERM, or the call of the hook, to the collector.
func report(ctx context.Context, at time.Time, hook bool) error {
	collector := os.Getenv("COLLECTOR")
	if collector == "" {
		return nil
	}
	connection, err := (&net.Dialer{}).DialContext(ctx, "udp", collector)
	if err != nil {
		return fmt.Errorf("dial collector: %w", err)
	}
	defer connection.Close()
	return json.NewEncoder(connection).Encode(Report{Pod: os.Getenv("POD_NAME"), UID: os.Getenv("POD_UID"), At: at, Hook: hook})
}

// lookUp resolves a name. It answers 404 if there is no such name, or no address for it.
func lookUp(w http.ResponseWriter, r *http.Request) {
	resolver := net.Resolver{PreferGo: true}
	if server := r.FormValue("server"); server != "" {
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		}
	}
	addresses, err := resolver.LookupHost(r.Context(), r.FormValue("name"))
	if missing, ok := errors.AsType[*net.DNSError](err); ok && missing.IsNotFound {
		http.Error(w, err.Error(), http.StatusNotFound)
		return
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	_ = json.NewEncoder(w).Encode(addresses) // the client may be gone
}

// relay answers with another server's answer, over a new connection.
func relay(w http.ResponseWriter, r *http.Request, url string) {
	request, err := http.NewRequestWithContext(r.Context(), r.Method, url, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	request.Close = true
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadGateway)
		return
	}
	defer response.Body.Close()
	w.WriteHeader(response.StatusCode)
	_, _ = io.Copy(w, response.Body) // the client may be gone
}
