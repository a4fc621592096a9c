package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	k8stesting "k8s.io/client-go/testing"
)

func testAuthority(c *cluster) *sharedAuthority {
	return &sharedAuthority{client: c, secret: newWatchedSecret(c, testNamespace, testSecret), log: discard}
}

// skew is how much the clocks of the API server and the webhook may differ.
const skew = 5 * time.Minute

// handshakes connects to the source as an API server whose clock differs by skew, once with each webhook's bundle.
func handshakes(t *testing.T, c *cluster, self *Self, skew time.Duration) error {
	t.Helper()
	// A pipe has no buffer, so that an alert blocks until the other side reads it.
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	for _, bundle := range c.bundles() {
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(bundle)
		here, there := net.Pipe()
		server := tls.Server(there, &tls.Config{GetCertificate: self.GetCertificate})
		done := make(chan error, 1)
		go func() { done <- server.HandshakeContext(ctx) }()
		client := tls.Client(here, &tls.Config{
			RootCAs: roots, ServerName: self.name, Time: func() time.Time { return time.Now().Add(skew) },
		})
		err := client.HandshakeContext(ctx)
		err = errors.Join(err, here.Close(), there.Close())
		<-done
		if err != nil {
			return err
		}
	}
	return nil
}

// An API server whose clock differs by up to five minutes accepts all certificates, from the first one through all renewals of
// certificates and of the CA.
func TestDifferentClocksAreTolerated(t *testing.T) {
	aged := func(age time.Duration) func(t *testing.T) *ca {
		return func(t *testing.T) *ca { return newCA(t, authorityName, time.Now().Add(-age)) }
	}
	for name, test := range map[string]struct {
		found       func(t *testing.T) *ca // nil: none
		goes        bool                   // the Secret is deleted after an hour
		authorities int
	}{
		"first install":                 {nil, false, 1},
		"the secret is deleted":         {nil, true, 2},
		"two thirds of a life are over": {aged(authorityDuration*2/3 - time.Hour), false, 2},
		"an authority of a while ago":   {aged(2 * backdated), false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, mutatingWith(nil))
				if test.found != nil {
					c.rotate(test.found(t))
				}
				replicas := []*Self{testSelf(c), testSelf(c)}
				for _, self := range replicas {
					defer background(t, self.Run)()
				}
				time.Sleep(5 * time.Second)
				began, greeted, authorities := time.Now(), map[string]time.Time{}, map[string]bool{}
				for step := time.Minute; time.Since(began) < 34*time.Hour; time.Sleep(step) {
					if test.goes && step == time.Minute && time.Since(began) > time.Hour {
						step = 200 * time.Millisecond
						if err := c.CoreV1().Secrets(testNamespace).Delete(t.Context(), testSecret, metav1.DeleteOptions{}); err != nil {
							t.Fatal(err)
						}
						continue
					}
					if time.Since(began) > time.Hour+time.Minute {
						step = 30 * time.Second
					}
					authorities[string(c.authority())] = true
					for _, self := range replicas {
						certificate, err := self.GetCertificate(nil)
						if err != nil {
							t.Fatal(err)
						}
						// New pairs are tried at once, others now and then.
						pair := certificate.Leaf.SerialNumber.String() + string(c.bundles()[0])
						if last, known := greeted[pair]; known && time.Since(last) < 4*time.Hour {
							continue
						}
						greeted[pair] = time.Now()
						for _, skew := range []time.Duration{-skew, skew} {
							if err := handshakes(t, c, self, skew); err != nil {
								t.Fatalf("after %s, a clock that differs by %s: %v", time.Since(began), skew, err)
							}
						}
					}
				}
				if len(greeted) < 4 || len(authorities) != test.authorities {
					t.Errorf("%d pairs of a certificate and a bundle, %d authorities, want %d", len(greeted), len(authorities), test.authorities)
				}
			})
		})
	}
}

// An unusable CA in the Secret is replaced, once. Other keys of the Secret stay.
func TestAnUnusableCAIsReplaced(t *testing.T) {
	good := newCA(t, authorityName, time.Now())
	with := func(change func(*corev1.Secret)) *corev1.Secret {
		secret := good.secret()
		secret.Data["theirs"], secret.Labels = []byte("stays"), map[string]string{"theirs": "stays"}
		change(secret)
		return secret
	}
	leaf, err := good.sign(&x509.Certificate{NotBefore: time.Now(), NotAfter: time.Now().Add(year)}, good.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	unable, err := good.sign(&x509.Certificate{
		NotBefore: time.Now(), NotAfter: time.Now().Add(year), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature,
	}, good.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		secret *corev1.Secret
		stays  bool
	}{
		"a good one":        {with(func(*corev1.Secret) {}), true},
		"no data":           {with(func(s *corev1.Secret) { s.Data = nil }), false},
		"another ca.crt":    {with(func(s *corev1.Secret) { s.Data[caKey] = newCA(t, authorityName, time.Now()).pem() }), false},
		"another's key":     {with(func(s *corev1.Secret) { s.Data["tls.key"] = newCA(t, "x", time.Now()).secret().Data["tls.key"] }), false},
		"rubbish for a key": {with(func(s *corev1.Secret) { s.Data["tls.key"] = []byte("rubbish") }), false},
		"no authority": {with(func(s *corev1.Secret) {
			s.Data["tls.crt"] = encodeBundle([]*x509.Certificate{leaf})
			s.Data[caKey] = s.Data["tls.crt"]
		}), false},
		"an authority that may not sign": {with(func(s *corev1.Secret) {
			s.Data["tls.crt"] = encodeBundle([]*x509.Certificate{unable})
			s.Data[caKey] = s.Data["tls.crt"]
		}), false},
		"a third of a life left": {with(func(s *corev1.Secret) {
			s.Data = newCA(t, authorityName, time.Now().Add(-year*2/3-time.Minute)).secret().Data
		}), false},
		"a little more than that": {with(func(s *corev1.Secret) {
			s.Data = newCA(t, authorityName, time.Now().Add(-year*2/3+time.Minute)).secret().Data
		}), true},
		"expired while all slept":  {with(func(s *corev1.Secret) { s.Data = newCA(t, authorityName, time.Now().Add(-2*year)).secret().Data }), false},
		"begins to be valid later": {with(func(s *corev1.Secret) { s.Data = newCA(t, authorityName, time.Now().Add(time.Hour)).secret().Data }), false},
	} {
		t.Run(name, func(t *testing.T) {
			pair, _, err := readAuthority(test.secret, time.Now())
			if stays := err == nil; stays != test.stays {
				t.Fatalf("stays: %t, %v", stays, err)
			}
			if test.stays {
				if !bytes.Equal(pair.key, test.secret.Data["tls.key"]) {
					t.Error("another key")
				}
				return
			}
			c := newCluster(t, test.secret)
			a := testAuthority(c)
			if err := a.write(t.Context(), test.secret); err != nil {
				t.Fatal(err)
			}
			now, err := c.CoreV1().Secrets(testNamespace).Get(t.Context(), testSecret, metav1.GetOptions{})
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err := readAuthority(now, time.Now()); err != nil {
				t.Errorf("the new one: %v", err)
			}
			if now.Labels["theirs"] != "stays" || test.secret.Data != nil && test.secret.Data["theirs"] != nil && string(now.Data["theirs"]) != "stays" {
				t.Errorf("what others keep there has gone: %v", now.Labels)
			}
		})
	}
}

// A program that keeps changing the Secret doesn't cause a new CA each time.
func TestReplacementsOfTheCAAreRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, mutatingWith(nil))
		var writes atomic.Int64
		c.PrependReactor("create", "secrets", func(k8stesting.Action) (bool, runtime.Object, error) {
			writes.Add(1)
			return false, nil, nil
		})
		a := testAuthority(c)
		defer background(t, func(ctx context.Context) error { return together(ctx, a.secret.Run, a.Run) })()
		for began := time.Now(); time.Since(began) < 10*time.Minute; time.Sleep(100 * time.Millisecond) {
			_ = c.CoreV1().Secrets(testNamespace).Delete(t.Context(), testSecret, metav1.DeleteOptions{}) // usually it is absent
		}
		if n, most := writes.Load(), int64(repairBurst+61); n < 30 || n > most {
			t.Errorf("made anew %d times in ten minutes, want at most %d", n, most)
		}
		time.Sleep(2 * authorityRetry)
		c.authority()
	})
}

// A replica whose write was refused, or that was second, follows the CA in the Secret.
func TestReplicasShareOneCA(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, mutatingWith(nil))
		refused := 2
		c.PrependReactor("create", "secrets", func(k8stesting.Action) (bool, runtime.Object, error) {
			refused--
			return refused >= 0, nil, errors.New("not now")
		})
		one, other := testSelf(c), testSelf(c)
		defer background(t, one.Run)()
		defer background(t, other.Run)()
		time.Sleep(2*authorityRetry + 5*time.Second)
		for _, self := range []*Self{one, other} {
			if err := self.Trusted(); err != nil {
				t.Error(err)
			}
			certificate, err := self.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(certificate, self.name, c.authority(), time.Now()); err != nil {
				t.Errorf("not of the authority in the secret: %v", err)
			}
		}
	})
}
