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
	"github.com/agentlet/agentlet/e2e/load/driver"
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

// remove deletes a Deployment, and waits until its pods are gone.
func (r *rollout) remove(ctx context.Context, env *scenario.Env, name string) error {
	background := metav1.DeletePropagationBackground
	err := env.Kube.AppsV1().Deployments(namespace).Delete(ctx, name, metav1.DeleteOptions{PropagationPolicy: &background})
	if apierrors.IsNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove deployment: %w", err)
	}
	left := replicas
	line := func() string { return fmt.Sprintf("waiting for the end of %s: pods left: %d", name, left) }
	return r.screen.follow(ctx, func(int) []string { return []string{line()} }, line, func(ctx context.Context) (bool, error) {
		pods, err := env.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=" + name})
		if err != nil {
			return false, fmt.Errorf("list pods: %w", err)
		}
		left = len(pods.Items)
		return left == 0, nil
	})
}

// create creates the example's Deployment. For the demo, the sample also reports its SIGTERM to the collector.
func (r *rollout) create(ctx context.Context, env *scenario.Env, collector string) error {
	content, err := os.ReadFile(filepath.Join(env.Root, workload))
	if err != nil {
		return fmt.Errorf("read example: %w", err)
	}
	deployment, err := r.deployment(content)
	if err != nil {
		return err
	}
	application := &deployment.Spec.Template.Spec.Containers[0]
	application.Env = append(application.Env, driver.Reporting(collector)...)
	_, err = env.Kube.AppsV1().Deployments(namespace).Create(ctx, deployment, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create deployment: %w", err)
	}
	return nil
}

// deployment returns the Deployment of this kind, made from the example's manifest.
func (k kind) deployment(manifest []byte) (*appsv1.Deployment, error) {
	var deployment appsv1.Deployment
	if err := yaml.UnmarshalStrict(manifest, &deployment); err != nil {
		return nil, fmt.Errorf("decode %s: %w", workload, err)
	}
	if n := deployment.Spec.Replicas; deployment.Name != web || n == nil || *n != replicas {
		return nil, fmt.Errorf("%s: want the Deployment %s with %d replicas", workload, web, replicas)
	}
	if k.adapt != nil {
		k.adapt(&deployment)
	}
	return &deployment, nil
}

// registerByHand takes Agentlet's annotations out of the Deployment, and adds a sidecar that registers its pods.
func registerByHand(deployment *appsv1.Deployment) {
	name := byHand
	deployment.Name, deployment.Labels = name, map[string]string{"app": name}
	deployment.Spec.Selector = &metav1.LabelSelector{MatchLabels: deployment.Labels}
	template := &deployment.Spec.Template
	template.Labels, template.Annotations = deployment.Labels, nil
	sidecar := corev1.Container{
		Name: "register", Image: template.Spec.Containers[0].Image, ImagePullPolicy: corev1.PullIfNotPresent,
		Args: []string{"register", name},
	}
	for _, field := range []struct{ name, path string }{
		{"POD_NAME", "metadata.name"}, {"POD_UID", "metadata.uid"}, {"POD_IP", "status.podIP"}, {"HOST_IP", "status.hostIP"},
	} {
		source := &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: field.path}}
		sidecar.Env = append(sidecar.Env, corev1.EnvVar{Name: field.name, ValueFrom: source})
	}
	sidecar.Env = append(sidecar.Env, corev1.EnvVar{Name: "CONSUL_HTTP_ADDR", Value: "http://$(HOST_IP):8500"})
	template.Spec.Containers = append(template.Spec.Containers, sidecar)
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
