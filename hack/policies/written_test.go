package policies

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/kube"
)

// TestTheAgentletsOwnWritesPass makes the agentlet's adapter write every reason, with the longest message, and checks the
// requests against the policies.
func TestTheAgentletsOwnWritesPass(t *testing.T) {
	var sent []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		sent = body
		w.Header().Set("Content-Type", "application/json")
		if _, err := io.WriteString(w, `{"apiVersion":"v1","kind":"Pod"}`); err != nil {
			t.Error(err)
		}
	}))
	defer server.Close()
	adapter, err := kube.NewPod(&rest.Config{Host: server.URL, QPS: -1}, "shop", "web", "uid-of-web")
	if err != nil {
		t.Fatal(err)
	}
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ask := func() request {
		return request{
			user:       token("system:serviceaccount:shop:web", map[string]string{"pod-name": "web", "pod-uid": "uid-of-web"}),
			authorizes: map[string]bool{"open gates": true}, namespace: &corev1.Namespace{},
		}
	}
	each(t, "own-pod-gate", func(t *testing.T, c compiled) {
		for _, reason := range contract.Reasons() {
			conditions := []corev1.PodCondition{{
				Type: contract.Condition, Status: corev1.ConditionFalse, Reason: string(reason),
				Message: strings.Repeat("m", contract.MaxConditionMessage), LastTransitionTime: metav1.Now(),
			}, {Type: "example.com/ours", Status: corev1.ConditionTrue, Reason: string(reason)}}
			_, err := adapter.SetConditions(t.Context(), conditions)
			must(t, err)
			before, err := json.Marshal(bigPod())
			must(t, err)
			after, err := strategicpatch.StrategicMergePatch(before, sent, &corev1.Pod{})
			must(t, err)
			now := &corev1.Pod{}
			must(t, json.Unmarshal(after, now))
			if len(now.Status.Conditions) != len(bigPod().Status.Conditions)+2 {
				t.Errorf("%s: %d conditions", reason, len(now.Status.Conditions))
			}
			r := ask()
			r.operation, r.kind, r.resource = admission.Update, corev1.SchemeGroupVersion.WithKind("Pod"), "pods/status"
			r.old, r.now = bigPod(), now
			if denials, _ := c.judge(t, r); len(denials) > 0 {
				t.Errorf("%s: denied by %q", reason, denials)
			}
		}
	})
	each(t, "own-pod-events", func(t *testing.T, c compiled) {
		for _, doc := range contract.Events() {
			must(t, adapter.CreateEvent(t.Context(), agentlet.Event{
				Warning: doc.Warning, Reason: doc.Reason, Message: strings.Repeat("m", contract.MaxEventMessage), At: time.Now(),
			}))
			object, _, err := scheme.Codecs.UniversalDeserializer().Decode(sent, nil, nil)
			must(t, err)
			event, ok := object.(*corev1.Event)
			if !ok {
				t.Fatalf("%T was sent", object)
			}
			// Set the fields that the API server adds.
			event.TypeMeta, event.UID, event.CreationTimestamp = metav1.TypeMeta{APIVersion: "v1", Kind: "Event"}, "u", metav1.Now()
			r := ask()
			r.operation, r.kind, r.resource, r.now = admission.Create, corev1.SchemeGroupVersion.WithKind("Event"), "events", event
			if denials, _ := c.judge(t, r); len(denials) > 0 {
				t.Errorf("%s: denied by %q", doc.Reason, denials)
			}
		}
	})
}
