package real

import (
	"context"
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/chaos"
)

// changes maps each change of the table to its function.
func changes() map[string]change {
	return map[string]change{
		"rollout":             rollout,
		"scaling":             scaling,
		"eviction":            eviction,
		"deletion":            deletion(chaos.GracePeriod.Seconds()),
		"deletion by force":   deletion(0),
		"deadline":            deadline,
		"annotations changed": annotated,
	}
}

// patch patches the Deployment.
func (w *World) patch(ctx context.Context, patch map[string]any) error {
	body, err := json.Marshal(map[string]any{"spec": patch})
	if err != nil {
		return err
	}
	return eventually(ctx, "change the deployment", func(ctx context.Context) error {
		_, err := w.Kube.AppsV1().Deployments(w.Namespace).Patch(ctx, workload, types.StrategicMergePatchType, body,
			metav1.PatchOptions{})
		return err
	})
}

// rollout replaces the pods by those of another variant; the step's Pick selects it.
func rollout(ctx context.Context, w *World, step chaos.Step) (string, error) {
	policy, readiness := contract.GateOnce, contract.ReadinessKubelet
	if step.Pick&1 > 0 {
		policy = contract.GateContinuous
	}
	if step.Pick&2 > 0 {
		readiness = contract.ReadinessProbe
	}
	annotations := map[string]string{
		contract.GatePolicy: string(policy), contract.Readiness: string(readiness), "chaos.agentlet.test/step": fmt.Sprint(step.Number),
	}
	return fmt.Sprintf("gate-policy=%s, readiness=%s", policy, readiness),
		w.patch(ctx, map[string]any{"template": map[string]any{"metadata": map[string]any{"annotations": annotations}}})
}

func scaling(ctx context.Context, w *World, step chaos.Step) (string, error) {
	replicas := fewReplicas + step.Pick%(manyReplicas-fewReplicas+1)
	return fmt.Sprintf("to %d replicas", replicas), w.patch(ctx, map[string]any{"replicas": replicas})
}

// any returns a Ready pod of the workload.
func (w *World) any(ctx context.Context, step chaos.Step) (*corev1.Pod, error) {
	var all []*corev1.Pod
	for node := range w.Cluster.Nodes {
		for _, pod := range w.readyOn(ctx, node) {
			if pod.Labels["app"] == w.Template.Labels["app"] {
				all = append(all, pod)
			}
		}
	}
	if len(all) == 0 {
		return nil, fmt.Errorf("%w: no Ready pod", chaos.ErrNothing)
	}
	return all[step.Pick%len(all)], nil
}

// eviction evicts a pod, as kubectl drain does. The PodDisruptionBudget may not allow it.
func eviction(ctx context.Context, w *World, step chaos.Step) (string, error) {
	pod, err := w.any(ctx, step)
	if err != nil {
		return "", err
	}
	err = eventually(ctx, "evict "+pod.Name, func(ctx context.Context) error {
		err := w.Kube.PolicyV1().Evictions(w.Namespace).Evict(ctx,
			&policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: w.Namespace}})
		if apierrors.IsTooManyRequests(err) || apierrors.IsNotFound(err) {
			return fmt.Errorf("%w: %w", chaos.ErrNothing, err)
		}
		return err
	})
	return pod.Name, err
}

func deletion(grace float64) change {
	return func(ctx context.Context, w *World, step chaos.Step) (string, error) {
		pod, err := w.any(ctx, step)
		if err != nil {
			return "", err
		}
		err = eventually(ctx, "delete "+pod.Name, func(ctx context.Context) error {
			err := w.Kube.CoreV1().Pods(w.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64(grace))})
			if apierrors.IsNotFound(err) {
				return fmt.Errorf("%w: %w", chaos.ErrNothing, err)
			}
			return err
		})
		return pod.Name, err
	}
}

// overdue is the label of pods with an activeDeadlineSeconds.
const overdue = "overdue"

// deadline creates a pod that the kubelet ends by itself when its activeDeadlineSeconds are over.
func deadline(ctx context.Context, w *World, step chaos.Step) (string, error) {
	pod := &corev1.Pod{ObjectMeta: *w.Template.ObjectMeta.DeepCopy(), Spec: *w.Template.Spec.DeepCopy()}
	pod.Name, pod.Labels = fmt.Sprintf("overdue-%d", step.Number), map[string]string{"app": overdue}
	pod.Spec.ActiveDeadlineSeconds = new(int64(10 + step.Pick%20))
	pod.Spec.TopologySpreadConstraints = nil
	err := eventually(ctx, "create "+pod.Name, func(ctx context.Context) error {
		_, err := w.Kube.CoreV1().Pods(w.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		if apierrors.IsAlreadyExists(err) {
			return nil
		}
		return err
	})
	return fmt.Sprintf("%s after %d s", pod.Name, *pod.Spec.ActiveDeadlineSeconds), err
}

// annotated changes a running pod's tags by its annotation.
func annotated(ctx context.Context, w *World, step chaos.Step) (string, error) {
	pod, err := w.any(ctx, step)
	if err != nil {
		return "", err
	}
	tag := fmt.Sprintf("v%d", step.Number)
	body := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, contract.ServiceTags, tag)
	err = eventually(ctx, "annotate "+pod.Name, func(ctx context.Context) error {
		_, err := w.Kube.CoreV1().Pods(w.Namespace).Patch(ctx, pod.Name, types.MergePatchType, body, metav1.PatchOptions{})
		if apierrors.IsNotFound(err) {
			return fmt.Errorf("%w: %w", chaos.ErrNothing, err)
		}
		return err
	})
	return pod.Name + " to " + tag, err
}
