package current

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/internal/cli/installation"
)

// found is what was in the cluster before anything is made.
type found struct {
	hooks      []admissionregistrationv1.MutatingWebhookConfiguration
	namespaces []corev1.Namespace
	nodes      []corev1.Node
}

func (c *Cluster) look(ctx context.Context) (f found, err error) {
	hooks, errHooks := c.Kube.AdmissionregistrationV1().MutatingWebhookConfigurations().List(ctx, metav1.ListOptions{})
	namespaces, errNamespaces := c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	nodes, errNodes := c.Kube.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err := errors.Join(errHooks, errNamespaces, errNodes); err != nil {
		return f, fmt.Errorf("look at the cluster: %w", err)
	}
	return found{hooks.Items, namespaces.Items, nodes.Items}, nil
}

// Remove is the command that removes what an earlier run has left.
const Remove = "make demo-down CLUSTER=current"

// check returns why the cluster can't be used, or the architecture of its nodes.
func (f found) check() (architecture string, err error) {
	for _, namespace := range f.namespaces {
		if _, ours := namespace.Labels[Label]; ours {
			return "", fmt.Errorf("the namespace %s is of another run: wait for its end, or remove what it has left: %s",
				namespace.Name, Remove)
		}
		if slices.Contains([]string{SystemNamespace, ConsulNamespace, shop}, namespace.Name) {
			return "", fmt.Errorf("there is a namespace %s, which is made here, and it has no label %s: delete it, or use another cluster",
				namespace.Name, Label)
		}
	}
	if configuration, hook := installation.Hook(f.hooks); hook != nil {
		return "", fmt.Errorf("agentlet is installed there already (MutatingWebhookConfiguration %s, which calls %s): two of them "+
			"would get into each other's way; use another cluster, or uninstall that one", configuration, called(hook))
	}
	return f.architecture()
}

// called says where a webhook is.
func called(hook *admissionregistrationv1.MutatingWebhook) string {
	if service := hook.ClientConfig.Service; service != nil {
		return "the service " + service.Namespace + "/" + service.Name
	}
	return "a URL"
}

// architecture returns that of the Linux nodes, of which there must be one that takes pods.
func (f found) architecture() (string, error) {
	var all []string
	for _, node := range f.nodes {
		if node.Labels[corev1.LabelOSStable] == "linux" && !node.Spec.Unschedulable {
			all = append(all, node.Labels[corev1.LabelArchStable])
		}
	}
	slices.Sort(all)
	all = slices.Compact(all)
	switch len(all) {
	case 0:
		return "", errors.New("none of its nodes is a Linux node that takes pods")
	case 1:
		return all[0], nil
	}
	return "", fmt.Errorf("its nodes have the architectures %s: want one, as an image for one is built", strings.Join(all, ", "))
}
