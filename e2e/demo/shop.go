package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/driver"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// workload is the deployed example.
const workload = "examples/web.yaml"

// openNamespace creates the namespace, or opts an existing one in. It waits for the default service account, without which no pod
// can be created.
func openNamespace(ctx context.Context, kube kubernetes.Interface) error {
	labels := map[string]string{contract.InjectLabel: contract.InjectEnabled}
	_, err := kube.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: namespace, Labels: labels},
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		patch := fmt.Appendf(nil, `{"metadata":{"labels":{%q:%q}}}`, contract.InjectLabel, contract.InjectEnabled)
		_, err = kube.CoreV1().Namespaces().Patch(ctx, namespace, types.MergePatchType, patch, metav1.PatchOptions{})
	}
	if err != nil {
		return fmt.Errorf("open namespace: %w", err)
	}
	return await(ctx, "the namespace's service account", func(ctx context.Context) (bool, error) {
		_, err := kube.CoreV1().ServiceAccounts(namespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, ignoreNotFound(err)
	})
}

// removeDeployment deletes the Deployment of an earlier run, and waits until its pods are gone.
func removeDeployment(ctx context.Context, kube kubernetes.Interface) error {
	background := metav1.DeletePropagationBackground
	err := kube.AppsV1().Deployments(namespace).Delete(ctx, service, metav1.DeleteOptions{PropagationPolicy: &background})
	if err = ignoreNotFound(err); err != nil {
		return fmt.Errorf("remove earlier deployment: %w", err)
	}
	return await(ctx, "the end of an earlier run's pods", func(ctx context.Context) (bool, error) {
		pods, err := kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + service})
		return err == nil && len(pods.Items) == 0, err
	})
}

// createDeployment creates the example's Deployment. For the demo, the sample also reports its SIGTERM to the collector.
func createDeployment(ctx context.Context, env *scenario.Env, collector string) error {
	content, err := os.ReadFile(filepath.Join(env.Root, workload))
	if err != nil {
		return fmt.Errorf("read example: %w", err)
	}
	var deployment appsv1.Deployment
	if err := yaml.UnmarshalStrict(content, &deployment); err != nil {
		return fmt.Errorf("decode %s: %w", workload, err)
	}
	if n := deployment.Spec.Replicas; deployment.Name != service || n == nil || *n != replicas {
		return fmt.Errorf("%s: want the Deployment %s with %d replicas", workload, service, replicas)
	}
	application := &deployment.Spec.Template.Spec.Containers[0]
	application.Env = append(application.Env, driver.Reporting(collector)...)
	_, err = env.Kube.AppsV1().Deployments(namespace).Create(ctx, &deployment, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create deployment: %w", err)
	}
	return nil
}

// await polls a condition for up to a minute. An error ends it.
func await(ctx context.Context, what string, condition wait.ConditionWithContextFunc) error {
	err := wait.PollUntilContextTimeout(ctx, frame, time.Minute, true, condition)
	if errors.Is(err, context.DeadlineExceeded) {
		err = errors.New("not within a minute")
	}
	if err != nil {
		return fmt.Errorf("wait for %s: %w", what, err)
	}
	return nil
}

func ignoreNotFound(err error) error {
	if apierrors.IsNotFound(err) {
		return nil
	}
	return err
}
