package grants

import (
	"github.com/prometheus/client_golang/prometheus"
	rbacv1 "k8s.io/api/rbac/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/declared"
)

// Changes of a binding, in metrics and logs.
const (
	created = "created"
	changed = "changed"
	deleted = "deleted"
)

// Kinds of failures.
const (
	writing  = "write"
	watching = "watch"
)

// metrics of one Grants. No label is a namespace or an account, because a cluster has any number of them.
type metrics struct {
	changes  *prometheus.CounterVec
	failures *prometheus.CounterVec
	all      []prometheus.Collector
}

// The metrics' names.
const (
	metricChanges  = "agentlet_webhook_grant_changes_total"
	metricFailures = "agentlet_webhook_grant_failures_total"
	metricAccounts = "agentlet_webhook_granted_accounts"
	metricInForce  = "agentlet_webhook_grant_policy_in_force"
)

// Metrics declares what a Grants collects.
func Metrics() []contract.Metric {
	metric, label := contract.NewMetric, contract.Label
	return []contract.Metric{
		metric(metricChanges, contract.Counter,
			"Role bindings for injected pods that this replica changed.",
			label("change", created, changed, deleted)),
		metric(metricFailures, contract.Counter,
			"Failed attempts to write a role binding or to watch what decides on it; each is tried again.",
			label("operation", writing, watching)),
		metric(metricAccounts, contract.Gauge, "Service accounts that are bound for injected pods."),
		metric(metricInForce, contract.Gauge,
			"1 when the admission policies are in force; else nothing more is granted."),
	}
}

func newMetrics(g *Grants) *metrics {
	as := declared.By(Metrics())
	counters := func(name string) *prometheus.CounterVec {
		vector := as.Counters(name)
		for _, value := range as[name].Labels[0].Values {
			vector.WithLabelValues(value) // show 0 before the first one
		}
		return vector
	}
	m := &metrics{changes: counters(metricChanges), failures: counters(metricFailures)}
	m.all = []prometheus.Collector{
		m.changes, m.failures,
		as.Gauge(metricAccounts, func() float64 { return float64(g.bound()) }),
		as.Flag(metricInForce, func() bool { return g.Ready() == nil }),
	}
	return m
}

// bound counts the bound accounts, as observed last.
func (g *Grants) bound() (n int) {
	for _, object := range g.bindings.GetStore().List() {
		if binding, ok := object.(*rbacv1.RoleBinding); ok {
			n += len(accountsOf(binding))
		}
	}
	return n
}

var _ prometheus.Collector = (*Grants)(nil)

// Describe makes Grants a collector of its metrics.
func (g *Grants) Describe(to chan<- *prometheus.Desc) {
	for _, collector := range g.metrics.all {
		collector.Describe(to)
	}
}

// Collect makes Grants a collector of its metrics.
func (g *Grants) Collect(to chan<- prometheus.Metric) {
	for _, collector := range g.metrics.all {
		collector.Collect(to)
	}
}
