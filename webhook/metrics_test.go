package webhook

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	dto "github.com/prometheus/client_model/go"

	"github.com/agentlet/agentlet/internal/metrictest"
)

func TestMetricsAreAsDeclared(t *testing.T) {
	certificate, _ := selfSigned(t, "agentlet.test.svc", time.Now().Add(time.Hour))
	health := &health{certificates: &fakeCertificates{certificate: certificate}}
	m := newMetrics(health, "test")
	m.observe(validating, verdict{outcome: accepted, reason: reasonValid}, time.Millisecond)
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	all, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var own []*dto.MetricFamily
	for _, family := range all {
		if strings.HasPrefix(family.GetName(), "agentlet_") {
			own = append(own, family)
		}
	}
	if len(own) != len(Metrics()) {
		t.Errorf("%d metrics are served, %d declared", len(own), len(Metrics()))
	}
	metrictest.Check(t, own, Metrics())
}

func TestReadyIsAMetric(t *testing.T) {
	certificate, _ := selfSigned(t, "agentlet.test.svc", time.Now().Add(time.Hour))
	server := New(Config{Certificates: &fakeCertificates{certificate: certificate}, Log: slog.New(slog.DiscardHandler)})
	for _, stopping := range []bool{false, true} {
		server.health.stopping.Store(stopping)
		want := "agentlet_webhook_ready 1\n"
		if stopping {
			want = "agentlet_webhook_ready 0\n"
		}
		if text := get(server.plain.Handler, MetricsPath).Body.String(); !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}
