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

// SelfConfig says where Self keeps what.
type SelfConfig struct {
	// REST reaches the API server.
	REST *rest.Config
	// Namespace of the service and of the authority's secret.
	Namespace string
	// Service that the API server calls.
	Service string
	// Secret of the authority; it is created where it is missing.
	Secret string
	// Mutating is the MutatingWebhookConfiguration, and Validating the ValidatingWebhookConfiguration, whose caBundles are
	// kept. Validating is empty where there is none.
	Mutating, Validating string
	Log                  *slog.Logger
}

// Self serves certificates that an authority of its own has signed. The authority lives in a Secret, which all replicas
// share; whoever comes first creates it, and the others follow it, also when it is replaced.
type Self struct {
	source  *servertls.DynamicSource
	secret  *watchedSecret
	bundles bundles

	name string
	log  *slog.Logger
}

// NewSelf returns a source that does nothing before Run.
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

// Run keeps the certificate and the bundles until the context ends.
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

// GetCertificate returns what is served now; its signature is that of tls.Config.
func (s *Self) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return s.source.GetCertificate(hello)
}

// Trusted is nil when the certificate that is served now verifies, for the service's name, against the caBundle of every
// webhook of the mutating configuration, as the API server last showed it. The validating one is not asked: pods can be
// created without it, and not where the webhook is not ready.
func (s *Self) Trusted() error {
	if certificate, err := s.GetCertificate(nil); err == nil {
		return s.bundles.mutating.trusts(certificate, s.name, time.Now())
	}
	bundle := s.bundles.mutating
	if len(bundle.authority()) == 0 {
		return fmt.Errorf("no serving certificate: %s with the authority is not there yet", s.secret)
	}
	// Without a certificate the bundle is what it waits for: say what is wrong with that.
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

// propagationDelay is how long a bundle has to hold a new authority before that signs. Each API server of several hears
// of the bundle by a watch of its own, some a moment later than the one that this replica watches.
const propagationDelay = 3 * time.Second

// trustedAuthority signs only what the API server was told to trust. When the authority is replaced, the certificate
// of its predecessor is served until the bundle holds the new one: no call fails in between.
type trustedAuthority struct {
	servertls.Authority
	trusted func(*x509.Certificate) error
	served  func() error // nil while the API server trusts what is served now

	issuer []byte    // the key of the authority that signed last
	since  time.Time // when it was first seen to be trusted
}

// Sign returns ErrCertificateNotAvailable, upon which the source asks again, as long as the signed certificate would not
// be trusted, or not by everybody yet while what is served still is. It is called by one goroutine, the source's.
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
