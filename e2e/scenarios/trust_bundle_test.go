package scenarios_test

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/e2e/scenario"
)

// TestTrustWebhookWritesOnlyTheBundle uses dry runs, which admission treats like real requests.
func TestTrustWebhookWritesOnlyTheBundle(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	webhook := webhookClient(s)
	bundle, err := bundleNow(s.Ctx, s)
	s.Must(err)
	others := map[string]admissionregistrationv1.FailurePolicyType{
		"MutatingWebhookConfiguration": admissionregistrationv1.Ignore, "ValidatingWebhookConfiguration": admissionregistrationv1.Fail,
	}
	for kind, patch := range configurationPatches(s, webhook) {
		s.Then("it may write the caBundle of its "+kind, func() {
			twice := base64.StdEncoding.EncodeToString(append(bundle, bundle...))
			s.Must(patch(fmt.Sprintf(`[{"op":"add","path":"/webhooks/0/clientConfig/caBundle","value":%q}]`, twice)))
		})
		s.Then("it may change nothing else of it", func() {
			for name, body := range configurationAttacks(others[kind]) {
				err := patch(body)
				if err == nil || !strings.Contains(err.Error(), "denied request") || !strings.Contains(err.Error(), scenario.Release+"-webhook-certs") {
					s.Errorf("%s: %v, want a denial", name, err)
				}
			}
		})
		s.Then("it may change no other"+kind, func() {
			mutating, validating := webhook.AdmissionregistrationV1().MutatingWebhookConfigurations(), webhook.AdmissionregistrationV1().ValidatingWebhookConfigurations()
			_, patched := mutating.Patch(s.Ctx, "theirs", types.JSONPatchType, []byte(`[]`), metav1.PatchOptions{})
			_, patchedToo := validating.Patch(s.Ctx, "theirs", types.JSONPatchType, []byte(`[]`), metav1.PatchOptions{})
			for _, err := range []error{
				patched, patchedToo,
				mutating.Delete(s.Ctx, scenario.Release, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}),
				validating.Delete(s.Ctx, scenario.Release, metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}}),
			} {
				if !apierrors.IsForbidden(err) {
					s.Errorf("%v, want a refusal", err)
				}
			}
		})
	}
}

// configurationPatches returns functions, by kind, that send a JSON patch, in a dry run, to the chart's webhook configuration of
// that kind.
func configurationPatches(s *scenario.S, webhook kubernetes.Interface) map[string]func(body string) error {
	s.Helper()
	options := metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}}
	patches := map[string]func(string) error{
		"MutatingWebhookConfiguration": func(body string) error {
			_, err := webhook.AdmissionregistrationV1().MutatingWebhookConfigurations().
				Patch(s.Ctx, scenario.Release, types.JSONPatchType, []byte(body), options)
			return err
		},
	}
	_, err := s.Kube.AdmissionregistrationV1().ValidatingWebhookConfigurations().Get(s.Ctx, scenario.Release, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return patches // the chart can be installed without it
	}
	s.Must(err)
	patches["ValidatingWebhookConfiguration"] = func(body string) error {
		_, err := webhook.AdmissionregistrationV1().ValidatingWebhookConfigurations().
			Patch(s.Ctx, scenario.Release, types.JSONPatchType, []byte(body), options)
		return err
	}
	return patches
}

// configurationAttacks are JSON patches that would extend what the webhook gets, or redirect it to another service. policy is a
// failure policy that the configuration doesn't have.
func configurationAttacks(policy admissionregistrationv1.FailurePolicyType) map[string]string {
	set := func(path, value string) string {
		return fmt.Sprintf(`[{"op":"add","path":%q,"value":%s}]`, path, value)
	}
	const first = "/webhooks/0/"
	return map[string]string{
		"more resources":         set(first+"rules/0/resources", `["*/*"]`),
		"more operations":        set(first+"rules/0/operations", `["*"]`),
		"another rule":           set(first+"rules/-", `{"apiGroups":[""],"apiVersions":["v1"],"operations":["CREATE"],"resources":["secrets"]}`),
		"all namespaces":         set(first+"namespaceSelector", `{}`),
		"other objects":          set(first+"objectSelector", `{"matchLabels":{"a":"b"}}`),
		"other conditions":       set(first+"matchConditions", `[{"name":"any","expression":"true"}]`),
		"another failure policy": set(first+"failurePolicy", fmt.Sprintf("%q", policy)),
		"another timeout":        set(first+"timeoutSeconds", `29`),
		"another match policy":   set(first+"matchPolicy", `"Exact"`),
		"another service":        set(first+"clientConfig/service/name", `"other"`),
		"another port":           set(first+"clientConfig/service/port", `8443`),
		"another path":           set(first+"clientConfig/service/path", `"/other"`),
		"a URL":                  `[{"op":"remove","path":"/webhooks/0/clientConfig/service"},{"op":"add","path":"/webhooks/0/clientConfig/url","value":"https://example.com"}]`,
		"another name":           set(first+"name", `"other.agentlet.dev"`),
		"no webhooks":            set("/webhooks", `[]`),
		"another webhook": set("/webhooks/-", `{"name":"other.agentlet.dev","admissionReviewVersions":["v1"],"sideEffects":"None",
			"clientConfig":{"service":{"namespace":"agentlet-system","name":"agentlet"}}}`),
		"another label": set("/metadata/labels/a", `"b"`),
		"an annotation": set("/metadata/annotations", `{"a":"b"}`),
		"a finalizer":   set("/metadata/finalizers", `["agentlet.dev/stay"]`),
	}
}
