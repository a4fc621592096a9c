package installation

import (
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

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
	got, err := Namespaces(t.Context(), client, nil)
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

// TestAnEvictedReplicaIsNone has a replica that was evicted, which is newer than the one that runs.
func TestAnEvictedReplicaIsNone(t *testing.T) {
	replica := func(name string, phase corev1.PodPhase, age time.Duration) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: "agentlet-system", Name: name, Labels: map[string]string{"app": "webhook"},
				CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age)),
			},
			Spec:   corev1.PodSpec{Containers: []corev1.Container{{Name: "webhook", Args: []string{"--image=" + name}}}},
			Status: corev1.PodStatus{Phase: phase},
		}
	}
	client := kubefake.NewClientset(
		&admissionregistrationv1.MutatingWebhookConfiguration{Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: HookName,
			ClientConfig: admissionregistrationv1.WebhookClientConfig{
				Service: &admissionregistrationv1.ServiceReference{Namespace: "agentlet-system", Name: "agentlet"},
			},
		}}},
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "agentlet-system", Name: "agentlet"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "webhook"}},
		},
		replica("runs", corev1.PodRunning, time.Hour), replica("evicted", corev1.PodFailed, 0),
	)
	flags, err := Flags(t.Context(), client)
	if err != nil || !slices.Equal(flags, []string{"--image=runs"}) {
		t.Errorf("%q, %v", flags, err)
	}
}

// TestNamespacesWithFewRights reads a namespace as accounts with different rights do.
func TestNamespacesWithFewRights(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "namespaces"}, "", errors.New("no right"))
	for name, test := range map[string]struct {
		list, get error
		names     []string
		says      string // the error; empty: none
	}{
		"may list":                     {nil, errors.New("not called"), []string{"shop", "new"}, ""},
		"may get":                      {forbidden, nil, []string{"shop", "new"}, ""},
		"may do nothing":               {forbidden, forbidden, []string{"shop"}, `this account may not read it: use one that may get namespaces, or leave --from-cluster out`},
		"may do nothing, and needs to": {forbidden, forbidden, nil, ""},
		"no answer":                    {errors.New("etcd is away"), nil, []string{"shop"}, "read namespaces: etcd is away"},
		"no second answer":             {forbidden, errors.New("etcd is away"), []string{"shop"}, "read namespace shop: etcd is away"},
	} {
		t.Run(name, func(t *testing.T) {
			client := kubefake.NewClientset(&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
				Name: "shop", Annotations: map[string]string{contract.Readiness: "kubelet", contract.ServiceNames: "web", "other": "x"},
			}})
			for verb, err := range map[string]error{"list": test.list, "get": test.get} {
				client.PrependReactor(verb, "namespaces", func(clienttesting.Action) (bool, runtime.Object, error) { return err != nil, nil, err })
			}
			found, err := Namespaces(t.Context(), client, test.names)
			if test.says != "" {
				if err == nil || !strings.Contains(err.Error(), test.says) {
					t.Errorf("want %q, got %v", test.says, err)
				}
				return
			}
			want := map[string]string{contract.Readiness: "kubelet"}
			if test.names == nil {
				want = nil
			}
			if err != nil || !maps.Equal(found["shop"].Annotations, want) || found["new"].Annotations != nil {
				t.Errorf("%v, %v", found, err)
			}
		})
	}
}
