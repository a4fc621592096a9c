package agentlet

import (
	"context"
	"errors"
	"maps"
	"runtime"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/version"
)

// The metrics' names.
const (
	metricBuild            = "agentlet_build_info"
	metricGateOpen         = "agentlet_gate_open"
	metricGateReason       = "agentlet_gate_reason"
	metricGateSince        = "agentlet_gate_last_transition_timestamp_seconds"
	metricService          = "agentlet_service_info"
	metricTimeToGate       = "agentlet_time_to_gate_seconds"
	metricTimeToDrain      = "agentlet_time_to_drain_seconds"
	metricReachable        = "agentlet_consul_reachable"
	metricRegistrations    = "agentlet_registrations_total"
	metricMaintenance      = "agentlet_maintenance"
	metricHeartbeatsMissed = "agentlet_heartbeats_missed_total"
	metricRequests         = "agentlet_requests_total"
	metricDuration         = "agentlet_request_duration_seconds"
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

// Metrics declares what a registrar serves. The code chooses the values of all labels but one: the services' names, of which a
// pod has registration.MaxServices at the most.
func Metrics() []contract.Metric {
	var reasons, operations, short []string
	for _, r := range contract.Reasons() {
		reasons = append(reasons, string(r))
	}
	for _, c := range commands() {
		operations = append(operations, string(c.operation()))
		if !isBlocking(c) {
			short = append(short, string(c.operation()))
		}
	}
	metric, label := contract.NewMetric, contract.Label
	return []contract.Metric{
		metric(metricBuild, contract.Gauge, "The build's version.", label("version"), label("goversion")),
		metric(metricGateOpen, contract.Gauge, "1 when the readiness gate is open or the pod has none."),
		metric(metricGateReason, contract.Gauge, "1 for the reason that the gate has now, 0 for the others.",
			label("reason", reasons...)),
		metric(
			metricGateSince,
			contract.Gauge,
			"When the gate last opened or closed, or else the pod's start; absent without a gate.",
		),
		metric(metricService, contract.Gauge, "1 for each service that the pod registers.", label("service")),
		metric(metricTimeToGate, contract.Gauge,
			"Time from ready containers to the open gate; absent before, and when an earlier process opened it."),
		metric(
			metricTimeToDrain,
			contract.Gauge,
			"Time from the pod's end until the catalog had dropped every instance, or the wait was over; absent before the end.",
			label("outcome", drainWaiting, drainDropped, drainTimedOut, drainRefused, drainNothing),
		),
		metric(metricReachable, contract.Gauge, "1 when the node's Consul agent answers in time and has a leader."),
		metric(metricMaintenance, contract.Gauge, "1 while the application is in maintenance mode by the local API."),
		metric(metricRegistrations, contract.Counter, "Registrations by cause; all but the first are repeated.",
			label("cause", causeFirst, causeChanged, causeLost, causeResync)),
		metric(metricHeartbeatsMissed, contract.Counter,
			"Heartbeats not delivered before the next was due. After three in a row the instance is critical."),
		metric(
			metricRequests,
			contract.Counter,
			"Requests to Consul, the API server and probed containers.",
			label("operation", operations...),
			label("outcome", outcomeOK, outcomeAbsent, outcomeRejected, outcomeRefused, outcomeUnreachable, outcomeError),
		),
		metric(metricDuration, contract.Summary, "Time that requests took, without blocking ones.",
			label("operation", short...)),
	}
}

// metrics of one registrar.
type metrics struct {
	mu            sync.Mutex
	requests      map[[2]string]uint64 // operation, outcome
	took          map[string]duration  // operation
	registrations map[string]uint64    // cause
	seen          seen
	toGate        time.Duration
}

type duration struct {
	sum   time.Duration
	count uint64
}

// seen is what the metrics show of the state.
type seen struct {
	gateOpen, reachable bool
	gateSince           time.Time // zero where the pod has no gate
	reg                 *registration.Registration
	inMaintenance       bool
	reason              contract.Reason
	heartbeatsMissed    uint64
	drain               progress
}

func newMetrics() *metrics {
	m := &metrics{requests: map[[2]string]uint64{}, took: map[string]duration{}, registrations: map[string]uint64{}}
	for _, cause := range []string{causeFirst, causeChanged, causeLost, causeResync} {
		m.registrations[cause] = 0
	}
	return m
}

// request counts one call by its outcome. One that we gave up is none.
func (m *metrics) request(c command, err error, took time.Duration) {
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
	operation := string(c.operation())
	m.requests[[2]string{operation, outcome}]++
	if !isBlocking(c) {
		was := m.took[operation]
		m.took[operation] = duration{was.sum + took, was.count + 1}
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
	gated := s.pod == nil || hasGate(s.pod, contract.Condition)
	m.seen = seen{
		gateOpen:         s.gate.open() || !gated,
		reason:           s.gate.want.reason,
		reachable:        !s.conn.unhealthy() && s.conn.hasLeader(),
		inMaintenance:    s.inMaintenance(),
		heartbeatsMissed: s.heartbeatsMissed,
		drain:            s.progress(now),
		reg:              s.reg,
	}
	if s.pod != nil && gated {
		m.seen.gateSince = s.gateSince()
	}
}

// gateUpdated takes the time when the gate was opened for the first time.
func (m *metrics) gateUpdated(s *state, c corev1.PodCondition) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.Status == corev1.ConditionTrue && m.toGate == 0 && s.ready() {
		m.toGate = time.Since(s.readySince)
	}
}

// Samples are the values of the registrar's metrics, in the order of their declaration.
func (r *Registrar) Samples() []contract.Sample { return r.metrics.samples() }

func (m *metrics) samples() (all []contract.Sample) {
	m.mu.Lock()
	defer m.mu.Unlock()
	add := func(name string, value float64, labels ...string) {
		all = append(all, contract.Sample{Name: name, Labels: labels, Value: value})
	}
	add(metricBuild, 1, version.Version, runtime.Version())
	add(metricGateOpen, number(m.seen.gateOpen))
	for _, r := range contract.Reasons() {
		add(metricGateReason, number(r == m.seen.reason), string(r))
	}
	if since := m.seen.gateSince; !since.IsZero() {
		add(metricGateSince, float64(since.Unix()))
	}
	if m.seen.reg != nil {
		for _, service := range m.seen.reg.Services {
			add(metricService, 1, service.Name)
		}
	}
	if m.toGate > 0 {
		add(metricTimeToGate, m.toGate.Seconds())
	}
	if drain := m.seen.drain; drain.outcome != "" {
		add(metricTimeToDrain, drain.at(time.Now()).Seconds(), drain.outcome)
	}
	add(metricReachable, number(m.seen.reachable))
	add(metricMaintenance, number(m.seen.inMaintenance))
	for _, cause := range slices.Sorted(maps.Keys(m.registrations)) {
		add(metricRegistrations, float64(m.registrations[cause]), cause)
	}
	add(metricHeartbeatsMissed, float64(m.seen.heartbeatsMissed))
	for _, k := range slices.SortedFunc(maps.Keys(m.requests), func(a, b [2]string) int { return slices.Compare(a[:], b[:]) }) {
		add(metricRequests, float64(m.requests[k]), k[:]...)
	}
	for _, k := range slices.Sorted(maps.Keys(m.took)) {
		all = append(all,
			contract.Sample{Name: metricDuration, Suffix: "_sum", Labels: []string{k}, Value: m.took[k].sum.Seconds()},
			contract.Sample{Name: metricDuration, Suffix: "_count", Labels: []string{k}, Value: float64(m.took[k].count)})
	}
	return all
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
