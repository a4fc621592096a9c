// Package declared creates Prometheus collectors for the metrics that a program has declared, so that each name, help text and
// label is defined once.
package declared

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Metrics are declarations by name. For an undeclared name the collector can't be registered.
type Metrics map[string]contract.Metric

// By returns the declarations by name.
func By(all []contract.Metric) Metrics {
	metrics := make(Metrics, len(all))
	for _, m := range all {
		metrics[m.Name] = m
	}
	return metrics
}

// Gauge returns a gauge that calls value when it is collected.
func (m Metrics) Gauge(name string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m[name].Name, Help: m[name].Help}, value)
}

// Flag returns a gauge with the value 1 or 0.
func (m Metrics) Flag(name string, is func() bool) prometheus.Collector {
	return m.Gauge(name, func() float64 {
		if is() {
			return 1
		}
		return 0
	})
}

// Counter returns a counter with these label values that calls value when it is collected.
func (m Metrics) Counter(name string, labels prometheus.Labels, value func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m[name].Name, Help: m[name].Help, ConstLabels: labels}, value)
}

// Gauges returns a gauge vector.
func (m Metrics) Gauges(name string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: m[name].Name, Help: m[name].Help}, m[name].LabelNames())
}

// Counters returns a counter vector.
func (m Metrics) Counters(name string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: m[name].Name, Help: m[name].Help}, m[name].LabelNames())
}

// Histograms returns a histogram vector.
func (m Metrics) Histograms(name string, buckets ...float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: m[name].Name, Help: m[name].Help, Buckets: buckets},
		m[name].LabelNames())
}
