// Package declared makes Prometheus' collectors of the metrics that a program has declared, so that each name, help and label is
// said once.
package declared

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Metrics by name. To ask for one that is not declared makes a collector that can't be registered.
type Metrics map[string]contract.Metric

// By returns declarations by name.
func By(all []contract.Metric) Metrics {
	metrics := make(Metrics, len(all))
	for _, m := range all {
		metrics[m.Name] = m
	}
	return metrics
}

// Gauge asks for its value when it is collected.
func (m Metrics) Gauge(name string, value func() float64) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: m[name].Name, Help: m[name].Help}, value)
}

// Flag is a gauge of 1 or 0.
func (m Metrics) Flag(name string, is func() bool) prometheus.Collector {
	return m.Gauge(name, func() float64 {
		if is() {
			return 1
		}
		return 0
	})
}

// Counter asks for its value when it is collected. It is the one with these values of its labels.
func (m Metrics) Counter(name string, labels prometheus.Labels, value func() float64) prometheus.Collector {
	return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: m[name].Name, Help: m[name].Help, ConstLabels: labels}, value)
}

// Gauges by their labels.
func (m Metrics) Gauges(name string) *prometheus.GaugeVec {
	return prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: m[name].Name, Help: m[name].Help}, m[name].LabelNames())
}

// Counters by their labels.
func (m Metrics) Counters(name string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{Name: m[name].Name, Help: m[name].Help}, m[name].LabelNames())
}

// Histograms by their labels.
func (m Metrics) Histograms(name string, buckets ...float64) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: m[name].Name, Help: m[name].Help, Buckets: buckets},
		m[name].LabelNames())
}
