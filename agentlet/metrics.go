package agentlet

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// metrics of one registrar, in Prometheus' text format. A client library would cost each pod more memory than the whole
// rest of the registrar holds; a dozen counters don't need one.
type metrics struct {
	mu       sync.Mutex
	requests map[[2]string]uint64 // kind, outcome
	seconds  map[string]float64   // kind
	losses   uint64
	beats    uint64 // missed
	gateOpen bool
	toGate   time.Duration
	toDrain  time.Duration
}

func newMetrics() *metrics {
	return &metrics{requests: map[[2]string]uint64{}, seconds: map[string]float64{}}
}

// request counts one call by its outcome: ok, absent, rejected, refused or error.
func (m *metrics) request(k kind, err error, took time.Duration) {
	outcome := "ok"
	switch {
	case errors.Is(err, ErrAbsent):
		outcome = "absent"
	case errors.Is(err, ErrRejected):
		outcome = "rejected"
	case errors.Is(err, ErrRefused):
		outcome = "refused"
	case err != nil:
		outcome = "error"
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests[[2]string{string(k), outcome}]++
	m.seconds[string(k)] += took.Seconds()
	if k == beat && err != nil {
		m.beats++
	}
}

// lost counts an instance or a check that the agent had and has no longer.
func (m *metrics) lost() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.losses++
}

func (m *metrics) gate(open bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gateOpen = open
}

// gateSet takes the time when the gate was opened for the first time.
func (m *metrics) gateSet(s *state, c corev1.PodCondition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Status == corev1.ConditionTrue && m.toGate == 0 && s.ready() {
		m.toGate = time.Since(s.readySince)
	}
}

func (m *metrics) drained(took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.toDrain = took
}

// text is everything in Prometheus' text format. It is made as a whole, so that no reader holds the lock.
func (m *metrics) text() []byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := &bytes.Buffer{}
	head := func(name, kind, help string) {
		fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	open := 0
	if m.gateOpen {
		open = 1
	}
	head("agentlet_gate_open", "gauge", "Whether the readiness gate is open.")
	fmt.Fprintf(out, "agentlet_gate_open %d\n", open)
	head("agentlet_time_to_gate_seconds", "gauge", "Time from the containers' readiness to the open gate; 0 while it is not.")
	fmt.Fprintf(out, "agentlet_time_to_gate_seconds %g\n", m.toGate.Seconds())
	head("agentlet_time_to_drain_seconds", "gauge", "Time that the drain took; 0 before it is over.")
	fmt.Fprintf(out, "agentlet_time_to_drain_seconds %g\n", m.toDrain.Seconds())
	head("agentlet_lost_total", "counter", "Instances and checks that the Consul agent had lost.")
	fmt.Fprintf(out, "agentlet_lost_total %d\n", m.losses)
	head("agentlet_missed_beats_total", "counter", "Heartbeats that failed.")
	fmt.Fprintf(out, "agentlet_missed_beats_total %d\n", m.beats)
	head("agentlet_requests_total", "counter", "Requests to Consul and the API server by what they do and their outcome.")
	for _, k := range slices.SortedFunc(maps.Keys(m.requests), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		fmt.Fprintf(out, "agentlet_requests_total{operation=%q,outcome=%q} %d\n", k[0], k[1], m.requests[k])
	}
	head("agentlet_request_seconds_total", "counter", "Time spent in requests, waiting included.")
	for _, k := range slices.Sorted(maps.Keys(m.seconds)) {
		fmt.Fprintf(out, "agentlet_request_seconds_total{operation=%q} %g\n", k, m.seconds[k])
	}
	return out.Bytes()
}
