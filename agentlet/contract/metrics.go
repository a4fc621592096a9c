package contract

// Metric declares one metric in Prometheus' terms. The programs declare theirs once, with this; what they serve, the docs
// and the tests of dashboard and alerts go by it.
type Metric struct {
	Name   string
	Type   MetricType
	Help   string
	Labels []MetricLabel
}

// MetricLabel is a label of a metric.
type MetricLabel struct {
	Name string
	// Values are all that there can be; nil where they are the build's own.
	Values []string
}

// LabelNames are the names of its labels, in their order.
func (m Metric) LabelNames() (names []string) {
	for _, label := range m.Labels {
		names = append(names, label.Name)
	}
	return names
}

// NewMetric declares a metric.
func NewMetric(name string, kind MetricType, help string, labels ...MetricLabel) Metric {
	return Metric{Name: name, Type: kind, Help: help, Labels: labels}
}

// Label declares a label; without values it has the build's own.
func Label(name string, values ...string) MetricLabel { return MetricLabel{Name: name, Values: values} }

// MetricType is a metric's type.
type MetricType string

// The types.
const (
	Counter   MetricType = "counter"
	Gauge     MetricType = "gauge"
	Histogram MetricType = "histogram"
	Summary   MetricType = "summary"
)

// Sample is a value of a metric.
type Sample struct {
	Name string
	// Suffix to the name, such as _count; empty for most.
	Suffix string
	// Labels are the values of the metric's labels, in their order.
	Labels []string
	Value  float64
}
