package webhook

import (
	"crypto/x509"
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/internal/declared"
)

// The metrics' names.
const (
	metricBuild      = "agentlet_webhook_build_info"
	metricReady      = "agentlet_webhook_ready"
	metricAdmissions = "agentlet_webhook_admissions_total"
	metricDuration   = "agentlet_webhook_admission_duration_seconds"
	metricNotBefore  = "agentlet_webhook_certificate_not_before_timestamp_seconds"
	metricExpiry     = "agentlet_webhook_certificate_expiry_timestamp_seconds"
	metricInSync     = "agentlet_webhook_ca_bundle_in_sync"
)

// Metrics declares what the webhook serves, beside the Go runtime's and the process's own metrics and those of its Grants.
func Metrics() []contract.Metric {
	metric, label := contract.NewMetric, contract.Label
	kinds := label("type", string(mutating), string(validating))
	return []contract.Metric{
		metric(metricBuild, contract.Gauge, "1, with the build's version in the labels.", label("version"), label("goversion")),
		metric(metricReady, contract.Gauge, "1 when /readyz of this replica says 200, else 0."),
		metric(metricAdmissions, contract.Counter, "Admission requests by type of webhook (mutating: pods; validating: workloads), outcome and reason.",
			kinds, label("outcome", outcomes()...), label("reason", reasons()...)),
		metric(metricDuration, contract.Histogram, "Time to answer an admission request, by type of webhook.", kinds),
		metric(metricNotBefore, contract.Gauge, "Since when the certificate that is served now is valid, in seconds since 1970; 0 while there is none."),
		metric(metricExpiry, contract.Gauge, "When the certificate that is served now expires, in seconds since 1970; 0 while there is none."),
		metric(metricInSync, contract.Gauge, "1 when the served certificate verifies against what the API server was told to trust, else 0."),
	}
}

// metrics of one server, in a registry of its own.
type metrics struct {
	registry   *prometheus.Registry
	admissions *prometheus.CounterVec
	duration   *prometheus.HistogramVec
}

// newMetrics returns metrics that ask health for what is so now.
func newMetrics(health *health, version string) *metrics {
	as := declared.By(Metrics())
	m := &metrics{
		registry:   prometheus.NewRegistry(),
		admissions: as.Counters(metricAdmissions),
		// From 50 µs, about what an ordinary pod takes, to the API server's default patience of 10 s.
		duration: as.Histograms(metricDuration, .00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1, 10),
	}
	build := as.Gauges(metricBuild)
	build.WithLabelValues(version, runtime.Version()).Set(1)
	m.registry.MustRegister(
		build, m.admissions, m.duration,
		as.Flag(metricReady, health.ready),
		as.Gauge(metricNotBefore, func() float64 { return stamp(health, func(c *x509.Certificate) time.Time { return c.NotBefore }) }),
		as.Gauge(metricExpiry, func() float64 { return stamp(health, func(c *x509.Certificate) time.Time { return c.NotAfter }) }),
		as.Flag(metricInSync, func() bool { return health.certificates.Trusted() == nil }),
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.start()
	return m
}

// start sets to 0 what is watched for its first increase.
func (m *metrics) start() {
	for _, by := range []kind{mutating, validating} {
		for _, reason := range []injector.Reason{reasonBadRequest, reasonInternal, reasonNamespaceUnknown} {
			m.admissions.WithLabelValues(string(by), string(failed), string(reason))
		}
	}
	m.admissions.WithLabelValues(string(mutating), string(injector.Injected), string(injector.ReasonInjected))
}

// observe counts one answered request. The labels' values are the code's own words, never a pod's.
func (m *metrics) observe(by kind, found verdict, took time.Duration) {
	m.admissions.WithLabelValues(string(by), string(found.outcome), string(found.reason)).Inc()
	m.duration.WithLabelValues(string(by)).Observe(took.Seconds())
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// stamp returns a time of the certificate that is served now, as Unix has it, or 0.
func stamp(health *health, of func(*x509.Certificate) time.Time) float64 {
	certificate, err := health.certificates.GetCertificate(nil)
	if err != nil || certificate.Leaf == nil {
		return 0
	}
	return float64(of(certificate.Leaf).Unix())
}
