package main

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/kubernetes/fake"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/certs"
	"github.com/agentlet/agentlet/internal/pkitest"
)

// TestTheChartIsRenderedEquallyTwice: a program that renders the chart again and again and compares, such as Argo CD, must not find
// a change where nobody made one.
func TestTheChartIsRenderedEquallyTwice(t *testing.T) {
	for name, values := range map[string]string{
		"as it is": `{}`,
		"all of it": `{"certs": {"source": "cert-manager"}, "networkPolicy": {"enabled": true}, "resourceQuota": {"enabled": true},
			"serviceMonitor": {"enabled": true}, "podMonitor": {"enabled": true}, "prometheusRule": {"enabled": true},
			"dashboards": {"enabled": true}, "tests": {"enabled": true}, "dialects": ["katalog-sync", "consul-k8s"],
			"commonLabels": {"b": "c", "a": "d"}, "commonAnnotations": {"f": "g", "e": "h"}, "grants": {"namespaces": ["b", "a"]},
			"defaults": {"drain-delay": "10s", "gate-policy": "continuous", "log-level": "debug"}, "podLabels": {"b": "c", "a": "d"}}`,
	} {
		t.Run(name, func(t *testing.T) {
			first, err := render(t, values)
			if err != nil {
				t.Fatalf("%v: %s", err, first)
			}
			if second, err := render(t, values); err != nil || second != first {
				t.Errorf("the second time it is different, %v:\n%s", err, second)
			}
		})
	}
}

// configurations is a client of one of the two kinds of webhook configurations.
type configurations[T any] interface {
	Get(ctx context.Context, name string, options metav1.GetOptions) (*T, error)
	Patch(ctx context.Context, name string, how types.PatchType, data []byte, options metav1.PatchOptions, sub ...string) (*T, error)
}

// apply applies a manifest on the server's side, without force: a field that somebody else has set otherwise is a conflict.
func apply[T any](t *testing.T, client configurations[T], manifest []byte) {
	t.Helper()
	_, err := client.Patch(t.Context(), "agentlet", types.ApplyPatchType, manifest, metav1.PatchOptions{FieldManager: "gitops"})
	if err != nil {
		t.Errorf("apply the rendered manifest: %v", err)
	}
}

// live returns the configuration that is in the cluster, as JSON, and its first caBundle.
func live[T any](t *testing.T, client configurations[T], meta metav1.TypeMeta) (object, bundle []byte) {
	t.Helper()
	got, err := client.Get(t.Context(), "agentlet", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	fields, err := runtime.DefaultUnstructuredConverter.ToUnstructured(got)
	if err != nil {
		t.Fatal(err)
	}
	fields["apiVersion"], fields["kind"] = meta.APIVersion, meta.Kind // a typed client leaves them out
	if object, err = json.Marshal(fields); err != nil {
		t.Fatal(err)
	}
	var read struct {
		Webhooks []struct {
			ClientConfig struct{ CABundle []byte }
		}
	}
	if err := json.Unmarshal(object, &read); err != nil || len(read.Webhooks) != 1 {
		t.Fatalf("%d webhooks, %v", len(read.Webhooks), err)
	}
	return object, read.Webhooks[0].ClientConfig.CABundle
}

// compare fails the test where the rendered manifest and the cluster differ, and where applying it once more takes the caBundle away.
func compare[T any](t *testing.T, client configurations[T], manifest []byte) {
	t.Helper()
	var meta metav1.TypeMeta
	if err := json.Unmarshal(manifest, &meta); err != nil {
		t.Fatal(err)
	}
	object, before := live(t, client, meta)
	if len(before) == 0 {
		t.Fatalf("%s: no caBundle has been written", meta.Kind)
	}
	schema, err := strategicpatch.NewPatchMetaFromStruct(new(T))
	if err != nil {
		t.Fatal(err)
	}
	diff, err := strategicpatch.CreateThreeWayMergePatch(manifest, manifest, object, schema, true)
	if err != nil || string(diff) != "{}" {
		t.Errorf("%s: the three-way difference is %s, %v", meta.Kind, diff, err)
	}
	apply(t, client, manifest)
	if _, after := live(t, client, meta); !bytes.Equal(after, before) {
		t.Errorf("%s: after it was applied once more the caBundle is %q", meta.Kind, after)
	}
}

// manifest returns the only object of that kind that the chart renders, as JSON.
func manifest(t *testing.T, rendered, kind string) []byte {
	t.Helper()
	for document := range strings.SplitSeq(rendered, "\n---\n") {
		if strings.Contains("\n"+document, "\nkind: "+kind+"\n") {
			object, err := yaml.YAMLToJSON([]byte(document))
			if err != nil {
				t.Fatal(err)
			}
			return object
		}
	}
	t.Fatalf("no %s is rendered", kind)
	return nil
}

// TestAWrittenBundleIsNoDrift has the webhook write its caBundles into the rendered configurations. Who compares the chart with the
// cluster then, as Argo CD and Flux do, finds no difference; and who applies it once more meets no conflict.
func TestAWrittenBundleIsNoDrift(t *testing.T) {
	rendered, err := render(t, `{}`)
	if err != nil {
		t.Fatalf("%v: %s", err, rendered)
	}
	mutatingManifest, validatingManifest := manifest(t, rendered, "MutatingWebhookConfiguration"), manifest(t, rendered, "ValidatingWebhookConfiguration")
	synctest.Test(t, func(t *testing.T) {
		now := time.Now()
		certificate, key := pkitest.Sign(t, &x509.Certificate{
			DNSNames: []string{certs.ServerName("agentlet", "agentlet-system")}, NotBefore: now, NotAfter: now.Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true,
		}, nil, nil)
		der, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		crt := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
		client := fake.NewClientset(&corev1.Secret{
			ObjectMeta: metav1.ObjectMeta{Namespace: "agentlet-system", Name: "serving"},
			Data: map[string][]byte{
				"tls.crt": crt, "ca.crt": crt, "tls.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}),
			},
		})
		mutating := client.AdmissionregistrationV1().MutatingWebhookConfigurations()
		validating := client.AdmissionregistrationV1().ValidatingWebhookConfigurations()
		apply(t, mutating, mutatingManifest)
		apply(t, validating, validatingManifest)

		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		source := certs.NewSecret(certs.SecretConfig{
			Client: client, Namespace: "agentlet-system", Service: "agentlet", Secret: "serving", Keep: true,
			Mutating: "agentlet", Validating: "agentlet", Log: slog.New(slog.DiscardHandler),
		})
		go func() { done <- source.Run(ctx) }()
		time.Sleep(10 * time.Second) // of the bubble's clock
		compare(t, mutating, mutatingManifest)
		compare(t, validating, validatingManifest)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
