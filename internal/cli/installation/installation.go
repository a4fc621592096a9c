// Package installation finds an installation of Agentlet in a cluster, and its settings that apply to every injection.
package installation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/injector"
)

// HookName is the name of the webhook that adds agentlets, in its configuration. It doesn't depend on the name of the release.
const HookName = "inject.agentlet.dev"

// Hook returns the webhook among these configurations, with the name of its configuration, or nil if there is none.
func Hook(
	all []admissionregistrationv1.MutatingWebhookConfiguration,
) (configuration string, hook *admissionregistrationv1.MutatingWebhook) {
	for i := range all {
		for k := range all[i].Webhooks {
			if hook := &all[i].Webhooks[k]; hook.Name == HookName {
				return all[i].Name, hook
			}
		}
	}
	return "", nil
}

// Replicas returns the pods behind the webhook's service, or none if the webhook is called by URL. Pods that have ended are left
// out: the API server keeps those that were evicted.
func Replicas(
	ctx context.Context,
	client kubernetes.Interface,
	hook *admissionregistrationv1.MutatingWebhook,
) ([]corev1.Pod, error) {
	at := hook.ClientConfig.Service
	if at == nil {
		return nil, nil
	}
	service, err := client.CoreV1().Services(at.Namespace).Get(ctx, at.Name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("read the webhook's service: %w", err)
	}
	pods, err := client.CoreV1().Pods(at.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.SelectorFromSet(service.Spec.Selector).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("read the webhook's pods: %w", err)
	}
	return slices.DeleteFunc(pods.Items, func(pod corev1.Pod) bool {
		return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
	}), nil
}

// Flags returns those arguments of the webhook's newest pod that are flags.
func Flags(ctx context.Context, client kubernetes.Interface) ([]string, error) {
	list, err := client.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("read webhook configurations: %w", err)
	}
	_, hook := Hook(list.Items)
	if hook == nil {
		return nil, errors.New("no webhook configuration of the cluster holds " + HookName)
	}
	replicas, err := Replicas(ctx, client, hook)
	if err != nil {
		return nil, err
	}
	if len(replicas) == 0 {
		return nil, errors.New("the webhook has no pod whose flags could be read")
	}
	newest := slices.MaxFunc(replicas, func(a, b corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
	var flags []string
	for _, container := range newest.Spec.Containers {
		for _, arg := range container.Args {
			if strings.HasPrefix(arg, "--") {
				flags = append(flags, arg)
			}
		}
	}
	return flags, nil
}

// LimitRanges returns those of a namespace, or of all where it is empty, by their namespaces.
func LimitRanges(ctx context.Context, client kubernetes.Interface, namespace string) (map[string][]corev1.LimitRange, error) {
	list, err := client.CoreV1().LimitRanges(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("read limit ranges: %w", err)
	}
	found := map[string][]corev1.LimitRange{}
	for i := range list.Items {
		found[list.Items[i].Namespace] = append(found[list.Items[i].Namespace], list.Items[i])
	}
	return found, nil
}

// Namespaces returns the annotations and labels that a decision on their pods needs of the namespaces with these names that
// exist, by name. It lists all namespaces. An account that may not do so may usually get those in which it has a role, so these
// are got one by one then.
func Namespaces(ctx context.Context, client kubernetes.Interface, names []string) (map[string]metav1.ObjectMeta, error) {
	found := map[string]metav1.ObjectMeta{}
	list, err := client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	switch {
	case apierrors.IsForbidden(err):
		for _, name := range names {
			namespace, err := client.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
			if apierrors.IsForbidden(err) {
				return nil, fmt.Errorf("namespace %q says by annotations what its pods may register and what their settings are by "+
					"default, and this account may not read it: use one that may get namespaces, or leave --from-cluster out", name)
			}
			if err != nil && !apierrors.IsNotFound(err) {
				return nil, fmt.Errorf("read namespace %s: %w", name, err)
			}
			if err == nil {
				found[name] = needed(namespace)
			}
		}
		return found, nil
	case err != nil:
		return nil, fmt.Errorf("read namespaces: %w", err)
	}
	for i := range list.Items {
		found[list.Items[i].Name] = needed(&list.Items[i])
	}
	return found, nil
}

// needed is what a decision needs of the namespace of its pod.
func needed(namespace *corev1.Namespace) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Annotations: injector.NamespaceAnnotations(namespace.Annotations),
		Labels:      injector.NamespaceLabels(namespace.Labels),
	}
}
