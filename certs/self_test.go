package certs

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func testSelf(c *cluster) (*Self, *fakeAuthority) {
	signer := &fakeAuthority{cluster: c}
	return newSelf(SelfConfig{
		Namespace: testNamespace, Service: testService, Secret: testSecret, Configuration: testConfiguration, Log: discard,
	}, c, signer), signer
}

func TestSelfSaysWhatIsMissingUntilItIsTrusted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		self, signer := testSelf(c)
		missing := func(what string) {
			t.Helper()
			time.Sleep(3 * time.Second)
			if err := self.Trusted(); err == nil || !strings.Contains(err.Error(), what) {
				t.Errorf("want %q, got: %v", what, err)
			}
		}
		missing("secret agentlet-system/agentlet-webhook-ca")
		defer background(t, self.Run)()
		missing("secret agentlet-system/agentlet-webhook-ca")
		signer.rotate(newCA(t, authorityName, time.Now()))
		missing("webhook configuration agentlet does not exist")
		if _, err := self.GetCertificate(nil); err == nil {
			t.Error("serves what nobody trusts")
		}
		if err := c.Tracker().Add(configuration(nil)); err != nil {
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
		if got := certificate.Leaf.DNSNames; len(got) != 1 || got[0] != "agentlet.agentlet-system.svc" {
			t.Errorf("names %q", got)
		}
		c.replace(configuration())
		missing("holds no webhook")
	})
}

// At every moment of a rotation the served certificate verifies against the bundle that the API server has.
func TestSelfIsTrustedThroughARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, configuration(nil))
		self, signer := testSelf(c)
		defer background(t, self.Run)()
		signer.rotate(newCA(t, authorityName, time.Now()))
		time.Sleep(5 * time.Second)
		before, err := self.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		next := newCA(t, authorityName, time.Now())
		signer.rotate(next)
		for range 500 {
			time.Sleep(10 * time.Millisecond)
			served, err := self.GetCertificate(nil)
			if err != nil {
				t.Fatal(err)
			}
			if err := verify(served, self.name, c.bundles()[0], time.Now()); err != nil {
				t.Fatalf("the API server would refuse: %v", err)
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
		c := newCluster(t, configuration(nil))
		self, signer := testSelf(c)
		defer background(t, self.Run)()
		signer.rotate(newCA(t, authorityName, time.Now()))
		time.Sleep(5 * time.Second)
		for hour := range 72 {
			if err := self.Trusted(); err != nil {
				t.Fatalf("hour %d: %v", hour, err)
			}
			time.Sleep(time.Hour)
		}
	})
}
