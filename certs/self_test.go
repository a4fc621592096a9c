package certs

import (
	"bytes"
	"crypto/x509"
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	k8stesting "k8s.io/client-go/testing"
)

func testSelf(c *cluster) *Self {
	return newSelf(SelfConfig{
		Namespace: testNamespace, Service: testService, Secret: testSecret,
		Mutating: testConfiguration, Validating: testConfiguration, Log: discard,
	}, c)
}

func TestSelfNamesWhatIsMissingUntilItIsTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		self := testSelf(c)
		missing := func(what string) {
			t.Helper()
			time.Sleep(3 * time.Second)
			if err := self.Trusted(); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("want %q, got: %v", what, err)
			}
		}
		missing("secret agentlet-system/agentlet-webhook-ca")
		defer background(t, self.Run)()
		missing("MutatingWebhookConfiguration agentlet does not exist")
		if _, err := self.GetCertificate(nil); err == nil {
			t.Error("serves what nobody trusts")
		}
		if err := c.Tracker().Add(mutatingWith(nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3 * time.Second)
		if err := self.Trusted(); err != nil {
			t.Errorf("not trusted: %v", err)
		}
		certificate, err := self.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		leaf := certificate.Leaf
		if len(leaf.DNSNames) != 1 || leaf.DNSNames[0] != "agentlet.agentlet-system.svc" || len(leaf.IPAddresses)+len(leaf.URIs) > 0 {
			t.Errorf("names %q %v %v", leaf.DNSNames, leaf.IPAddresses, leaf.URIs)
		}
		if leaf.IsCA || leaf.KeyUsage&x509.KeyUsageCertSign != 0 || !slices.Equal(leaf.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}) {
			t.Errorf("it may be used for more than to serve: CA %t, usage %d %d", leaf.IsCA, leaf.KeyUsage, leaf.ExtKeyUsage)
		}
		c.replace(mutatingWith())
		missing("holds no webhook")
	})
}

// At any time of a rotation the serving certificate verifies against the API server's bundle.
func TestSelfIsTrustedThroughARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, mutatingWith(nil), validatingWith(nil))
		self := testSelf(c)
		defer background(t, self.Run)()
		time.Sleep(5 * time.Second)
		before, err := self.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		next := newCA(t, authorityName, time.Now())
		c.rotate(next)
		const sample = 10 * time.Millisecond
		var told time.Time // when both bundles held the new CA: after the sample before the first that shows it
		verified := map[string]bool{}
		for range 1000 {
			time.Sleep(sample)
			if told.IsZero() && bytes.HasPrefix(c.bundles()[0], next.pem()) && bytes.HasPrefix(c.validatingBundle(), next.pem()) {
				told = time.Now().Add(-sample)
			}
			served, err := self.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			for _, bundle := range [][]byte{c.bundles()[0], c.validatingBundle()} {
				pair := string(served.Certificate[0]) + string(bundle)
				if verified[pair] { // a signature takes long with the race detector
					continue
				}
				verified[pair] = true
				if err := verify(served, self.name, bundle, time.Now()); err != nil {
					t.Fatalf("the API server would refuse: %v", err)
				}
			}
			if served != before && (told.IsZero() || time.Since(told) < propagationDelay) {
				t.Fatalf("served %s after the bundle changed: another API server has not heard of it", time.Since(told))
			}
		}
		after, err := self.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if after == before || after.Leaf.CheckSignatureFrom(next.certificate) != nil {
			t.Error("the new authority is not in use")
		}
	})
}

func TestSelfRenewsBeforeTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, mutatingWith(nil))
		self := testSelf(c)
		defer background(t, self.Run)()
		time.Sleep(5 * time.Second)
		for hour := range 72 {
			if err := self.Trusted(); err != nil {
				t.Fatalf("hour %d: %v", hour, err)
			}
			time.Sleep(time.Hour)
		}
	})
}

// The validating webhook's bundle is late. The new CA's certificate waits for it, but not where it can't be written at all.
func TestTheNewCAWaitsForAWritableValidatingBundle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, mutatingWith(nil), validatingWith(nil))
		var slow, refused atomic.Bool
		c.PrependReactor("patch", "validatingwebhookconfigurations", func(k8stesting.Action) (bool, runtime.Object, error) {
			if refused.Load() {
				return true, nil, errors.New("refused by policy")
			}
			return slow.Load(), validatingWith(nil), nil // slow: accepted, but not observed yet
		})
		self := testSelf(c)
		defer background(t, self.Run)()
		serves := func(signer *ca) bool {
			t.Helper()
			served, err := self.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			return served.Leaf.CheckSignatureFrom(signer.certificate) == nil
		}
		first := newCA(t, authorityName, time.Now())
		c.rotate(first)
		time.Sleep(5 * time.Second)

		slow.Store(true)
		second := newCA(t, authorityName, time.Now())
		c.rotate(second)
		time.Sleep(5 * time.Second)
		if !serves(first) {
			t.Error("the validating webhook would not trust what is served")
		}
		slow.Store(false)
		c.replaceValidating(validatingWith(first.pem())) // the event causes another check
		time.Sleep(5 * time.Second)
		if !serves(second) {
			t.Error("the new authority is not in use, though everybody trusts it")
		}

		refused.Store(true)
		third := newCA(t, authorityName, time.Now())
		c.rotate(third)
		time.Sleep(time.Minute)
		if !serves(third) || self.Trusted() != nil {
			t.Errorf("the certificate waits for a bundle that nobody can write: %v", self.Trusted())
		}
	})
}

// There is a certificate also without the permission to read the validating configuration.
func TestAnUnreadableValidatingConfigurationDelaysNothing(t *testing.T) {
	// The handlers delay errors by the wall clock.
	handlers := utilruntime.ErrorHandlers
	utilruntime.ErrorHandlers = nil
	t.Cleanup(func() { utilruntime.ErrorHandlers = handlers })
	synctest.Test(t, func(t *testing.T) {
		authority := newCA(t, "any", time.Now())
		secret := brought(t, authority)
		secret.Name = "theirs"
		c := newCluster(t, mutatingWith(nil), validatingWith(nil), secret)
		c.PrependReactor("list", "validatingwebhookconfigurations", func(k8stesting.Action) (bool, runtime.Object, error) {
			return true, nil, errors.New("forbidden")
		})
		self := testSelf(c)
		stop := background(t, self.Run)
		time.Sleep(time.Minute)
		if err := self.Trusted(); err != nil {
			t.Errorf("self: %v", err)
		}
		stop()
		follower := NewSecret(SecretConfig{
			Client: c, Namespace: testNamespace, Service: testService, Secret: secret.Name,
			Mutating: testConfiguration, Validating: testConfiguration, Keep: true, Log: discard,
		})
		defer background(t, follower.Run)()
		time.Sleep(time.Minute)
		if err := follower.Trusted(); err != nil {
			t.Errorf("secret: %v", err)
		}
	})
}

func TestSelfServesWithoutAValidatingConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, mutatingWith(nil))
		self := testSelf(c)
		defer background(t, self.Run)()
		authority := newCA(t, authorityName, time.Now())
		c.rotate(authority)
		time.Sleep(5 * time.Second)
		if err := self.Trusted(); err != nil {
			t.Error(err)
		}
		if err := c.Tracker().Add(validatingWith(nil)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Second)
		if !bytes.Equal(c.validatingBundle(), authority.pem()) {
			t.Errorf("a configuration that came later has %q", c.validatingBundle())
		}
	})
}
