package agentlet

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/version"
)

// The metrics' names.
const (
	metricBuild            = "agentlet_build_info"
	metricGateOpen         = "agentlet_gate_open"
	metricGateReason       = "agentlet_gate_reason"
	metricTimeToGate       = "agentlet_time_to_gate_seconds"
	metricTimeToDrain      = "agentlet_time_to_drain_seconds"
	metricReachable        = "agentlet_consul_reachable"
	metricRegistrations    = "agentlet_registrations_total"
	metricMaintenance      = "agentlet_maintenance"
	metricHeartbeatsMissed = "agentlet_heartbeats_missed_total"
	metricRequests         = "agentlet_requests_total"
	metricDuration         = "agentlet_request_duration_seconds"
	metricEvicted          = "agentlet_connections_evicted_total"
)

// Outcomes of a request.
const (
	outcomeOK          = "ok"
	outcomeAbsent      = "absent"
	outcomeRejected    = "rejected"
	outcomeRefused     = "refused"
	outcomeUnreachable = "unreachable"
	outcomeError       = "error"
)

// Metrics declares what a registrar serves. No label has a value that somebody else than the code has chosen.
func Metrics() []contract.Metric {
	var reasons, operations, short []string
	for _, r := range contract.ReasonDocs() {
		reasons = append(reasons, string(r.Reason))
	}
	for _, k := range kinds() {
		operations = append(operations, string(k))
		if !k.isBlockingQuery() {
			short = append(short, string(k))
		}
	}
	metric, label := contract.NewMetric, contract.Label
	return []contract.Metric{
		metric(metricBuild, contract.Gauge, "1, with the build's version in the labels.", label("version"), label("goversion")),
		metric(metricGateOpen, contract.Gauge, "1 when the readiness gate is open, else 0."),
		metric(metricGateReason, contract.Gauge, "1 for the reason that the gate has now, 0 for the others.", label("reason", reasons...)),
		metric(metricTimeToGate, contract.Gauge,
			"Time from the containers' readiness to the open gate; absent before, and when an earlier process opened it."),
		metric(metricTimeToDrain, contract.Gauge,
			"Time from the sign of the pod's end until the catalog had dropped every instance, or there was nothing to wait for any more; absent before the end.",
			label("outcome", drainWaiting, drainDropped, drainTimedOut, drainRefused, drainNothing)),
		metric(metricReachable, contract.Gauge, "1 when the node's Consul agent answers in time and knows a leader, else 0."),
		metric(metricMaintenance, contract.Gauge, "1 while the application is in maintenance mode by the local API, else 0."),
		metric(metricRegistrations, contract.Counter, "Registrations by their cause; all but the first are re-registrations.",
			label("cause", causeFirst, causeChanged, causeLost, causeResync)),
		metric(metricHeartbeatsMissed, contract.Counter,
			"Heartbeats that were not delivered before the next one was due. After three in a row the instance goes critical."),
		metric(metricRequests, contract.Counter, "Requests to Consul, to the API server, and to the containers that the agentlet probes.", label("operation", operations...),
			label("outcome", outcomeOK, outcomeAbsent, outcomeRejected, outcomeRefused, outcomeUnreachable, outcomeError)),
		metric(metricDuration, contract.Summary, "Time that requests took, without those that wait for a change.", label("operation", short...)),
		metric(metricEvicted, contract.Counter, "Connections to the agentlet's own port that were closed to make room for newer ones; 0 unless somebody opens too many."),
	}
}

// metrics of one registrar, in Prometheus' text format. A client library would cost each pod more memory than the whole
// rest of the registrar holds; a dozen metrics don't need one.
type metrics struct {
	mu            sync.Mutex
	requests      map[[2]string]uint64 // kind, outcome
	took          map[string]duration  // kind
	registrations map[string]uint64    // cause
	seen          seen
	toGate        time.Duration
	evicted       func() uint64 // connections
}

type duration struct {
	sum   time.Duration
	count uint64
}

// seen is what the metrics show of the state.
type seen struct {
	gateOpen, reachable bool
	inMaintenance       bool
	reason              contract.Reason
	heartbeatsMissed    uint64
	drain               progress
}

func newMetrics(evicted func() uint64) *metrics {
	m := &metrics{evicted: evicted, requests: map[[2]string]uint64{}, took: map[string]duration{}, registrations: map[string]uint64{}}
	for _, cause := range []string{causeFirst, causeChanged, causeLost, causeResync} {
		m.registrations[cause] = 0
	}
	return m
}

// request counts one call by its outcome. One that we gave up is none.
func (m *metrics) request(k kind, err error, took time.Duration) {
	outcome := outcomeError
	switch {
	case errors.Is(err, context.Canceled):
		return
	case err == nil:
		outcome = outcomeOK
	case errors.Is(err, ErrAbsent):
		outcome = outcomeAbsent
	case errors.Is(err, ErrRejected):
		outcome = outcomeRejected
	case errors.Is(err, ErrRefused):
		outcome = outcomeRefused
	case errors.Is(err, ErrUnreachable):
		outcome = outcomeUnreachable
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.requests[[2]string{string(k), outcome}]++
	if !k.isBlockingQuery() {
		was := m.took[string(k)]
		m.took[string(k)] = duration{was.sum + took, was.count + 1}
	}
}

// registered counts a registration.
func (m *metrics) registered(cause string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.registrations[cause]++
}

// see takes over what is so now.
func (m *metrics) see(s *state, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.seen = seen{
		gateOpen: s.gate.open(), reason: s.gate.want.reason, reachable: !s.conn.unhealthy() && s.conn.leader, inMaintenance: s.inMaintenance(),
		heartbeatsMissed: s.heartbeatsMissed, drain: s.progress(now),
	}
}

// gateSet takes the time when the gate was opened for the first time.
func (m *metrics) gateSet(s *state, c corev1.PodCondition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Status == corev1.ConditionTrue && m.toGate == 0 && s.ready() {
		m.toGate = time.Since(s.readySince)
	}
}

// sample is a value of a metric. Its name's suffix and its labels, in their order, stand beside it.
type sample struct {
	suffix string
	labels []string
	value  float64
}

// samples of all metrics by name.
func (m *metrics) samples() map[string][]sample {
	one := func(value float64, labels ...string) []sample { return []sample{{labels: labels, value: value}} }
	all := map[string][]sample{
		metricBuild:            one(1, version.Version, runtime.Version()),
		metricGateOpen:         one(number(m.seen.gateOpen)),
		metricReachable:        one(number(m.seen.reachable)),
		metricMaintenance:      one(number(m.seen.inMaintenance)),
		metricHeartbeatsMissed: one(float64(m.seen.heartbeatsMissed)),
		metricEvicted:          one(float64(m.evicted())),
	}
	if m.toGate > 0 {
		all[metricTimeToGate] = one(m.toGate.Seconds())
	}
	if drain := m.seen.drain; drain.outcome != "" {
		all[metricTimeToDrain] = one(drain.at(time.Now()).Seconds(), drain.outcome)
	}
	for _, r := range contract.ReasonDocs() {
		all[metricGateReason] = append(all[metricGateReason], sample{"", []string{string(r.Reason)}, number(r.Reason == m.seen.reason)})
	}
	for _, cause := range slices.Sorted(maps.Keys(m.registrations)) {
		all[metricRegistrations] = append(all[metricRegistrations], sample{"", []string{cause}, float64(m.registrations[cause])})
	}
	for _, k := range slices.SortedFunc(maps.Keys(m.requests), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		all[metricRequests] = append(all[metricRequests], sample{"", k[:], float64(m.requests[k])})
	}
	for _, k := range slices.Sorted(maps.Keys(m.took)) {
		all[metricDuration] = append(all[metricDuration],
			sample{"_sum", []string{k}, m.took[k].sum.Seconds()}, sample{"_count", []string{k}, float64(m.took[k].count)})
	}
	return all
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}

// text is everything in Prometheus' text format. It is made as a whole, so that no reader holds the lock.
func (m *metrics) text() []byte {
	m.mu.Lock()
	all := m.samples()
	m.mu.Unlock()
	out := &bytes.Buffer{}
	for _, metric := range Metrics() {
		if len(all[metric.Name]) == 0 {
			continue
		}
		fmt.Fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", metric.Name, metric.Help, metric.Name, metric.Type)
		for _, s := range all[metric.Name] {
			var labels []string
			for i, l := range metric.Labels {
				labels = append(labels, fmt.Sprintf("%s=%q", l.Name, s.labels[i]))
			}
			braced := ""
			if len(labels) > 0 {
				braced = "{" + strings.Join(labels, ",") + "}"
			}
			fmt.Fprintf(out, "%s%s%s %g\n", metric.Name, s.suffix, braced, s.value)
		}
	}
	return out.Bytes()
}
