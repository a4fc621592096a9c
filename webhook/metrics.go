package webhook

import (
	"net/http"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// metrics of one server, in a registry of its own.
type metrics struct {
	registry   *prometheus.Registry
	admissions *prometheus.CounterVec
	duration   prometheus.Histogram
}

func newMetrics(certificates Certificates, version string) *metrics {
	m := &metrics{
		registry: prometheus.NewRegistry(),
		admissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "agentlet_webhook_admissions_total",
			Help: "Admission requests by outcome and reason.",
		}, []string{"outcome", "reason"}),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "agentlet_webhook_admission_duration_seconds",
			Help: "Time to answer an admission request.",
			// From 50 µs, about what an ordinary pod takes, to the API server's default patience of 10 s.
			Buckets: []float64{.00005, .0001, .00025, .0005, .001, .0025, .005, .01, .05, .25, 1, 10},
		}),
	}
	expiry := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "agentlet_webhook_certificate_expiry_timestamp_seconds",
		Help: "When the certificate that is served now expires, in seconds since 1970; 0 while there is none.",
	}, func() float64 { return expiryOf(certificates) })
	trusted := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "agentlet_webhook_ca_bundle_in_sync",
		Help: "1 when the served certificate verifies against what the API server was told to trust, else 0.",
	}, func() float64 {
		if certificates.Trusted() != nil {
			return 0
		}
		return 1
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name:        "agentlet_webhook_build_info",
		Help:        "1, with the build's version in the labels.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.registry.MustRegister(m.admissions, m.duration, expiry, trusted, build,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// observe counts one answered request. The labels' values are the code's own words, never a pod's.
func (m *metrics) observe(found verdict, took time.Duration) {
	m.admissions.WithLabelValues(string(found.outcome), string(found.reason)).Inc()
	m.duration.Observe(took.Seconds())
}

func (m *metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{Registry: m.registry})
}

// expiryOf returns when the certificate that is served now expires, as a Unix time, or 0.
func expiryOf(certificates Certificates) float64 {
	certificate, err := certificates.GetCertificate(nil)
	if err != nil || certificate.Leaf == nil {
		return 0
	}
	return float64(certificate.Leaf.NotAfter.Unix())
}
