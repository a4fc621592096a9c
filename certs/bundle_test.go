package certs

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	k8stesting "k8s.io/client-go/testing"
)

// watchedBundle is a bundle that runs its Secret's watch as well.
type watchedBundle struct{ *bundle }

func testBundle(c *cluster) watchedBundle {
	config := bundleConfig{client: c, secret: newWatchedSecret(c, testNamespace, testSecret), key: corev1.TLSCertKey, ours: true, log: discard}
	return watchedBundle{newBundle(config, mutating(c, testConfiguration))}
}

func (b watchedBundle) Run(ctx context.Context) error {
	return together(ctx, b.secret.Run, b.bundle.Run)
}

func TestEveryBundleIsWrittenAndRestored(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := newCA(t, authorityName, time.Now())
		other := mutatingWith([]byte("theirs"))
		other.Name = "theirs"
		c := newCluster(t, mutatingWith(nil, []byte("rubbish")), other)
		defer background(t, testBundle(c).Run)()
		time.Sleep(time.Minute)
		if n := c.patches(); n != 0 {
			t.Errorf("%d patches without an authority", n)
		}
		if _, err := c.CoreV1().Secrets(testNamespace).Create(t.Context(), authority.secret(), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		for _, change := range []struct {
			name string
			wipe func()
		}{
			{"first", func() {}},
			{"emptied", func() { c.replace(mutatingWith(nil, nil)) }},
			{"one", func() { c.replace(mutatingWith(authority.pem(), []byte("x"))) }},
		} {
			name, before := change.name, c.patches()
			change.wipe()
			time.Sleep(time.Second)
			for i, bundle := range c.bundles() {
				if !bytes.Equal(bundle, authority.pem()) {
					t.Errorf("%s: webhook %d has %q", name, i, bundle)
				}
			}
			if n := c.patches() - before; n > 1 {
				t.Errorf("%s: %d patches for one change", name, n)
			}
		}
		before := c.patches()
		time.Sleep(24 * time.Hour)
		if n := c.patches() - before; n != 0 {
			t.Errorf("%d patches in a quiet day", n)
		}
		theirs, err := c.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(t.Context(), "theirs", metav1.GetOptions{})
		if err != nil || string(theirs.Webhooks[0].ClientConfig.CABundle) != "theirs" {
			t.Errorf("another configuration was touched: %v", err)
		}
	})
}

func TestAFormerCAIsKeptForADay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		former := newCA(t, authorityName, time.Now().Add(-year/2))
		current := newCA(t, authorityName, time.Now())
		c := newCluster(t, mutatingWith(former.pem()), current.secret())
		defer background(t, testBundle(c).Run)()
		time.Sleep(previousCARetention - resync)
		if got := c.bundles()[0]; !bytes.Equal(got, append(current.pem(), former.pem()...)) {
			t.Errorf("within the day the bundle holds %d certificates", len(parseBundle(got)))
		}
		time.Sleep(2 * resync)
		if got := c.bundles()[0]; !bytes.Equal(got, current.pem()) {
			t.Errorf("after the day the bundle holds %d certificates", len(parseBundle(got)))
		}
	})
}

func TestTwoReplicasAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		former := newCA(t, authorityName, time.Now().Add(-year/2))
		current := newCA(t, authorityName, time.Now())
		c := newCluster(t, mutatingWith(former.pem()), current.secret())
		defer background(t, testBundle(c).Run)()
		defer background(t, testBundle(c).Run)()
		time.Sleep(12 * time.Hour)
		// Each may patch twice before it observes its first patch, because this API server checks no resource versions.
		if n := c.patches(); n > 4 {
			t.Errorf("%d patches of two replicas for one change", n)
		}
	})
}

func TestRepairsAreRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := newCA(t, authorityName, time.Now())
		c := newCluster(t, mutatingWith(nil), authority.secret())
		defer background(t, testBundle(c).Run)()
		for range 6000 { // ten minutes
			time.Sleep(100 * time.Millisecond)
			if len(c.bundles()[0]) > 0 {
				c.replace(mutatingWith(nil))
			}
		}
		if n, most := c.patches(), repairBurst+61; n < 50 || n > most {
			t.Errorf("%d patches in ten minutes, want at most %d", n, most)
		}
	})
}

func TestARefusedPatchIsRetriedWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := newCA(t, authorityName, time.Now())
		c := newCluster(t, mutatingWith(nil), authority.secret())
		var allowed atomic.Bool
		c.PrependReactor("patch", "*", func(k8stesting.Action) (bool, runtime.Object, error) {
			return !allowed.Load(), nil, errors.New("refused by policy")
		})
		b := testBundle(c)
		defer background(t, b.Run)()
		time.Sleep(10 * time.Minute)
		if n := c.patches(); n < 8 || n > 30 {
			t.Errorf("%d attempts in ten minutes", n)
		}
		if err := b.lastError(); err == nil || !strings.Contains(err.Error(), "refused by policy") {
			t.Errorf("the reason is not kept: %v", err)
		}
		allowed.Store(true)
		time.Sleep(2 * time.Minute)
		if !bytes.Equal(c.bundles()[0], authority.pem()) || b.lastError() != nil {
			t.Errorf("not healed: %v", b.lastError())
		}
	})
}

func TestThePatchNamesItsVersionAndOnlyWhatChanges(t *testing.T) {
	authority := newCA(t, authorityName, time.Now())
	merge := func(existing []byte) []byte {
		return mergeBundle(parseBundle(authority.pem()), existing, func(*x509.Certificate) bool { return true })
	}
	patch, err := patchFor("42", hooksOf(mutatingWith(authority.pem(), nil)), merge)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"resourceVersion":"42"`, `"b.agentlet.dev"`} {
		if !strings.Contains(string(patch), want) {
			t.Errorf("no %s in %s", want, patch)
		}
	}
	for _, unwanted := range []string{`"a.agentlet.dev"`, "failurePolicy", "service"} {
		if strings.Contains(string(patch), unwanted) {
			t.Errorf("%s in %s", unwanted, patch)
		}
	}
	if patch, err := patchFor("42", nil, merge); patch != nil || err != nil {
		t.Errorf("without webhooks: %s, %v", patch, err)
	}
}

// The key is in the Secret, next to the certificate, or even in the same value.
func TestThePrivateKeyIsNotWritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		authority := newCA(t, authorityName, time.Now())
		secret := authority.secret()
		secret.Data[corev1.TLSCertKey] = append(secret.Data[corev1.TLSPrivateKeyKey], secret.Data[corev1.TLSCertKey]...)
		c := newCluster(t, mutatingWith(nil), secret)
		defer background(t, testBundle(c).Run)()
		time.Sleep(time.Second)
		if !bytes.Equal(c.bundles()[0], authority.pem()) {
			t.Errorf("the bundle holds %s", c.bundles()[0])
		}
	})
}

// Each source watches its Secret once, and requests no other.
func TestTheSecretIsWatchedOnce(t *testing.T) {
	for name, source := range map[string]func(c *cluster) func(context.Context) error{
		"self-signed": func(c *cluster) func(context.Context) error { return testSelf(c).Run },
		"secret":      func(c *cluster) func(context.Context) error { return testSecretSource(c, true).Run },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, mutatingWith(nil), newCA(t, authorityName, time.Now()).secret())
				defer background(t, source(c))()
				time.Sleep(time.Minute)
				lists := 0
				for _, action := range c.Actions() {
					list, ok := action.(k8stesting.ListAction)
					if !ok || action.GetResource().Resource != "secrets" {
						continue
					}
					lists++
					if only, exact := list.GetListRestrictions().Fields.RequiresExactMatch(metav1.ObjectNameField); !exact || only != testSecret || action.GetNamespace() != testNamespace {
						t.Errorf("listed are %s in %s", list.GetListRestrictions().Fields, action.GetNamespace())
					}
				}
				if lists != 1 {
					t.Errorf("listed %d times", lists)
				}
			})
		})
	}
}
