// Package dryrun has the API server call the webhook, by a pod that is created as a dry run. Nothing else shows that the API
// server reaches the webhook and trusts what it serves.
package dryrun

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// Service is what the pod asks to register.
const Service = "agentlet-check"

// ErrNotInjected is a pod that was accepted without an agentlet.
var ErrNotInjected = errors.New("the pod is not injected")

const (
	pause = time.Second
	// callTimeout bounds one attempt: the API server waits up to 30 s for a webhook.
	callTimeout = 35 * time.Second
)

// Once creates one such pod, with these labels. It returns nil where the pod was injected, ErrNotInjected where it was not,
// and the API server's own error where it refuses the pod.
func Once(ctx context.Context, client kubernetes.Interface, namespace string, labels map[string]string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	pod, err := client.CoreV1().Pods(namespace).Create(ctx, probe(labels), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	switch {
	case err != nil:
		return err
	case registration.Agentlet(pod) == nil:
		return ErrNotInjected
	default:
		return nil
	}
}

// Until tries it until a pod is injected or the time is over, since a namespace that was just made is not known to everybody
// at once. The last reason why not is in the error.
func Until(
	ctx context.Context,
	timeout time.Duration,
	client kubernetes.Interface,
	namespace string,
	labels map[string]string,
) error {
	last := errors.New("it was not tried")
	err := wait.PollUntilContextTimeout(ctx, pause, timeout, true, func(ctx context.Context) (bool, error) {
		err := Once(ctx, client, namespace, labels)
		if err != nil && ctx.Err() == nil {
			last = err
		}
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("create a pod in namespace %s as a dry run: %w", namespace, last)
	}
	return nil
}

// probe is a pod that asks for an agentlet, and that any Pod Security Standard lets pass. It never runs.
func probe(labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: Service + "-", Labels: labels, Annotations: map[string]string{contract.ServiceNames: Service},
		},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), RunAsUser: new(int64(65532)),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "check", Image: Service, Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
				SecurityContext: &corev1.SecurityContext{
					AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				},
			}},
		},
	}
}
