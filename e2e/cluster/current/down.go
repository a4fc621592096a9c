package current

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// downTimeout is for the end of all pods, which drain.
const downTimeout = 6 * time.Minute

// clusterScoped are the kinds of the chart that are in no namespace. Some outlive the release, for pods that run on.
const clusterScoped = "mutatingwebhookconfigurations,validatingwebhookconfigurations,validatingadmissionpolicybindings," +
	"validatingadmissionpolicies,clusterrolebindings,clusterroles"

// Down removes all that was made, also by an earlier run, and returns an error if something is left. It goes on after errors.
func (c *Cluster) Down(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, downTimeout)
	defer cancel()
	var errs []error
	kubectl := func(args ...string) string {
		out, err := c.Kubectl(ctx, args...)
		if err != nil {
			errs = append(errs, err)
			return ""
		}
		return out
	}
	applications := Label + "=" + Applications
	made, err := c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: Label})
	if err != nil { // what is another's can't be told then
		return fmt.Errorf("list the namespaces to remove, which %s tries again: %w", Remove, err)
	}
	// Workloads first: with the namespace their right to write gates would go, while they drain.
	installed := false
	for i := range made.Items {
		namespace := &made.Items[i]
		installed = installed || namespace.Name == SystemNamespace
		if namespace.Labels[Label] == Applications {
			kubectl("-n", namespace.Name, "delete", "deployments,statefulsets,jobs,pods", "--all", "--timeout=90s")
		}
	}
	kubectl("delete", "namespaces", "-l", applications, "--timeout=2m")
	if installed {
		errs = append(errs, c.helm(ctx, "", "uninstall", Release, "--ignore-not-found", "--wait", "--timeout=2m"))
	}
	kubectl("delete", clusterScoped, "-l", "app.kubernetes.io/instance="+Release)
	kubectl("delete", "namespaces", "-l", Label, "--timeout=2m")
	for _, kinds := range []string{"namespaces -l " + Label, clusterScoped + " -l app.kubernetes.io/instance=" + Release} {
		if left := strings.TrimSpace(kubectl(append([]string{"get", "-o", "name"}, strings.Fields(kinds)...)...)); left != "" {
			errs = append(errs, fmt.Errorf("left in the cluster: %s", strings.Join(strings.Fields(left), ", ")))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove what was made, which %s tries again: %w", Remove, err)
	}
	return nil
}
