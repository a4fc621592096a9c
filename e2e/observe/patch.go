package observe

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// PatchGate writes a pod's gate as an agentlet does, and returns how long the API server took to answer.
func PatchGate(ctx context.Context, client kubernetes.Interface, pod *corev1.Pod, open bool) (time.Duration, error) {
	body, err := gatePatch(pod.UID, open, time.Now())
	if err != nil {
		return 0, err
	}
	began := time.Now()
	_, err = client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{},
		"status")
	return time.Since(began), err
}

func gatePatch(uid types.UID, open bool, now time.Time) ([]byte, error) {
	status := corev1.ConditionFalse
	if open {
		status = corev1.ConditionTrue
	}
	body, err := json.Marshal(map[string]any{
		"metadata": map[string]any{"uid": uid},
		"status": map[string]any{"conditions": []any{map[string]any{
			"type": contract.Condition, "status": status, "reason": contract.Registered, "message": "a measurement",
			"lastTransitionTime": now.UTC().Format(time.RFC3339),
		}}},
	})
	if err != nil {
		return nil, fmt.Errorf("encode the gate of %s: %w", uid, err)
	}
	return body, nil
}
