package grants

import (
	"github.com/prometheus/client_golang/prometheus"
	rbacv1 "k8s.io/api/rbac/v1"
)

// What was done to a binding, in metrics and logs.
const (
	created = "created"
	changed = "changed"
	deleted = "deleted"
)

// What failed.
const (
	writing  = "write"
	watching = "watch"
)

// metrics of one Grants. They name no namespace and no account: a cluster has any number of those.
type metrics struct {
	changes  *prometheus.CounterVec
	failures *prometheus.CounterVec
	all      []prometheus.Collector
}

func newMetrics(g *Grants) *metrics {
	m := &metrics{
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentlet_webhook_grant_changes_total",
			Help: "Role bindings that this replica created, changed or deleted for injected pods; another may have done so too.",
		}, []string{"change"}),
		failures: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentlet_webhook_grant_failures_total",
			Help: "Attempts to write a role binding, or to watch what decides on it, that failed; each is tried again.",
		}, []string{"operation"}),
	}
	for _, operation := range []string{writing, watching} {
		m.failures.WithLabelValues(operation)
	}
	for _, change := range []string{created, changed, deleted} {
		m.changes.WithLabelValues(change)
	}
	bound := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "agentlet_webhook_granted_accounts",
		Help: "Service accounts that are bound for injected pods now, in all namespaces.",
	}, func() float64 { return float64(g.bound()) })
	policy := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "agentlet_webhook_grant_policy_in_force",
		Help: "1 when the admission policy bounds whoever is granted, else 0: then nothing more is granted.",
	}, func() float64 {
		if g.Ready() != nil {
			return 0
		}
		return 1
	})
	m.all = []prometheus.Collector{m.changes, m.failures, bound, policy}
	return m
}

// bound counts the accounts as last seen.
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
