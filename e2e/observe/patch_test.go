package observe

import (
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestGatePatch(t *testing.T) {
	for open, want := range map[bool]corev1.ConditionStatus{true: corev1.ConditionTrue, false: corev1.ConditionFalse} {
		body, err := gatePatch("1234", open, time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("", 3600)))
		if err != nil {
			t.Fatal(err)
		}
		var pod corev1.Pod
		if err := json.Unmarshal(body, &pod); err != nil {
			t.Fatal(err)
		}
		if len(pod.Status.Conditions) != 1 {
			t.Fatalf("%s has %d conditions, want the gate's alone", body, len(pod.Status.Conditions))
		}
		gate := pod.Status.Conditions[0]
		if pod.UID != "1234" || gate.Type != contract.Condition || gate.Status != want ||
			gate.LastTransitionTime.UTC() != time.Date(2026, 1, 2, 2, 4, 5, 0, time.UTC) {
			t.Errorf("open %t: %s", open, body)
		}
	}
}
