package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
)

// lookAgain is the pause before a certificate that can't be served yet is checked again. Usually the bundle is about to be
// written.
const lookAgain = time.Second

// SecretConfig of a Secret.
type SecretConfig struct {
	Client kubernetes.Interface
	// Namespace of the service and of the Secret.
	Namespace string
	// Service that the API server calls.
	Service string
	// Secret with tls.crt and tls.key, and, with Keep, ca.crt.
	Secret string
	// Mutating is the MutatingWebhookConfiguration, and Validating the ValidatingWebhookConfiguration, that have to trust the
	// certificate. Validating is empty where there is none.
	Mutating, Validating string
	// Keep the caBundles equal to the Secret's ca.crt; otherwise another program writes them.
	Keep bool
	Log  *slog.Logger
}

// Secret serves a certificate that another program, such as cert-manager, keeps in a Secret. It watches the Secret, because the
// kubelet updates a mounted one up to a minute later, when the API server may trust only another CA. A new certificate is
// served once the caBundle trusts it.
type Secret struct {
	secret  *watchedSecret
	bundles bundles
	name    string
	log     *slog.Logger
	changed signal // there is something to check

	mu      sync.Mutex
	served  *tls.Certificate
	problem error // why the certificate in the Secret is not served
}

// NewSecret returns a source that works from Run on.
func NewSecret(config SecretConfig) *Secret {
	secret := newWatchedSecret(config.Client, config.Namespace, config.Secret)
	return &Secret{
		secret: secret,
		bundles: newBundles(bundleConfig{client: config.Client, secret: secret, key: caKey, readOnly: !config.Keep, log: config.Log},
			config.Mutating, config.Validating),
		name: ServerName(config.Service, config.Namespace), log: config.Log, changed: newSignal(),
	}
}

// Run follows the Secret until the context ends.
func (s *Secret) Run(ctx context.Context) error {
	if err := s.changed.on(s.secret.informer); err != nil {
		return fmt.Errorf("watch the certificate's secret: %w", err)
	}
	s.changed.raise() // a missing Secret causes no event
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.secret.Run(ctx) })
	group.Go(func() error { return s.bundles.Run(ctx) })
	group.Go(func() error {
		s.follow(ctx)
		return nil
	})
	return group.Wait()
}

// follow takes over the Secret's certificate: at once where none is served yet, else once it has been trusted for
// propagationDelay.
func (s *Secret) follow(ctx context.Context) {
	var trusted *tls.Certificate // but not served yet; first observed so at since
	var since time.Time
	var again <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.changed:
		case <-again:
		}
		again = nil
		next, err := s.next()
		switch {
		case err != nil:
			s.report(ctx, err)
			trusted, again = nil, time.After(lookAgain)
		case next == nil: // it is served already
			s.report(ctx, nil)
			trusted = nil
		case s.current() == nil, sameChain(trusted, next) && time.Since(since) >= propagationDelay:
			s.serve(ctx, next)
			trusted = nil
		default:
			if !sameChain(trusted, next) {
				trusted, since = next, time.Now()
			}
			again = time.After(propagationDelay - time.Since(since)) // an event may come before that
		}
	}
}

// next returns the certificate in the Secret, or nil where it is served already.
func (s *Secret) next() (*tls.Certificate, error) {
	secret := s.secret.get()
	if secret == nil {
		return nil, fmt.Errorf("%s is not there", s.secret)
	}
	// The error shows neither the certificate nor the key.
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("%s and %s of %s: %w", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, s.secret, err)
	}
	if sameChain(s.current(), &pair) {
		return nil, nil
	}
	return &pair, s.bundles.trusts(&pair, s.name)
}

// sameChain reports whether two chains of certificates are equal. a may be nil.
func sameChain(a, b *tls.Certificate) bool {
	return a != nil && slices.EqualFunc(a.Certificate, b.Certificate, bytes.Equal)
}

func (s *Secret) current() *tls.Certificate {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.served
}

func (s *Secret) serve(ctx context.Context, certificate *tls.Certificate) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.served, s.problem = certificate, nil
	if leaf, err := leafOf(certificate); err == nil {
		s.log.InfoContext(ctx, "serving another certificate", "secret", s.secret.name, "until", leaf.NotAfter)
	}
}

// report keeps a problem for Trusted, and logs it when it is new.
func (s *Secret) report(ctx context.Context, problem error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if problem != nil && (s.problem == nil || s.problem.Error() != problem.Error()) {
		s.log.WarnContext(ctx, "the certificate in the secret is not served", "error", problem)
	}
	s.problem = problem
}

// GetCertificate returns the current certificate; its signature is that of tls.Config.
func (s *Secret) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if served := s.current(); served != nil {
		return served, nil
	}
	return nil, errors.New("no serving certificate yet")
}

// Trusted is nil when the serving certificate verifies, for the service's name, against the caBundle of every webhook of the
// mutating configuration, as observed last.
func (s *Secret) Trusted() error {
	if served := s.current(); served != nil {
		return s.bundles.mutating.trusts(served, s.name, time.Now())
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.problem == nil:
		return fmt.Errorf("no serving certificate: %s is not read yet", s.secret)
	case !s.bundles.mutating.readOnly && len(s.bundles.mutating.authority()) == 0:
		return fmt.Errorf("no serving certificate: %w; the secret's %s, which the API server would be told to trust, is empty",
			s.problem, caKey)
	default:
		return fmt.Errorf("no serving certificate: %w", s.problem)
	}
}
