// Package driver is a client of a service that runs inside a cluster. It follows the service at its node's Consul agent, sends
// requests to the instances, and receives the samples' reports. Client reaches it through the API server, so that the machine of
// the tests needs no route to pods.
package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/observe"
)

// State is what a driver has done and observed. All its times are of one clock, that of the driver's node.
type State struct {
	Now time.Time
	// Reports is the address for the samples' reports: host:port, UDP.
	Reports string
	// Passing is the number of instances to which requests are sent.
	Passing          int
	Requests, Failed int64
	// Errors is the number of failures by error.
	Errors map[string]int
	// Lives has the stations that the catalog and the reports show.
	Lives []observe.Life
}

// Config configures a driver.
type Config struct {
	// Consul is the URL of a Consul agent, Service the service to follow.
	Consul, Service string
	// Host is the address to listen on, which samples can reach.
	Host string
}

// port is the port of a driver's HTTP API.
const port = 8080

// Serve runs a driver until ctx ends. It serves GET /state and PUT /rate?per-second=N.
func Serve(ctx context.Context, config Config) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	consul, err := api.NewClient(&api.Config{Address: config.Consul})
	if err != nil {
		return fmt.Errorf("make Consul client: %w", err)
	}
	d := &driver{ctx: ctx, timeline: observe.NewTimeline(nil), load: load.New(consul, config.Service)}
	if d.reports, err = d.timeline.Collect(ctx, config.Host); err != nil {
		return err
	}
	d.timeline.Catalog(ctx, consul, config.Service)
	if err := d.load.Follow(ctx); err != nil {
		return err
	}
	server := &http.Server{Addr: ":" + strconv.Itoa(port), Handler: d.handler(), ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// driver is a running driver.
type driver struct {
	ctx      context.Context // of the load, which outlives the request that starts it
	timeline *observe.Timeline
	load     *load.Client
	reports  string

	mu sync.Mutex
	// end ends the running load, if there is one, and returns after its last answer.
	end func()
}

func (d *driver) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /state", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(d.state()) // the client may be gone
	})
	mux.HandleFunc("PUT /rate", func(w http.ResponseWriter, r *http.Request) {
		rate, err := strconv.Atoi(r.FormValue("per-second"))
		if err != nil || rate < 0 {
			http.Error(w, fmt.Sprintf("per-second=%s: want a number", r.FormValue("per-second")), http.StatusBadRequest)
			return
		}
		d.setRate(rate) //nolint:contextcheck // the load outlives the request
	})
	return mux
}

func (d *driver) state() State {
	requests, failed := d.load.Counts()
	return State{
		Now: time.Now(), Reports: d.reports, Passing: len(d.load.Instances()),
		Requests: requests, Failed: failed, Errors: d.load.Errors(), Lives: d.timeline.Lives(),
	}
}

// setRate replaces the load. With 0 it returns after the last answer, so that the counts are final.
func (d *driver) setRate(rate int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.end != nil {
		d.end()
		d.end = nil
	}
	if rate == 0 {
		return
	}
	loading, enough := context.WithCancel(d.ctx)
	ended := make(chan struct{})
	go func() { defer close(ended); d.load.Run(loading, rate) }()
	d.end = func() { enough(); <-ended }
}
