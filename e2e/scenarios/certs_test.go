package scenarios_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/figures"
)

const (
	// caSecret is the Secret with the webhook's CA.
	caSecret = scenario.Release + "-webhook-ca"
	// webhookName is the server name under which the API server calls the webhook.
	webhookName = scenario.Release + "." + scenario.SystemNamespace + ".svc"
	// clockSkew is how far an API server's clock may differ from the webhook's.
	clockSkew = 5 * time.Minute
)

// served returns the certificate that a replica of the webhook presents.
func served(ctx context.Context, pod *corev1.Pod) (*x509.Certificate, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	// Skip the verification here: the certificate is verified later, against the bundle of the webhook configuration.
	dialer := tls.Dialer{Config: &tls.Config{ServerName: webhookName, InsecureSkipVerify: true}}
	connection, err := dialer.DialContext(ctx, "tcp", net.JoinHostPort(pod.Status.PodIP, "9443"))
	if err != nil {
		return nil, err
	}
	defer connection.Close()
	return connection.(*tls.Conn).ConnectionState().PeerCertificates[0], nil
}

// servedBy returns the replicas' certificates by pod name.
func servedBy(s *scenario.S, pods []corev1.Pod) map[string]*x509.Certificate {
	s.Helper()
	all := map[string]*x509.Certificate{}
	for i := range pods {
		certificate, err := served(s.Ctx, &pods[i])
		s.Must(err)
		all[pods[i].Name] = certificate
	}
	return all
}

// bundleNow returns the caBundle of the webhook configuration's only webhook.
func bundleNow(ctx context.Context, s *scenario.S) ([]byte, error) {
	configuration, err := s.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Get(ctx, scenario.Release, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if len(configuration.Webhooks) != 1 {
		return nil, fmt.Errorf("%d webhooks", len(configuration.Webhooks))
	}
	return configuration.Webhooks[0].ClientConfig.CABundle, nil
}

// converged returns nil if the Secret contains a CA, and each of two replicas serves a certificate that this CA has signed and
// that the API server trusts, even if its clock is slow or fast.
func converged(ctx context.Context, s *scenario.S) error {
	secret, err := s.Kube.CoreV1().Secrets(scenario.SystemNamespace).Get(ctx, caSecret, metav1.GetOptions{})
	if err != nil {
		return err
	}
	bundle, err := bundleNow(ctx, s)
	if err != nil {
		return err
	}
	pods, err := webhooks(ctx, s)
	if err != nil || len(pods) != 2 {
		return errors.Join(err, fmt.Errorf("%d replicas", len(pods)))
	}
	for i := range pods {
		certificate, err := served(ctx, &pods[i])
		if err != nil {
			return fmt.Errorf("%s: %w", pods[i].Name, err)
		}
		for name, roots := range map[string][]byte{"the authority": secret.Data[corev1.TLSCertKey], "the bundle": bundle} {
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(roots)
			for _, skew := range []time.Duration{-clockSkew, 0, clockSkew} {
				options := x509.VerifyOptions{Roots: pool, DNSName: webhookName, CurrentTime: time.Now().Add(skew)}
				if _, err := certificate.Verify(options); err != nil {
					return fmt.Errorf("%s against %s, with a clock that differs by %s: %w", pods[i].Name, name, skew, err)
				}
			}
		}
	}
	return nil
}

// awaitConverged waits until converged returns nil.
func awaitConverged(s *scenario.S) {
	s.Helper()
	s.Eventually("trusted certificates of one authority", func(ctx context.Context) (bool, error) {
		err := converged(ctx, s)
		return err == nil, err
	})
}

// awaitRenewed waits until the same replicas serve new, trusted certificates.
func awaitRenewed(s *scenario.S, before map[string]*x509.Certificate) {
	s.Helper()
	s.Eventually("other certificates", func(ctx context.Context) (bool, error) {
		pods, err := webhooks(ctx, s)
		if err != nil {
			return false, err
		}
		for i := range pods {
			certificate, err := served(ctx, &pods[i])
			if err != nil || before[pods[i].Name] == nil || certificate.Equal(before[pods[i].Name]) {
				return false, errors.Join(err, fmt.Errorf("%s serves what it did", pods[i].Name))
			}
		}
		err = converged(ctx, s)
		return err == nil, err
	})
}

// admitted creates pods in dry runs until one is injected.
func admitted(s *scenario.S) {
	s.Helper()
	s.Eventually("an injected pod", func(ctx context.Context) (bool, error) {
		template := s.Sample(s.Annotations())
		template.GenerateName = "admitted-"
		pod, err := s.Kube.CoreV1().Pods(s.Namespace).Create(ctx, &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec},
			metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil && scenario.Injected(pod), err
	})
}

// wipe empties the caBundle, as a tool does that applies the rendered chart.
func wipe(s *scenario.S) {
	s.Helper()
	_, err := s.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Patch(s.Ctx, scenario.Release, types.JSONPatchType,
		[]byte(`[{"op":"remove","path":"/webhooks/0/clientConfig/caBundle"}]`), metav1.PatchOptions{})
	s.Must(err)
}

// backWithin reports whether the bundle is restored within the limit.
func backWithin(s *scenario.S, limit time.Duration) bool {
	s.Helper()
	for began := time.Now(); time.Since(began) < limit; s.Pause(10 * time.Millisecond) {
		bundle, err := bundleNow(s.Ctx, s)
		s.Must(err)
		if len(bundle) > 0 {
			return true
		}
	}
	return false
}

func TestTrustCertBundleWiped(t *testing.T) {
	s := scenario.New(t)
	installed(s)
	s.When("the caBundle is removed, it is restored within a second", func() {
		began := time.Now()
		wipe(s)
		if !backWithin(s, time.Second) {
			s.Error("it is not")
		}
		took := time.Since(began)
		s.Must(figures.Merge(s.FiguresFile(), map[string]float64{"trust_bundle_back_ms": float64(took.Microseconds()) / 1e3}))
		admitted(s)
		s.Logf("back after %s", took.Round(time.Millisecond))
	})
	s.When("it is removed again and again, the webhook restores it more slowly", func() {
		for wipes := 2; ; wipes++ {
			wipe(s)
			if !backWithin(s, time.Second) {
				s.Logf("the wipe no. %d was not undone within a second", wipes)
				return
			}
			if wipes > 20 {
				s.Fatal("it goes on at full speed")
			}
		}
	})
	s.Then("/readyz of each replica says why the API server can't call it", func() {
		s.Eventually("it", func(ctx context.Context) (bool, error) {
			pods, err := webhooks(ctx, s)
			if err != nil {
				return false, err
			}
			for i := range pods {
				body, _ := s.Kube.CoreV1().Pods(pods[i].Namespace).ProxyGet("http", pods[i].Name, "8080", "readyz", nil).DoRaw(ctx)
				if !strings.Contains(string(body), "[-] trust: verify serving certificate against webhook inject.agentlet.dev: the CA bundle holds no certificate") {
					return false, fmt.Errorf("%s says:\n%s", pods[i].Name, body)
				}
			}
			return true, nil
		})
	})
	s.Then("once nobody removes it, it is restored, and pods are admitted", func() {
		if !backWithin(s, 15*time.Second) {
			s.Error("it is not back")
		}
		awaitConverged(s)
		awaitWebhooks(s)
		admitted(s)
	})
}

func TestTrustCertSecretEdited(t *testing.T) {
	s := scenario.New(t)
	installed(s)
	for name, patch := range map[string]string{
		"to rubbish":           `{"data":{"tls.crt":"cnViYmlzaA==","ca.crt":"cnViYmlzaA==","tls.key":"cnViYmlzaA=="}}`,
		"to nothing":           `{"data":{"tls.crt":null,"ca.crt":null,"tls.key":null}}`,
		"so the key is broken": `{"data":{"tls.key":"cnViYmlzaA=="}}`,
	} {
		var during *admissions
		s.When("the CA's Secret is edited"+name+", a new CA is created", func() {
			before := servedBy(s, awaitWebhooks(s))
			during = admitWhile(s, 0, func() {
				began := time.Now()
				_, err := s.Kube.CoreV1().Secrets(scenario.SystemNamespace).Patch(s.Ctx, caSecret, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
				s.Must(err)
				awaitRenewed(s, before)
				s.Logf("both replicas served certificates of it after %s", time.Since(began).Round(time.Millisecond))
			})
		})
		s.Then("no creation was lost, and each pod was injected", func() { during.judge(s, "edited") })
	}
}

func TestTrustCertTwoReplicasAtOnce(t *testing.T) {
	s := scenario.New(t)
	installed(s)
	s.Given("no replica and no CA Secret", func() {
		scaleWebhook(s.Ctx, s, 0)
		s.Must(s.Kube.CoreV1().Secrets(scenario.SystemNamespace).Delete(s.Ctx, caSecret, metav1.DeleteOptions{}))
	})
	s.When("two replicas start at once", func() { scaleWebhook(s.Ctx, s, 2) })
	s.Then("they agree on one CA, which is trusted, and pods are admitted", func() {
		awaitConverged(s)
		awaitWebhooks(s)
		admitted(s)
	})
	s.Then("the CA doesn't change afterwards", func() {
		s.Pause(5 * time.Second)
		s.Must(converged(s.Ctx, s))
	})
}
