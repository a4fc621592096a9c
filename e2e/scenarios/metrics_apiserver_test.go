package scenarios_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/e2e/scenario"
)

// TestMetricsOfTheAPIServerCountFailedCalls has the API server call webhooks of the chart's name that nobody serves, for the pods
// of this scenario alone, and reads the counts that alerts go by.
func TestMetricsOfTheAPIServerCountFailedCalls(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	const webhook = "inject.agentlet.dev"
	for _, c := range []struct {
		policy admissionv1.FailurePolicyType
		metric string
		labels map[string]string
	}{
		{
			admissionv1.Fail, "apiserver_admission_webhook_rejection_count",
			map[string]string{"name": webhook, "error_type": "calling_webhook_error"},
		},
		{admissionv1.Ignore, "apiserver_admission_webhook_fail_open_count", map[string]string{"name": webhook}},
	} {
		configurations := s.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations()
		name := s.Namespace + "-" + strings.ToLower(string(c.policy))
		before := counted(s, c.metric, c.labels)
		s.Given("a webhook that nobody serves, with failurePolicy "+string(c.policy), func() {
			s.Afterwards(10*time.Second, func(ctx context.Context) {
				if err := configurations.Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
					s.Error(err)
				}
			})
			_, err := configurations.Create(s.Ctx, unserved(s, name, webhook, c.policy), metav1.CreateOptions{})
			s.Must(err)
		})
		s.Then("it counts the pods that are created in "+c.metric, func() {
			s.Eventually("a count", func(ctx context.Context) (bool, error) {
				template := s.Sample(nil)
				pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{GenerateName: "pod-"}, Spec: template.Spec}
				_, err := s.Kube.CoreV1().Pods(s.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
				return counted(s, c.metric, c.labels) > before, errors.Join(errors.New("no count yet"), err)
			})
			s.Must(configurations.Delete(s.Ctx, name, metav1.DeleteOptions{}))
		})
	}
}

// counted sums up a metric of the API server, over the series that have these labels.
func counted(s *scenario.S, metric string, labels map[string]string) float64 {
	s.Helper()
	text, err := s.Kube.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(s.Ctx)
	s.Must(err)
	sum, err := scenario.Sum(text, metric, func(has map[string]string) bool {
		for name, value := range labels {
			if has[name] != value {
				return false
			}
		}
		return true
	})
	s.Must(err)
	return sum
}

// unserved is a webhook for the pods of this scenario, at a service that does not exist.
func unserved(s *scenario.S, name, webhook string, policy admissionv1.FailurePolicyType) *admissionv1.MutatingWebhookConfiguration {
	none, seconds, path := admissionv1.SideEffectClassNone, int32(1), "/mutate"
	return &admissionv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Webhooks: []admissionv1.MutatingWebhook{{
			Name: webhook, AdmissionReviewVersions: []string{"v1"}, SideEffects: &none, FailurePolicy: &policy, TimeoutSeconds: &seconds,
			ClientConfig: admissionv1.WebhookClientConfig{
				Service: &admissionv1.ServiceReference{Namespace: s.Namespace, Name: "no-such-service", Path: &path},
			},
			Rules: []admissionv1.RuleWithOperations{{
				Operations: []admissionv1.OperationType{admissionv1.Create},
				Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
			NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: s.Namespace}},
		}},
	}
}
