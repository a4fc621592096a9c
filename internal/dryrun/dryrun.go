// Package dryrun makes the API server call the webhook, by creating a pod in a dry run. Only this proves that the API server
// reaches the webhook and trusts its certificate.
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

// Service is the service name that the pod requests.
const Service = "agentlet-check"

// ErrNotInjected means that the pod was accepted without an agentlet.
var ErrNotInjected = errors.New("the pod is not injected")

const (
	pause = time.Second
	// callTimeout bounds one attempt: the API server waits up to 30 s for a webhook.
	callTimeout = 35 * time.Second
)

// Once creates one such pod, with these labels. It returns nil if the pod was injected, ErrNotInjected if it was not, and the API
// server's own error if it rejects the pod.
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

// Until repeats Once until a pod is injected or the time is over, because all components may not know a new namespace at once.
// The error contains the last reason.
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

// probe returns a pod that requests an agentlet. Every Pod Security Standard and OpenShift's restricted-v2 allow it. It never
// runs, so it needs no user.
func probe(labels map[string]string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			GenerateName: Service + "-", Labels: labels, Annotations: map[string]string{contract.ServiceNames: Service},
		},
		Spec: corev1.PodSpec{
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot:   new(true),
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
