package current

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Time limits of Down's steps, together less than ten minutes. The pods of all namespaces drain at the same time.
const (
	drainTimeout     = 90 * time.Second
	namespaceTimeout = 2 * time.Minute
	uninstallTimeout = 2 * time.Minute
	objectsTimeout   = 30 * time.Second
	lookTimeout      = 15 * time.Second
	// toSay is how much later than its own time limit a program is killed. Until then it says what it waits for.
	toSay = 5 * time.Second
)

// clusterScoped are the kinds of the chart that are in no namespace. Some outlive the release, for pods that run on.
const clusterScoped = "mutatingwebhookconfigurations,validatingwebhookconfigurations,validatingadmissionpolicybindings," +
	"validatingadmissionpolicies,clusterrolebindings,clusterroles"

// Down removes all that was made, also by an earlier run, and returns an error if something is left. It goes on after errors.
// Each step has a time limit of its own, so that one which hangs leaves the others theirs.
func (c *Cluster) Down(ctx context.Context) error {
	var mu sync.Mutex
	var errs []error
	failed := func(err error) {
		mu.Lock()
		defer mu.Unlock()
		errs = append(errs, err)
	}
	kubectl := func(limit time.Duration, args ...string) string {
		ctx, cancel := context.WithTimeout(ctx, limit+toSay)
		defer cancel()
		out, err := c.Kubectl(ctx, args...)
		if err != nil {
			failed(err)
			return ""
		}
		return out
	}
	remove := func(limit time.Duration, args ...string) {
		kubectl(limit, append(args, "--timeout="+limit.String())...)
	}
	made, err := c.made(ctx)
	if err != nil { // what is another's can't be told then
		return fmt.Errorf("list the namespaces to remove, which %s tries again: %w", Remove, err)
	}
	// Workloads first: with the namespace their right to write gates would go, while they drain.
	installed := false
	var drains sync.WaitGroup
	for i := range made {
		name := made[i].Name
		installed = installed || name == SystemNamespace
		if made[i].Labels[Label] == Applications {
			drains.Go(func() { remove(drainTimeout, "-n", name, "delete", "deployments,statefulsets,jobs,pods", "--all") })
		}
	}
	drains.Wait()
	remove(namespaceTimeout, "delete", "namespaces", "-l", Label+"="+Applications)
	if installed {
		failed(c.uninstall(ctx))
	}
	remove(objectsTimeout, "delete", clusterScoped, "-l", "app.kubernetes.io/instance="+Release)
	remove(namespaceTimeout, "delete", "namespaces", "-l", Label)
	for _, kinds := range []string{"namespaces -l " + Label, clusterScoped + " -l app.kubernetes.io/instance=" + Release} {
		left := kubectl(lookTimeout, append([]string{"get", "-o", "name"}, strings.Fields(kinds)...)...)
		if names := strings.Fields(left); len(names) > 0 {
			failed(fmt.Errorf("left in the cluster: %s", strings.Join(names, ", ")))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("remove what was made, which %s tries again: %w", Remove, err)
	}
	return nil
}

// made returns the namespaces that runs have made.
func (c *Cluster) made(ctx context.Context) ([]corev1.Namespace, error) {
	ctx, cancel := context.WithTimeout(ctx, lookTimeout)
	defer cancel()
	namespaces, err := c.Kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{LabelSelector: Label})
	if err != nil {
		return nil, err
	}
	return namespaces.Items, nil
}

// uninstall removes the release.
func (c *Cluster) uninstall(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, uninstallTimeout+toSay)
	defer cancel()
	return c.helm(ctx, "", "uninstall", Release, "--ignore-not-found", "--wait", "--timeout="+uninstallTimeout.String())
}
