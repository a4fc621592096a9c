package scenarios_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// certManager runs cert-manager's controllers for a scenario, with their CRDs.
func certManager(s *scenario.S) {
	s.Helper()
	tools, err := toolchain.Ensure(s.Ctx, os.Stderr, toolchain.CertManager)
	s.Must(err)
	where := exec.CommandContext(s.Ctx, "go", "list", "-m", "-f", "{{.Dir}}", "github.com/cert-manager/cert-manager")
	where.Dir, where.Env = filepath.Join(s.Root, "hack", "tools", toolchain.CertManager), append(os.Environ(), "GOWORK=off")
	module, err := where.Output()
	s.Must(err)
	kinds := filepath.Join(strings.TrimSpace(string(module)), "deploy", "crds")
	s.Afterwards(time.Minute, func(ctx context.Context) {
		if _, err := s.Kubectl(ctx, "delete", "-f", kinds, "--ignore-not-found"); err != nil {
			s.Error(err)
		}
	})
	_, err = s.Kubectl(s.Ctx, "apply", "--server-side", "-f", kinds)
	s.Must(err)
	_, err = s.Kubectl(s.Ctx, "wait", "--for=condition=Established", "--timeout=30s", "-f", kinds)
	s.Must(err)

	log, err := os.Create(filepath.Join(s.Out, "cert-manager.log"))
	s.Must(err)
	program := exec.Command(tools.Program(toolchain.CertManager, "cert-manager"), "--kubeconfig="+s.Cluster.Kubeconfig(),
		"--cluster-resource-namespace="+s.Namespace)
	program.Stdout, program.Stderr = log, log
	s.Must(program.Start())
	s.Cleanup(func() {
		s.Must(program.Process.Signal(os.Interrupt))
		_ = program.Wait() // always an error: it was signalled
		log.Close()
	})
}

// awaitIssued waits until two replicas serve certificates that the API server trusts, that this CA has signed, and that are not
// among the previous ones.
func awaitIssued(s *scenario.S, authority string, before map[string]*x509.Certificate) {
	s.Helper()
	s.Eventually("certificates of "+authority, func(ctx context.Context) (bool, error) {
		bundle, err := bundleNow(ctx, s)
		if err != nil {
			return false, err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(bundle)
		pods, err := webhooks(ctx, s)
		if err != nil || len(pods) != 2 {
			return false, errors.Join(err, fmt.Errorf("%d replicas", len(pods)))
		}
		for i := range pods {
			certificate, err := served(ctx, &pods[i])
			if err != nil {
				return false, err
			}
			for _, old := range before {
				if certificate.Equal(old) {
					return false, fmt.Errorf("%s serves what was there before", pods[i].Name)
				}
			}
			if certificate.Issuer.CommonName != authority {
				return false, fmt.Errorf("%s serves a certificate of %s", pods[i].Name, certificate.Issuer.CommonName)
			}
			if _, err := certificate.Verify(x509.VerifyOptions{Roots: roots, DNSName: webhookName}); err != nil {
				return false, err
			}
		}
		return true, nil
	})
}

// renew requests a new certificate from cert-manager, as `cmctl renew` does.
func renew(s *scenario.S, certificate string) {
	s.Helper()
	_, err := s.Kubectl(s.Ctx, "-n", scenario.SystemNamespace, "patch", "certificate", certificate, "--subresource=status", "--type=merge", "-p",
		fmt.Sprintf(`{"status":{"conditions":[{"type":"Issuing","status":"True","reason":"ManuallyTriggered","message":"renewed","lastTransitionTime":%q}]}}`,
			time.Now().UTC().Format(time.RFC3339)))
	s.Must(err)
}

// TestCertManager makes the real controllers issue certificates, renew them, and change the CA, while pods are created.
func TestCertManager(t *testing.T) {
	s := scenario.New(t)
	const own = scenario.Release + "-webhook" // the common name of the chart's CA
	s.Given("cert-manager", func() { certManager(s) })
	reinstalled(s)
	s.Given("the chart with certs.source=cert-manager", func() {
		during := admitWhile(s, 10*time.Second, func() {
			s.Must(s.Install(s.Ctx, "certs.source=cert-manager"))
			awaitIssued(s, own, nil)
		})
		during.judge(s, "to_cert_manager")
	})
	change := func(what, name, authority string, do func()) {
		var during *admissions
		s.When(what, func() {
			during = admitWhile(s, 0, func() {
				before := servedBy(s, awaitWebhooks(s))
				began := time.Now()
				do()
				awaitIssued(s, authority, before)
				s.Logf("both replicas served it after %s", time.Since(began).Round(time.Millisecond))
			})
		})
		s.Then("no creation is lost, and each pod is injected", func() { during.judge(s, name) })
	}
	change("the certificate is renewed", "cert_manager_renewal", own, func() { renew(s, own) })
	change("the authority is replaced, and the certificate renewed", "cert_manager_authority", own, func() {
		secret := []string{"-n", scenario.SystemNamespace, "secret", own + "-authority"}
		before, err := s.Kubectl(s.Ctx, append([]string{"get", "-o", `jsonpath={.data.tls\.crt}`}, secret...)...)
		s.Must(err)
		_, err = s.Kubectl(s.Ctx, append([]string{"delete"}, secret...)...)
		s.Must(err)
		s.Eventually("another authority", func(ctx context.Context) (bool, error) {
			now, err := s.Kubectl(ctx, append([]string{"get", "-o", `jsonpath={.data.tls\.crt}`}, secret...)...)
			return err == nil && now != "" && now != before, err
		})
		renew(s, own)
	})
	s.Given("a ClusterIssuer of the platform", func() {
		file := filepath.Join(s.TempDir(), "issuer.yaml")
		s.Must(os.WriteFile(file, fmt.Appendf(nil, platformIssuer, s.Namespace), 0o600))
		_, err := s.Kubectl(s.Ctx, "apply", "-f", file)
		s.Must(err)
		_, err = s.Kubectl(s.Ctx, "wait", "--for=condition=Ready", "--timeout=60s", "clusterissuer/platform")
		s.Must(err)
	})
	change("the chart is upgraded to that", "cert_manager_issuer", "platform", func() {
		s.Must(s.Install(s.Ctx, "certs.source=cert-manager", "certs.certManager.issuerRef.name=platform", "certs.certManager.issuerRef.kind=ClusterIssuer"))
	})
	s.When("the chart uses its own CA again, pods are admitted", func() {
		during := admitWhile(s, 10*time.Second, func() { s.Must(s.Install(s.Ctx)) })
		awaitConverged(s)
		during.judge(s, "from_cert_manager")
	})
}

const platformIssuer = `
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: selfsigned}
spec: {selfSigned: {}}
---
apiVersion: cert-manager.io/v1
kind: Certificate
metadata: {name: platform, namespace: %[1]s}
spec:
  isCA: true
  commonName: platform
  secretName: platform
  issuerRef: {name: selfsigned, kind: ClusterIssuer}
---
apiVersion: cert-manager.io/v1
kind: ClusterIssuer
metadata: {name: platform}
spec: {ca: {secretName: platform}}
`
