package scenario

import (
	"bytes"
	"fmt"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// Sum adds up all series of a metric, in Prometheus' text format, whose labels counts accepts. Of summaries and histograms it
// adds the counts of observations. A missing metric is 0.
func Sum(text []byte, name string, counts func(labels map[string]string) bool) (sum float64, err error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return 0, fmt.Errorf("parse metrics: %w", err)
	}
	for _, metric := range families[name].GetMetric() {
		if counts(labels(metric)) {
			sum += metric.GetCounter().GetValue() + metric.GetGauge().GetValue() +
				float64(metric.GetSummary().GetSampleCount()) + float64(metric.GetHistogram().GetSampleCount())
		}
	}
	return sum, nil
}

func labels(metric *dto.Metric) map[string]string {
	all := map[string]string{}
	for _, pair := range metric.GetLabel() {
		all[pair.GetName()] = pair.GetValue()
	}
	return all
}
