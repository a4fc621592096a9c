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

// lookAgain is the pause before what can't be served is looked at again: most of the time the bundle is about to be written.
const lookAgain = time.Second

// SecretConfig says where Secret finds what.
type SecretConfig struct {
	Client kubernetes.Interface
	// Namespace of the service and of the secret.
	Namespace string
	// Service that the API server calls.
	Service string
	// Secret with tls.crt and tls.key, and, with Keep, ca.crt.
	Secret string
	// Mutating is the MutatingWebhookConfiguration, and Validating the ValidatingWebhookConfiguration, that have to trust what
	// is served. Validating is empty where there is none.
	Mutating, Validating string
	// Keep has the caBundles kept equal to the secret's ca.crt; otherwise somebody else sees to them.
	Keep bool
	Log  *slog.Logger
}

// Secret serves a certificate that somebody else, such as cert-manager, keeps in a Secret. It follows the Secret itself and no
// volume of it, which the kubelet would bring up to date a minute later: by then the API server might trust another authority
// only. A new certificate is served once the API server was told to trust it.
type Secret struct {
	secret  *watchedSecret
	bundles bundles
	name    string
	log     *slog.Logger
	changed signal // something is to be looked at

	mu      sync.Mutex
	served  *tls.Certificate
	problem error // why what is in the secret is not served
}

// NewSecret returns a source that does nothing before Run.
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
	s.changed.raise() // no secret is no event
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.secret.Run(ctx) })
	group.Go(func() error { return s.bundles.Run(ctx) })
	group.Go(func() error {
		s.follow(ctx)
		return nil
	})
	return group.Wait()
}

// follow takes over what the Secret holds: at once where nothing is served yet, else once it has been trusted for settle.
func (s *Secret) follow(ctx context.Context) {
	var trusted *tls.Certificate // and not served yet, seen to be trusted first at since
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
		case next == nil: // it is served
			s.report(ctx, nil)
			trusted = nil
		case s.current() == nil, sameChain(trusted, next) && time.Since(since) >= propagationDelay:
			s.serve(ctx, next)
			trusted = nil
		default:
			if !sameChain(trusted, next) {
				trusted, since = next, time.Now()
			}
			again = time.After(propagationDelay - time.Since(since)) // an event may have come before that
		}
	}
}

// next returns the certificate in the Secret where it is to be served and is not yet.
func (s *Secret) next() (*tls.Certificate, error) {
	secret := s.secret.get()
	if secret == nil {
		return nil, fmt.Errorf("%s is not there", s.secret)
	}
	// The error of a key pair names neither of the two.
	pair, err := tls.X509KeyPair(secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey])
	if err != nil {
		return nil, fmt.Errorf("%s and %s of %s: %w", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, s.secret, err)
	}
	if sameChain(s.current(), &pair) {
		return nil, nil
	}
	return &pair, s.bundles.trusts(&pair, s.name)
}

// sameChain reports whether two certificates, of which the first may be nil, are the same, and those that come with them.
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

// report keeps a problem for Trusted, and logs it once.
func (s *Secret) report(ctx context.Context, problem error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if problem != nil && (s.problem == nil || s.problem.Error() != problem.Error()) {
		s.log.WarnContext(ctx, "the certificate in the secret is not served", "error", problem)
	}
	s.problem = problem
}

// GetCertificate returns what is served now; its signature is that of tls.Config.
func (s *Secret) GetCertificate(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if served := s.current(); served != nil {
		return served, nil
	}
	return nil, errors.New("no serving certificate yet")
}

// Trusted is nil when the certificate that is served now verifies, for the service's name, against the caBundle of every
// webhook of the mutating configuration, as the API server last showed it.
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
