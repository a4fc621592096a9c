// Package webhook serves the admission webhooks over TLS: an AdmissionReview in, a JSON patch or a denial out. Health and
// metrics have a port of their own. One webhook adds agentlets to pods, the other validates the templates of workloads. The
// injector decides on pods. This package transports requests and answers, so that no malformed request becomes a panic or a
// wrong answer.
package webhook

import (
	"context"
	"crypto/tls"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/injector"
)

// Paths of the two servers.
const (
	MutatePath   = "/mutate"   // pods
	ValidatePath = "/validate" // workloads
	LivezPath    = "/livez"
	ReadyzPath   = "/readyz"
	MetricsPath  = "/metrics"
)

// Decider decides on one pod. It is called concurrently.
type Decider interface {
	Decide(request injector.Request) injector.Decision
}

// Platform is what the Decider has to learn of the cluster first.
type Platform interface {
	// Ready is nil once it is known. Until then there is no decision, and the API server's failurePolicy applies. /readyz shows
	// the error.
	Ready() error
}

// Namespaces has the namespaces at admission. It is called concurrently.
type Namespaces interface {
	// Get returns a namespace with the annotations and labels that the injector reads, to be read only. It returns at once; where
	// the namespace isn't in memory, known is false.
	Get(namespace string) (found *corev1.Namespace, known bool)
	// Ask fetches the same in bounded time. After an error there is no decision, and the API server's failurePolicy applies.
	Ask(ctx context.Context, namespace string) (*corev1.Namespace, error)
	// Ready is nil once the namespaces are known. /readyz shows the error.
	Ready() error
}

// Certificates provides the serving certificate.
type Certificates interface {
	// GetCertificate returns the current certificate, or an error as long as there is none.
	GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error)
	// Trusted is nil when the serving certificate verifies against the caBundle that the API server has. The error says what
	// is missing. /readyz shows it, so it holds no secret.
	Trusted() error
}

// Grants gives injected pods the permission to patch their gates.
type Grants interface {
	// Ready is nil when new pods get what they need. The error says what is missing, and /readyz shows it.
	Ready() error
	prometheus.Collector
}
