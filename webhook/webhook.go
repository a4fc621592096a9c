// Package webhook is the admission webhooks as the API server sees them: AdmissionReview in, JSON patch or denial out, over
// TLS, with health and metrics on a port of their own. One adds agentlets to pods, the other judges the templates of
// workloads. What happens to a pod is the injector's business; this package carries the question and the answer and lets no
// malformed question become a panic or a wrong answer.
package webhook

import (
	"context"
	"crypto/tls"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/agentlet/agentlet/injector"
)

// Paths of the two servers.
const (
	MutatePath   = "/mutate"   // pods
	ValidatePath = "/validate" // what makes pods
	LivezPath    = "/livez"
	ReadyzPath   = "/readyz"
	MetricsPath  = "/metrics"
)

// Decider judges one pod. It is called concurrently.
type Decider interface {
	Decide(request injector.Request) injector.Decision
}

// Namespaces is what is known of the namespaces of pods at admission. It is called concurrently.
type Namespaces interface {
	// Annotations returns those of the namespace's annotations that are the contract's, to be read only. It waits for nothing;
	// known is false where somebody has to be asked.
	Annotations(namespace string) (annotations map[string]string, known bool)
	// Ask returns the same, in bounded time, or an error: then nothing is decided, and the API server's failurePolicy applies.
	Ask(ctx context.Context, namespace string) (annotations map[string]string, err error)
	// Ready is nil once namespaces are known. The error is shown to whoever asks for readiness.
	Ready() error
}

// Certificates is where the serving certificate comes from.
type Certificates interface {
	// GetCertificate returns what is to be served now, or an error as long as there is nothing.
	GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error)
	// Trusted is nil when the certificate that is served now verifies against what the API server was told to trust. The
	// error says which part is missing; it is shown to whoever asks for readiness and holds no secret.
	Trusted() error
}

// Grants sees to it that injected pods may write their gates.
type Grants interface {
	// Ready is nil when new pods are granted what they need. The error says what is missing; it is shown to whoever asks for
	// readiness.
	Ready() error
	prometheus.Collector
}
