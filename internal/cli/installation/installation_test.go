package installation

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	kubefake "k8s.io/client-go/kubernetes/fake"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestNamespacesHaveWhatADecisionNeeds(t *testing.T) {
	client := kubefake.NewClientset(
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
			Name:        "shop",
			Labels:      map[string]string{"istio-injection": "enabled", "team": "shop"},
			Annotations: map[string]string{contract.AllowedServices: "web", "linkerd.io/inject": "enabled", "note": "none"},
		}},
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "plain"}},
	)
	got, err := Namespaces(t.Context(), client)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]metav1.ObjectMeta{
		"shop": {
			Labels:      map[string]string{"istio-injection": "enabled"},
			Annotations: map[string]string{contract.AllowedServices: "web", "linkerd.io/inject": "enabled"},
		},
		"plain": {},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
