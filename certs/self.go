package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"time"

	servertls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"github.com/go-logr/logr"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// SelfConfig of a Self.
type SelfConfig struct {
	// REST reaches the API server.
	REST *rest.Config
	// Namespace of the service and of the CA's Secret.
	Namespace string
	// Service that the API server calls.
	Service string
	// Secret of the CA. It is created where it is missing.
	Secret string
	// Mutating is the MutatingWebhookConfiguration, and Validating the ValidatingWebhookConfiguration, whose caBundles are
	// written. Validating is empty where there is none.
	Mutating, Validating string
	Log                  *slog.Logger
}

// Self serves certificates that its own CA has signed. The CA is in a Secret that all replicas share. The first replica creates
// it, and the others follow it, also when it is replaced.
type Self struct {
	source  *servertls.DynamicSource
	secret  *watchedSecret
	bundles bundles

	name string
	log  *slog.Logger
}

// NewSelf returns a source that works from Run on.
func NewSelf(config SelfConfig) (*Self, error) {
	client, err := kubernetes.NewForConfig(config.REST)
	if err != nil {
		return nil, fmt.Errorf("create kubernetes client: %w", err)
	}
	return newSelf(config, client), nil
}

func newSelf(config SelfConfig, client kubernetes.Interface) *Self {
	secret := newWatchedSecret(client, config.Namespace, config.Secret)
	s := &Self{
		secret: secret,
		bundles: newBundles(bundleConfig{client: client, secret: secret, key: corev1.TLSCertKey, ours: true, log: config.Log},
			config.Mutating, config.Validating),
		name: ServerName(config.Service, config.Namespace),
		log:  config.Log,
	}
	s.source = &servertls.DynamicSource{
		DNSNames: []string{s.name},
		Authority: &trustedAuthority{
			Authority: &sharedAuthority{client: client, secret: secret, log: config.Log},
			trusted:   s.wouldTrust, served: s.Trusted,
		},
	}
	return s
}

// Run keeps the certificate and the bundles up to date until the context ends.
func (s *Self) Run(ctx context.Context) error {
	ctx = logr.NewContext(ctx, logr.FromSlogHandler(s.log.Handler()))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.secret.Run(ctx) })
	group.Go(func() error { return s.bundles.Run(ctx) })
	group.Go(func() error {
		if err := s.source.Start(ctx); err != nil {
			return fmt.Errorf("run certificate source: %w", err)
		}
		return nil
	})
	return group.Wait()
}

// GetCertificate returns the current certificate; its signature is that of tls.Config.
func (s *Self) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.source.GetCertificate(hello)
}

// Trusted is nil when the serving certificate verifies, for the service's name, against the caBundle of every webhook of the
// mutating configuration, as observed last. The validating configuration doesn't count: pods can be created without it, but
// not while the webhook is unready.
func (s *Self) Trusted() error {
	if certificate, err := s.GetCertificate(nil); err == nil {
		return s.bundles.mutating.trusts(certificate, s.name, time.Now())
	}
	bundle := s.bundles.mutating
	if len(bundle.authority()) == 0 {
		return fmt.Errorf("no serving certificate: %s with the authority is not there yet", s.secret)
	}
	// A missing certificate waits for the bundle, so report what is wrong with the bundle.
	hooks, err := bundle.hooks()
	if err != nil {
		return fmt.Errorf("no serving certificate: %w", err)
	}
	for _, hook := range hooks {
		if len(hook.caBundle) == 0 {
			return errors.Join(fmt.Errorf("no serving certificate: webhook %s has no caBundle yet", hook.name), bundle.lastError())
		}
	}
	return errors.New("no serving certificate: it is not signed yet")
}

// wouldTrust is nil when the API server would accept the certificate.
func (s *Self) wouldTrust(certificate *x509.Certificate) error {
	return s.bundles.trusts(&tls.Certificate{Certificate: [][]byte{certificate.Raw}, Leaf: certificate}, s.name)
}

// propagationDelay is how long a bundle has to hold a new CA before that CA signs. Each of several API servers learns of the
// bundle by its own watch, some a moment later than the one that this replica is connected to.
const propagationDelay = 3 * time.Second

// trustedAuthority signs only with a CA that the caBundle trusts. When the CA is replaced, the certificate of its predecessor
// is served until the bundle holds the new one, so that no call fails meanwhile.
type trustedAuthority struct {
	servertls.Authority
	trusted func(*x509.Certificate) error
	served  func() error // nil while the API server trusts the serving certificate

	issuer []byte    // the key of the CA that signed last
	since  time.Time // when it was first observed to be trusted
}

// Sign returns ErrCertificateNotAvailable, after which the source asks again, as long as the new certificate isn't trusted, or
// isn't trusted by all API servers yet while the serving one still is. Only the source's goroutine calls it.
func (a *trustedAuthority) Sign(template *x509.Certificate) (*x509.Certificate, error) {
	certificate, err := a.Authority.Sign(template)
	if err != nil {
		return nil, err
	}
	if err := a.trusted(certificate); err != nil {
		a.issuer = nil
		return nil, fmt.Errorf("%w: %w", authority.ErrCertificateNotAvailable, err)
	}
	if !bytes.Equal(a.issuer, certificate.AuthorityKeyId) {
		a.issuer, a.since = certificate.AuthorityKeyId, time.Now()
	}
	if time.Since(a.since) < propagationDelay && a.served() == nil {
		return nil, fmt.Errorf("%w: the CA bundle holds its authority since a moment ago", authority.ErrCertificateNotAvailable)
	}
	return certificate, nil
}
