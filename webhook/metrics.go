package webhook

import (
	"bytes"
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
	metricEvicted    = "agentlet_webhook_connections_evicted_total"
)

// The ports, in metrics.
const (
	admissionPort = "admission"
	healthPort    = "health"
)

// Metrics declares the webhook's metrics. It also serves those of the Go runtime, of the process and of its Grants.
func Metrics() []contract.Metric {
	metric, label := contract.NewMetric, contract.Label
	kinds := label("type", string(mutating), string(validating))
	return []contract.Metric{
		metric(metricBuild, contract.Gauge, "The build's version.", label("version"), label("goversion")),
		metric(metricReady, contract.Gauge, "1 when /readyz of this replica says 200."),
		metric(
			metricAdmissions,
			contract.Counter,
			"Admission requests: mutating for pods, validating for workloads.",
			kinds,
			label("outcome", outcomes()...),
			label("reason", reasons()...),
		),
		metric(metricDuration, contract.Histogram, "Time to answer an admission request.", kinds),
		metric(metricNotBefore, contract.Gauge,
			"Start of the served certificate's validity; 0 without one."),
		metric(metricExpiry, contract.Gauge,
			"End of the served certificate's validity; 0 without one."),
		metric(metricInSync, contract.Gauge,
			"1 when the caBundle verifies the served certificate."),
		metric(
			metricEvicted,
			contract.Counter,
			"Connections that were closed in favour of newer ones; 0 unless flooded.",
			label("port", admissionPort, healthPort),
		),
	}
}

// metrics of one server, in a registry of its own.
type metrics struct {
	registry   *prometheus.Registry
	admissions *prometheus.CounterVec
	duration   *prometheus.HistogramVec
}

// newMetrics returns metrics whose gauges are read from health.
func newMetrics(health *health, limiters limiters, version string) *metrics {
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
		build,
		m.admissions,
		m.duration,
		as.Flag(metricReady, health.ready),
		as.Gauge(metricNotBefore, func() float64 { return stamp(health, func(c *x509.Certificate) time.Time { return c.NotBefore }) }),
		as.Gauge(metricExpiry, func() float64 { return stamp(health, func(c *x509.Certificate) time.Time { return c.NotAfter }) }),
		as.Flag(metricInSync, func() bool { return health.certificates.Trusted() == nil }),
		as.Counter(metricEvicted, prometheus.Labels{"port": admissionPort},
			func() float64 { return float64(limiters.admission.Evicted()) }),
		as.Counter(metricEvicted, prometheus.Labels{"port": healthPort}, func() float64 { return float64(limiters.health.Evicted()) }),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	m.start()
	return m
}

// start sets counters to 0 whose first increase alerts watch for.
func (m *metrics) start() {
	for _, by := range []kind{mutating, validating} {
		for _, reason := range []injector.Reason{
			reasonBadRequest, reasonInternal, reasonPlatformUnknown, reasonNamespaceUnknown, reasonTooLarge, reasonBusy,
		} {
			m.admissions.WithLabelValues(string(by), string(failed), string(reason))
		}
	}
	m.admissions.WithLabelValues(string(mutating), string(injector.Injected), string(injector.ReasonInjected))
}

// observe counts one answered request. All values of labels come from the code, none from a pod.
func (m *metrics) observe(by kind, found result, took time.Duration) {
	m.admissions.WithLabelValues(string(by), string(found.outcome), string(found.reason)).Inc()
	m.duration.WithLabelValues(string(by)).Observe(took.Seconds())
}

// handler composes one answer at a time, if the client still waits for it, and sends it after that. So the gathered metrics
// and the compressor, together 800 KiB, are not held for a slow reader.
func (m *metrics) handler() http.Handler {
	all := promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
	one := make(chan struct{}, 1)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		made := answer{ResponseWriter: w, status: http.StatusOK}
		select {
		case one <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		func() {
			defer func() { <-one }()
			all.ServeHTTP(&made, r)
		}()
		w.WriteHeader(made.status)
		_, _ = w.Write(made.body.Bytes()) // the client has gone
	})
}

// answer is a composed response.
type answer struct {
	http.ResponseWriter
	status int
	body   bytes.Buffer
}

func (a *answer) WriteHeader(status int)            { a.status = status }
func (a *answer) Write(content []byte) (int, error) { return a.body.Write(content) }

// stamp returns a time of the serving certificate in Unix seconds, or 0 where there is no certificate.
func stamp(health *health, of func(*x509.Certificate) time.Time) float64 {
	certificate, err := health.certificates.GetCertificate(nil)
	if err != nil || certificate.Leaf == nil {
		return 0
	}
	return float64(of(certificate.Leaf).Unix())
}
