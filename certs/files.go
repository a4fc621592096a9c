package certs

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"time"

	servertls "github.com/cert-manager/cert-manager/pkg/server/tls"
	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
)

// caFile is the file beside the certificate that holds what the API server was told to trust, as cert-manager writes it.
const caFile = "ca.crt"

// Files serves tls.crt and tls.key of a folder, and reads them again every ten seconds.
type Files struct {
	source *servertls.FileCertificateSource
	folder string
	name   string
	log    *slog.Logger
}

// NewFiles returns a source for the folder. The API server asks for name (see ServerName).
func NewFiles(folder, name string, log *slog.Logger) *Files {
	return &Files{
		source: &servertls.FileCertificateSource{
			CertPath: filepath.Join(folder, corev1.TLSCertKey),
			KeyPath:  filepath.Join(folder, corev1.TLSPrivateKeyKey),
			// The source counts failures over its whole life. One that cannot be read now leaves the last good
			// certificate in place, which is better than an exit; Trusted tells when it has expired.
			MaxFailures: math.MaxInt,
		},
		folder: folder, name: name, log: log,
	}
}

// Run reads the files until the context ends.
func (f *Files) Run(ctx context.Context) error {
	ctx = logr.NewContext(ctx, logr.FromSlogHandler(f.log.Handler()))
	if err := f.source.Start(ctx); err != nil {
		return fmt.Errorf("read certificate files: %w", err)
	}
	return nil
}

// GetCertificate returns what is served now; its signature is that of tls.Config.
func (f *Files) GetCertificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	return f.source.GetCertificate(hello)
}

// Trusted is nil when the certificate that is served now is valid for the service's name and, where ca.crt stands beside
// it, verifies against that. Without ca.crt nobody here knows what the API server was told to trust.
func (f *Files) Trusted() error {
	certificate, err := f.GetCertificate(nil)
	if err != nil {
		return fmt.Errorf("no serving certificate: %s and %s of %s are not read yet",
			corev1.TLSCertKey, corev1.TLSPrivateKeyKey, f.folder)
	}
	now := time.Now()
	bundle, err := os.ReadFile(filepath.Join(f.folder, caFile))
	if errors.Is(err, fs.ErrNotExist) {
		return validFor(certificate, f.name, now)
	}
	if err != nil {
		return fmt.Errorf("read %s: %w", caFile, err)
	}
	if err := verify(certificate, f.name, bundle, now); err != nil {
		return fmt.Errorf("verify serving certificate against %s: %w", caFile, err)
	}
	return nil
}

// validFor says what can be said of a certificate without knowing who is trusted: its name and its time.
func validFor(certificate *tls.Certificate, name string, now time.Time) error {
	leaf, err := leafOf(certificate)
	if err != nil {
		return err
	}
	if now.Before(leaf.NotBefore) || now.After(leaf.NotAfter) {
		return fmt.Errorf("the serving certificate is valid from %s to %s only",
			leaf.NotBefore.Format(time.RFC3339), leaf.NotAfter.Format(time.RFC3339))
	}
	if err := leaf.VerifyHostname(name); err != nil {
		return fmt.Errorf("verify name of serving certificate: %w", err)
	}
	return nil
}
