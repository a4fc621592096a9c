package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/agentlet/agentlet/internal/pkitest"
)

const (
	testNamespace     = "agentlet-system"
	testService       = "agentlet"
	testSecret        = "agentlet-webhook-ca"
	testConfiguration = "agentlet"
)

var discard = slog.New(slog.DiscardHandler)

// year is how long a CA is valid.
const year = authorityDuration

// ca is a CA with its key.
type ca struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newCA(t testing.TB, name string, notBefore time.Time) *ca {
	t.Helper()
	certificate, key := pkitest.Sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, NotBefore: notBefore, NotAfter: notBefore.Add(year),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	return &ca{certificate: certificate, key: key}
}

func (c *ca) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.certificate.Raw})
}

func (c *ca) sign(template *x509.Certificate, public any) (*x509.Certificate, error) {
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, c.certificate, public, c.key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// secret is the Secret of the CA as sharedAuthority writes it.
func (c *ca) secret() *corev1.Secret {
	der, err := x509.MarshalPKCS8PrivateKey(c.key)
	if err != nil {
		panic(err) // a key that was generated
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: testSecret},
		Data: map[string][]byte{
			corev1.TLSCertKey: c.pem(), "ca.crt": c.pem(), corev1.TLSPrivateKeyKey: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
		},
	}
}

// mutatingWith returns a webhook configuration with a webhook for each bundle.
func mutatingWith(bundles ...[]byte) *admissionregistrationv1.MutatingWebhookConfiguration {
	configuration := &admissionregistrationv1.MutatingWebhookConfiguration{ObjectMeta: metav1.ObjectMeta{Name: testConfiguration}}
	for i, bundle := range bundles {
		configuration.Webhooks = append(configuration.Webhooks, admissionregistrationv1.MutatingWebhook{
			Name: string(rune('a'+i)) + ".agentlet.dev",
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				CABundle: bundle,
				Service:  &admissionregistrationv1.ServiceReference{Namespace: testNamespace, Name: testService},
			},
		})
	}
	return configuration
}

// validatingWith returns a configuration with one webhook that has the bundle.
func validatingWith(bundle []byte) *admissionregistrationv1.ValidatingWebhookConfiguration {
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: testConfiguration},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{{
			Name: "workloads.agentlet.dev", ClientConfig: admissionregistrationv1.WebhookClientConfig{CABundle: bundle},
		}},
	}
}

// cluster is a fake API server.
type cluster struct {
	*fake.Clientset
	t testing.TB
}

func newCluster(t testing.TB, objects ...runtime.Object) *cluster {
	return &cluster{Clientset: fake.NewClientset(objects...), t: t}
}

// bundles of the configuration, webhook by webhook.
func (c *cluster) bundles() [][]byte {
	c.t.Helper()
	got, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(c.t.Context(), testConfiguration, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	var bundles [][]byte
	for _, webhook := range got.Webhooks {
		bundles = append(bundles, webhook.ClientConfig.CABundle)
	}
	return bundles
}

// replace the configuration.
func (c *cluster) replace(configuration *admissionregistrationv1.MutatingWebhookConfiguration) {
	c.t.Helper()
	if _, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().
		Update(c.t.Context(), configuration, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// validatingBundle is the bundle of the validating configuration.
func (c *cluster) validatingBundle() []byte {
	c.t.Helper()
	got, err := c.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(c.t.Context(), testConfiguration, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return got.Webhooks[0].ClientConfig.CABundle
}

// replaceValidating replaces the validating configuration.
func (c *cluster) replaceValidating(configuration *admissionregistrationv1.ValidatingWebhookConfiguration) {
	c.t.Helper()
	if _, err := c.AdmissionregistrationV1().ValidatingWebhookConfigurations().
		Update(c.t.Context(), configuration, metav1.UpdateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// patches counts the attempts to write the bundle.
func (c *cluster) patches() (n int) {
	for _, action := range c.Actions() {
		if action.GetVerb() == "patch" {
			n++
		}
	}
	return n
}

// rotate replaces the CA in the Secret.
func (c *cluster) rotate(next *ca) {
	c.t.Helper()
	c.write(next.secret())
}

// write replaces the Secret, or creates it.
func (c *cluster) write(secret *corev1.Secret) {
	c.t.Helper()
	secrets := c.CoreV1().Secrets(testNamespace)
	if _, err := secrets.Update(c.t.Context(), secret, metav1.UpdateOptions{}); err == nil {
		return
	}
	if _, err := secrets.Create(c.t.Context(), secret, metav1.CreateOptions{}); err != nil {
		c.t.Fatal(err)
	}
}

// authority is the CA's certificate in the Secret.
func (c *cluster) authority() []byte {
	c.t.Helper()
	secret, err := c.CoreV1().Secrets(testNamespace).Get(c.t.Context(), testSecret, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return secret.Data[corev1.TLSCertKey]
}

// background runs a function until stop is called.
func background(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// together runs functions as one source's Run does.
func together(ctx context.Context, runs ...func(context.Context) error) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range runs {
		group.Go(func() error { return run(ctx) })
	}
	return group.Wait()
}
