package certs

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/cert-manager/cert-manager/pkg/server/tls/authority"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	// authorityDuration is how long a CA is valid. It is replaced when a third of that is left.
	authorityDuration = 365 * 24 * time.Hour
	// backdated is how long before its signature a certificate begins to be valid, because an API server whose clock is behind
	// would refuse one that begins now. A clock that is ahead does no harm: certificates are renewed hours before their end.
	backdated = time.Hour
	// authorityPoll is how often the Secret is checked without an event, because the renewal is due without one.
	// authorityRetry is the pause after a failure.
	authorityPoll  = time.Minute
	authorityRetry = 5 * time.Second
)

// sharedAuthority is a CA in a Secret. A replica that finds no usable one creates it; the others follow it, and what replaces
// it. It works as cert-manager's DynamicAuthority does, except that its certificates are backdated.
type sharedAuthority struct {
	client kubernetes.Interface
	secret *watchedSecret // the caller runs it
	log    *slog.Logger

	mu       sync.Mutex
	pair     keyPair
	current  *tls.Certificate // pair, parsed
	watchers []chan<- struct{}
}

// keyPair is a CA as in its Secret, in PEM.
type keyPair struct{ certificate, key []byte }

func (k keyPair) equal(other keyPair) bool {
	return bytes.Equal(k.certificate, other.certificate) && bytes.Equal(k.key, other.key)
}

// Run keeps a CA in the Secret until the context ends. Failures are logged and retried.
func (a *sharedAuthority) Run(ctx context.Context) error {
	changed := newSignal()
	if err := changed.on(a.secret.informer); err != nil {
		return fmt.Errorf("watch the authority's secret: %w", err)
	}
	if !cache.WaitForCacheSync(ctx.Done(), a.secret.informer.HasSynced) {
		return nil
	}
	repairs := newRepairs()
	for {
		pause := authorityPoll
		if err := a.sync(ctx, repairs); err != nil && ctx.Err() == nil {
			pause = authorityRetry
			a.log.WarnContext(ctx, "the authority is not kept", "secret", a.secret.key(), "error", err)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		case <-time.After(pause):
		}
	}
}

// sync takes over the CA in the Secret, as observed last, or writes a new one where it can't be used.
func (a *sharedAuthority) sync(ctx context.Context, repairs *rate.Limiter) error {
	secret := a.secret.get()
	pair, certificate, err := readAuthority(secret, time.Now())
	if err == nil {
		a.follow(pair, certificate)
		return nil
	}
	if !repairs.Allow() {
		return fmt.Errorf("%w; replaced too often to do it again now", err)
	}
	a.log.InfoContext(ctx, "a new authority is made", "secret", a.secret.key(), "reason", err)
	return a.write(ctx, secret)
}

// follow makes this the signing CA, and notifies the watchers.
func (a *sharedAuthority) follow(pair keyPair, certificate *tls.Certificate) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.pair.equal(pair) {
		return
	}
	a.pair, a.current = pair, certificate
	for _, watcher := range a.watchers {
		select {
		case watcher <- struct{}{}:
		default:
		}
	}
}

// write puts a new CA into the Secret in the version observed; nil: there was none. After a conflict it does nothing, because
// the other change causes an event.
func (a *sharedAuthority) write(ctx context.Context, seen *corev1.Secret) error {
	pair, err := newAuthority(time.Now())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	secrets := a.client.CoreV1().Secrets(a.secret.namespace)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{
		Namespace: a.secret.namespace, Name: a.secret.name, Labels: map[string]string{"app.kubernetes.io/managed-by": fieldManager},
	}}
	if seen != nil {
		secret = seen.DeepCopy()
	}
	if secret.Data == nil {
		secret.Data = map[string][]byte{}
	}
	secret.Data[corev1.TLSCertKey], secret.Data[caKey] = pair.certificate, pair.certificate
	secret.Data[corev1.TLSPrivateKeyKey] = pair.key
	if seen == nil {
		_, err = secrets.Create(ctx, secret, metav1.CreateOptions{FieldManager: fieldManager})
	} else {
		_, err = secrets.Update(ctx, secret, metav1.UpdateOptions{FieldManager: fieldManager})
	}
	if err == nil || apierrors.IsAlreadyExists(err) || apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return fmt.Errorf("write the authority's secret: %w", err)
}

// readAuthority returns the CA in a Secret, or an error that says why it has to be replaced.
func readAuthority(secret *corev1.Secret, now time.Time) (keyPair, *tls.Certificate, error) {
	if secret == nil {
		return keyPair{}, nil, errors.New("there is none")
	}
	pair := keyPair{secret.Data[corev1.TLSCertKey], secret.Data[corev1.TLSPrivateKeyKey]}
	if !bytes.Equal(pair.certificate, secret.Data[caKey]) {
		return keyPair{}, nil, fmt.Errorf("%s and %s differ", corev1.TLSCertKey, caKey)
	}
	certificate, err := tls.X509KeyPair(pair.certificate, pair.key)
	switch {
	case err != nil:
		return keyPair{}, nil, fmt.Errorf("it can't be read: %w", err)
	case !certificate.Leaf.IsCA:
		return keyPair{}, nil, errors.New("its certificate is no authority's")
	case certificate.Leaf.KeyUsage != 0 && certificate.Leaf.KeyUsage&x509.KeyUsageCertSign == 0:
		return keyPair{}, nil, errors.New("its certificate is for no signatures of certificates")
	case now.Before(certificate.Leaf.NotBefore):
		// It was created while a clock was ahead. No client would trust its signatures before that time.
		return keyPair{}, nil, fmt.Errorf("its certificate begins to be valid at %s only",
			certificate.Leaf.NotBefore.UTC().Format(time.DateTime))
	case certificate.Leaf.NotAfter.Sub(now) < certificate.Leaf.NotAfter.Sub(certificate.Leaf.NotBefore)/3:
		return keyPair{}, nil, errors.New("two thirds of its life are over")
	}
	return pair, &certificate, nil
}

// newAuthority creates a key and a self-signed certificate.
func newAuthority(now time.Time) (keyPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		return keyPair{}, fmt.Errorf("make the authority's key: %w", err)
	}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: authorityName}, NotBefore: now.Add(-backdated), NotAfter: now.Add(authorityDuration),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		return keyPair{}, fmt.Errorf("sign the authority: %w", err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return keyPair{}, fmt.Errorf("encode the authority's key: %w", err)
	}
	return keyPair{
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}),
		key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
	}, nil
}

// Sign signs a serving certificate for leafDuration.
func (a *sharedAuthority) Sign(template *x509.Certificate) (*x509.Certificate, error) {
	a.mu.Lock()
	current := a.current
	a.mu.Unlock()
	if current == nil {
		return nil, authority.ErrCertificateNotAvailable
	}
	signer, ok := current.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, errors.New("the authority's key can't sign")
	}
	now := time.Now()
	template.BasicConstraintsValid, template.IsCA = true, false
	template.NotBefore, template.NotAfter = now.Add(-backdated), now.Add(leafDuration)
	if end := current.Leaf.NotAfter; end.Before(template.NotAfter) {
		template.NotAfter = end
	}
	der, err := x509.CreateCertificate(rand.Reader, template, current.Leaf, template.PublicKey, signer)
	if err != nil {
		return nil, fmt.Errorf("sign serving certificate: %w", err)
	}
	return x509.ParseCertificate(der)
}

// WatchRotation notifies the channel of each change of the CA, unless the channel is full.
func (a *sharedAuthority) WatchRotation(watcher chan<- struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watchers = append(a.watchers, watcher)
}

// StopWatchingRotation undoes WatchRotation.
func (a *sharedAuthority) StopWatchingRotation(watcher chan<- struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.watchers = slices.DeleteFunc(a.watchers, func(w chan<- struct{}) bool { return w == watcher })
}
