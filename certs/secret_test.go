package certs

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
)

// brought is a Secret with a certificate that the CA has signed.
func brought(t *testing.T, by *ca) *corev1.Secret {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := by.sign(&x509.Certificate{
		DNSNames: []string{ServerName(testService, testNamespace)}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: testNamespace, Name: testSecret},
		Data: map[string][]byte{
			"tls.crt": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}),
			"tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
			"ca.crt":  by.pem(),
		},
	}
}

func testSecretSource(c *cluster, keep bool) *Secret {
	return NewSecret(SecretConfig{
		Client: c, Namespace: testNamespace, Service: testService, Secret: testSecret, Mutating: testConfiguration, Keep: keep, Log: discard,
	})
}

// serves names the issuer of the serving certificate; empty for none.
func serves(t *testing.T, s *Secret) string {
	t.Helper()
	certificate, err := s.GetCertificate(nil)
	if err != nil {
		return ""
	}
	leaf, err := leafOf(certificate)
	if err != nil {
		t.Fatal(err)
	}
	return leaf.Issuer.CommonName
}

func TestSecretIsServedOnceItIsTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, mutatingWith(nil))
		s := testSecretSource(c, true)
		defer background(t, s.Run)()
		time.Sleep(time.Minute)
		if err := s.Trusted(); serves(t, s) != "" || err == nil || !strings.Contains(err.Error(), "is not there") {
			t.Errorf("without a secret: %v", err)
		}
		first := newCA(t, "first", time.Now().Add(-year/2))
		c.write(brought(t, first))
		time.Sleep(2 * lookAgain)
		if err := s.Trusted(); serves(t, s) != "first" || err != nil {
			t.Errorf("served: %q, %v", serves(t, s), err)
		}
		if !bytes.Equal(c.bundles()[0], first.pem()) {
			t.Errorf("bundle: %s", c.bundles()[0])
		}
	})
}

func TestSecretWithAnotherCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		// The new CA is older, which must not matter.
		first, second := newCA(t, "first", time.Now()), newCA(t, "second", time.Now().Add(-year/2))
		c := newCluster(t, mutatingWith(nil), brought(t, first))
		s, other := testSecretSource(c, true), testSecretSource(c, true)
		defer background(t, s.Run)()
		defer background(t, other.Run)()
		time.Sleep(time.Minute)
		next := brought(t, second)
		c.write(next)
		const sample = 100 * time.Millisecond
		var told time.Time // when the bundle held the new CA: after the sample before the first that shows it
		for step := range 100 {
			time.Sleep(sample)
			if told.IsZero() && len(parseBundle(c.bundles()[0])) == 2 {
				told = time.Now().Add(-sample)
			}
			if step%5 == 0 { // each change of the Secret is an event, also one of its labels
				next.Labels = map[string]string{"step": strconv.Itoa(step)}
				c.write(next)
			}
			if serves(t, s) != "first" && (told.IsZero() || time.Since(told) < propagationDelay) {
				t.Fatalf("the new certificate was served %s after the bundle held its authority", time.Since(told))
			}
			if err := s.Trusted(); err != nil {
				t.Fatalf("not trusted in between: %v", err)
			}
		}
		if serves(t, s) != "second" || serves(t, other) != "second" {
			t.Errorf("served: %q and %q", serves(t, s), serves(t, other))
		}
		time.Sleep(2*strangerFor + resync)
		if !bytes.Equal(c.bundles()[0], second.pem()) {
			t.Errorf("the former authority stays: %d", len(parseBundle(c.bundles()[0])))
		}
		if n := c.patches(); n > 8 {
			t.Errorf("%d patches", n)
		}
	})
}

func TestSecretThatCannotBeServed(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*corev1.Secret)
		says   string
	}{
		"no key":         {func(s *corev1.Secret) { delete(s.Data, "tls.key") }, "tls.crt and tls.key of secret agentlet-system/agentlet-webhook-ca"},
		"another's key":  {func(s *corev1.Secret) { s.Data["tls.key"] = []byte("x") }, "tls.crt and tls.key"},
		"no authority":   {func(s *corev1.Secret) { delete(s.Data, "ca.crt") }, "ca.crt, which the API server would be told to trust, is empty"},
		"another's":      {func(s *corev1.Secret) { s.Data["ca.crt"] = newCA(t, "x", time.Now()).pem() }, "verify serving certificate against webhook"},
		"no certificate": {func(s *corev1.Secret) { s.Data["ca.crt"] = []byte("x") }, "the ca.crt of secret agentlet-system/agentlet-webhook-ca holds no certificate"},
	} {
		for _, served := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				authority := newCA(t, "any", time.Now())
				bad := brought(t, authority)
				test.change(bad)
				objects := []runtime.Object{mutatingWith(nil)}
				if served {
					objects = append(objects, brought(t, authority))
				}
				c := newCluster(t, objects...)
				s := testSecretSource(c, true)
				defer background(t, s.Run)()
				time.Sleep(time.Minute)
				c.write(bad)
				time.Sleep(time.Minute)
				err := s.Trusted()
				if served && (serves(t, s) != "any" || err != nil) {
					t.Errorf("%s: the last good one is not served: %v", name, err)
				}
				if !served && (serves(t, s) != "" || err == nil || !strings.Contains(err.Error(), test.says)) {
					t.Errorf("%s: %v, want %q", name, err, test.says)
				}
			})
		}
	}
}

func TestSecretWithAForeignBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := newCA(t, "any", time.Now())
		secret := brought(t, authority)
		delete(secret.Data, "ca.crt")
		c := newCluster(t, mutatingWith(nil), secret)
		s := testSecretSource(c, false)
		defer background(t, s.Run)()
		time.Sleep(time.Minute)
		if err := s.Trusted(); serves(t, s) != "" || err == nil || !strings.Contains(err.Error(), "the CA bundle holds no certificate") {
			t.Errorf("before the bundle: %v", err)
		}
		c.replace(mutatingWith(authority.pem()))
		time.Sleep(2 * propagationDelay)
		if err := s.Trusted(); serves(t, s) != "any" || err != nil {
			t.Errorf("with the bundle: %v", err)
		}
		if n := c.patches(); n != 0 {
			t.Errorf("%d patches", n)
		}
	})
}

// During a rollout from one source of certificates to another, replicas of both run. The bundle has to trust both.
func TestRolloutBetweenSources(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs := newCA(t, "agentlet-webhook", time.Now().Add(-year/2))
		secret := brought(t, theirs)
		secret.Name = "theirs"
		c := newCluster(t, mutatingWith(nil), secret)
		self, follower := testSelf(c), NewSecret(SecretConfig{
			Client: c, Namespace: testNamespace, Service: testService, Secret: secret.Name, Mutating: testConfiguration, Keep: true, Log: discard,
		})
		sources := map[string]interface {
			Run(context.Context) error
			Trusted() error
		}{"self": self, "secret": follower}
		both := func(of time.Duration) {
			t.Helper()
			for end := time.Now().Add(of); time.Now().Before(end); time.Sleep(time.Second) {
				for name, source := range sources {
					if err := source.Trusted(); err != nil {
						t.Fatalf("%s: %v", name, err)
					}
				}
			}
		}
		stopSelf := background(t, self.Run)
		time.Sleep(strangerFor + 2*propagationDelay)
		stopFollower := background(t, follower.Run) // self → secret
		time.Sleep(2 * propagationDelay)
		before := c.patches()
		both(strangerFor - time.Minute)
		if n := c.patches() - before; n > 0 {
			t.Errorf("%d patches while both are there", n)
		}
		stopSelf()
		time.Sleep(strangerFor + 2*resync)
		if got := c.bundles()[0]; !bytes.Equal(got, theirs.pem()) {
			t.Errorf("after the first one's end: %d authorities", len(parseBundle(got)))
		}
		self = testSelf(c)
		sources["self"] = self
		stopSelf = background(t, self.Run) // and back
		time.Sleep(2 * propagationDelay)
		both(strangerFor - time.Minute)
		stopFollower()
		time.Sleep(strangerFor + 2*resync)
		if got := c.bundles()[0]; !bytes.Equal(got, c.authority()) {
			t.Errorf("after the second one's end: %d authorities", len(parseBundle(got)))
		}
		stopSelf()
	})
}
