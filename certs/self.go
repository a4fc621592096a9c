package certs

import (
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
	// Configuration is the MutatingWebhookConfiguration whose caBundles are kept.
	Configuration string
	Log           *slog.Logger
}

// Self serves certificates that an authority of its own has signed. The authority lives in a Secret, which all replicas
// share; whoever comes first creates it, and the others follow it, also when it is replaced.
type Self struct {
	source *servertls.DynamicSource
	bundle *bundle
	name   string
	log    *slog.Logger
}

// NewSelf returns a source that does nothing before Run.
func NewSelf(config SelfConfig) (*Self, error) {
	client, err := kubernetes.NewForConfig(config.REST)
	if err != nil {
		return nil, fmt.Errorf("create kubernetes client: %w", err)
	}
	return newSelf(config, client, &authority.DynamicAuthority{
		SecretNamespace: config.Namespace,
		SecretName:      config.Secret,
		SecretLabels:    map[string]string{"app.kubernetes.io/managed-by": fieldManager},
		RESTConfig:      config.REST,
		CommonName:      authorityName,
		LeafDuration:    leafDuration,
	}), nil
}

func newSelf(config SelfConfig, client kubernetes.Interface, signer servertls.Authority) *Self {
	s := &Self{
		bundle: newBundle(client, config.Configuration, config.Namespace, config.Secret, config.Log),
		name:   ServerName(config.Service, config.Namespace),
		log:    config.Log,
	}
	s.source = &servertls.DynamicSource{
		DNSNames:  []string{s.name},
		Authority: &trustedAuthority{Authority: signer, trusted: s.wouldTrust},
	}
	return s
}

// Run keeps the certificate and the bundles until the context ends.
func (s *Self) Run(ctx context.Context) error {
	ctx = logr.NewContext(ctx, logr.FromSlogHandler(s.log.Handler()))
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return s.bundle.Run(ctx) })
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
// webhook of the configuration, as the API server last showed it.
func (s *Self) Trusted() error {
	if certificate, err := s.GetCertificate(nil); err == nil {
		return s.bundle.trusts(certificate, s.name, time.Now())
	}
	if len(s.bundle.authority()) == 0 {
		return fmt.Errorf("no serving certificate: secret %s/%s with the authority is not there yet",
			s.bundle.namespace, s.bundle.secret)
	}
	// Without a certificate the bundle is what it waits for: say what is wrong with that.
	webhooks, err := s.bundle.webhooks()
	if err != nil {
		return fmt.Errorf("no serving certificate: %w", err)
	}
	for _, webhook := range webhooks {
		if len(webhook.ClientConfig.CABundle) == 0 {
			return errors.Join(fmt.Errorf("no serving certificate: webhook %s has no caBundle yet", webhook.Name), s.bundle.lastError())
		}
	}
	return errors.New("no serving certificate: it is not signed yet")
}

// wouldTrust is nil when the API server would accept the certificate.
func (s *Self) wouldTrust(certificate *x509.Certificate) error {
	return s.bundle.trusts(&tls.Certificate{Certificate: [][]byte{certificate.Raw}, Leaf: certificate}, s.name, time.Now())
}

// trustedAuthority signs only what the API server was told to trust. When the authority is replaced, the certificate
// of its predecessor is served until the bundle holds the new one: no call fails in between.
type trustedAuthority struct {
	servertls.Authority
	trusted func(*x509.Certificate) error
}

// Sign returns ErrCertificateNotAvailable, upon which the source asks again, as long as the signed certificate would not
// be trusted.
func (a *trustedAuthority) Sign(template *x509.Certificate) (*x509.Certificate, error) {
	certificate, err := a.Authority.Sign(template)
	if err != nil {
		return nil, err
	}
	if err := a.trusted(certificate); err != nil {
		return nil, fmt.Errorf("%w: %w", authority.ErrCertificateNotAvailable, err)
	}
	return certificate, nil
}
