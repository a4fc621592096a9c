// Package metrictest compares served metrics with their declarations. Only tests use it.
package metrictest

import (
	"slices"
	"strings"
	"testing"

	dto "github.com/prometheus/client_model/go"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Check reports metrics that are served but not declared, or that differ from their declaration.
func Check(t *testing.T, families []*dto.MetricFamily, declared []contract.Metric) {
	t.Helper()
	for _, family := range families {
		i := slices.IndexFunc(declared, func(m contract.Metric) bool { return m.Name == family.GetName() })
		if i < 0 {
			t.Errorf("%s is not declared", family.GetName())
			continue
		}
		d := declared[i]
		if d.Help != family.GetHelp() || !strings.EqualFold(string(d.Type), family.GetType().String()) {
			t.Errorf("%s is not served as it is declared: %s, %s", d.Name, family.GetType(), family.GetHelp())
		}
		for _, m := range family.GetMetric() {
			checkLabels(t, d, m.GetLabel())
		}
	}
}

func checkLabels(t *testing.T, declared contract.Metric, labels []*dto.LabelPair) {
	t.Helper()
	if len(labels) != len(declared.Labels) {
		t.Errorf("%s has %d labels, declared are %d", declared.Name, len(labels), len(declared.Labels))
	}
	for _, l := range labels {
		i := slices.IndexFunc(declared.Labels, func(d contract.MetricLabel) bool { return d.Name == l.GetName() })
		switch {
		case i < 0:
			t.Errorf("%s: label %s is not declared", declared.Name, l.GetName())
		case declared.Labels[i].Values != nil && !slices.Contains(declared.Labels[i].Values, l.GetValue()):
			t.Errorf("%s: %s=%q is not declared", declared.Name, l.GetName(), l.GetValue())
		}
	}
}
