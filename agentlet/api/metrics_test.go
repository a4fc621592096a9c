package api

import (
	"bytes"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/metrictest"
)

func TestMetricsAreAsPrometheusReadsThem(t *testing.T) {
	for name, registrar := range map[string]Registrar{"as declared": agentlet.New(agentlet.Config{}), "of a life": running(t)} {
		t.Run(name, func(t *testing.T) {
			handler := New(registrar, testNonce, slog.New(slog.DiscardHandler)).Handler()
			text := request(handler, http.MethodGet, contract.MetricsPath, "").Body.Bytes()
			problems, err := promlint.New(bytes.NewReader(text)).Lint()
			if err != nil || len(problems) > 0 {
				t.Errorf("promlint: %v, %v", problems, err)
			}
			parser := expfmt.NewTextParser(model.LegacyValidation)
			families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
			if err != nil {
				t.Fatalf("%v in:\n%s", err, text)
			}
			metrictest.Check(t, slices.Collect(maps.Values(families)), Metrics())
			if families[metricEvicted] == nil {
				t.Errorf("no %s in:\n%s", metricEvicted, text)
			}
		})
	}
	text := string(text(running(t).Samples()))
	for _, line := range []string{
		"agentlet_gate_open 1\n", `agentlet_requests_total{operation="register",outcome="ok"} 3` + "\n",
		`agentlet_request_duration_seconds_sum{operation="register"} 0.5` + "\n",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("no %q in:\n%s", line, text)
		}
	}
}
