package scenario

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/e2e/load/driver"
)

// Annotations returns the annotations of a pod that registers one service, named after the scenario's namespace. pairs adds to
// them: keys without their prefix, each followed by its value. An empty value removes the key.
func (s *S) Annotations(pairs ...string) map[string]string {
	annotations := map[string]string{contract.ServiceNames: s.Service()}
	if s.Placement != "" {
		annotations[contract.Placement] = string(s.Placement)
	}
	for i := 0; i+1 < len(pairs); i += 2 {
		if key := contract.Prefix + pairs[i]; pairs[i+1] == "" {
			delete(annotations, key)
		} else {
			annotations[key] = pairs[i+1]
		}
	}
	return annotations
}

// Service returns the name of the scenario's service.
func (s *S) Service() string { return s.Namespace }

// Sample returns a pod template with the sample application and these annotations.
func (s *S) Sample(annotations map[string]string) corev1.PodTemplateSpec {
	field := func(name, path string) corev1.EnvVar {
		return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}}
	}
	no := false
	return corev1.PodTemplateSpec{
		ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "sample"}, Annotations: annotations},
		Spec: corev1.PodSpec{
			EnableServiceLinks: &no,
			Containers: []corev1.Container{{
				Name: "app", Image: s.SampleImage(), Command: []string{driver.Sample}, ImagePullPolicy: corev1.PullIfNotPresent,
				Env:   []corev1.EnvVar{field("POD_NAME", "metadata.name"), field("POD_UID", "metadata.uid")},
				Ports: []corev1.ContainerPort{{Name: "http", ContainerPort: 8080}},
				ReadinessProbe: &corev1.Probe{
					ProbeHandler:  corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(8080)}},
					PeriodSeconds: 1,
				},
			}},
		},
	}
}

// SetEnv sets an environment variable of the template's first container.
func SetEnv(template *corev1.PodTemplateSpec, name, value string) {
	template.Spec.Containers[0].Env = append(template.Spec.Containers[0].Env, corev1.EnvVar{Name: name, Value: value})
}

// Deployment creates a Deployment "sample".
func (s *S) Deployment(replicas int32, template corev1.PodTemplateSpec) *appsv1.Deployment {
	s.Helper()
	deployment, err := s.Kube.AppsV1().Deployments(s.Namespace).Create(s.Ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: "sample"},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
			Template: template,
		},
	}, metav1.CreateOptions{})
	s.must("create deployment", err)
	return deployment
}

// Rollout waits until all pods of the Deployment "sample" are ready and of its newest revision.
func (s *S) Rollout() {
	s.Helper()
	s.Eventually("the rollout", func(ctx context.Context) (bool, error) {
		d, err := s.Kube.AppsV1().Deployments(s.Namespace).Get(ctx, "sample", metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		n := *d.Spec.Replicas
		done := d.Status.ObservedGeneration >= d.Generation && d.Status.UpdatedReplicas == n && d.Status.Replicas == n &&
			d.Status.ReadyReplicas == n
		return done, fmt.Errorf("%d updated, %d in all, %d ready of %d", d.Status.UpdatedReplicas, d.Status.Replicas,
			d.Status.ReadyReplicas, n)
	})
}

// Restart begins a rolling restart of the Deployment "sample", as `kubectl rollout restart` does.
func (s *S) Restart() {
	s.Helper()
	_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "rollout", "restart", "deployment/sample")
	s.Must(err)
}

// Scale sets the Deployment's replicas.
func (s *S) Scale(replicas int) {
	s.Helper()
	patch := fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas)
	_, err := s.Kube.AppsV1().Deployments(s.Namespace).Patch(s.Ctx, "sample", types.MergePatchType, patch, metav1.PatchOptions{})
	s.must("scale", err)
}

// Pods returns the scenario's pods, sorted by name.
func (s *S) Pods(ctx context.Context) []corev1.Pod {
	s.Helper()
	list, err := s.Kube.CoreV1().Pods(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=sample"})
	s.must("list pods", err)
	slices.SortFunc(list.Items, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return list.Items
}

// CreatePod creates a pod from the template. The error is that of the API server, admission included.
func (s *S) CreatePod(name string, template corev1.PodTemplateSpec) (*corev1.Pod, error) {
	pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
	pod.Name = name
	return s.Kube.CoreV1().Pods(s.Namespace).Create(s.Ctx, pod, metav1.CreateOptions{})
}

// Pod reads the pod from the API server.
func (s *S) Pod(name string) *corev1.Pod {
	s.Helper()
	pod, err := s.Kube.CoreV1().Pods(s.Namespace).Get(s.Ctx, name, metav1.GetOptions{})
	s.must("get pod", err)
	return pod
}

// Condition returns a pod's condition of this type, or the zero condition.
func Condition(pod *corev1.Pod, kind corev1.PodConditionType) corev1.PodCondition {
	for _, c := range pod.Status.Conditions {
		if c.Type == kind {
			return c
		}
	}
	return corev1.PodCondition{}
}

// IsReady reports whether the pod is Ready.
func IsReady(pod *corev1.Pod) bool {
	return Condition(pod, corev1.PodReady).Status == corev1.ConditionTrue
}

// AwaitReady waits until a pod is Ready and returns it.
func (s *S) AwaitReady(name string) *corev1.Pod {
	s.Helper()
	var pod *corev1.Pod
	s.Eventually(name+" to be Ready", func(ctx context.Context) (ready bool, err error) {
		pod, err = s.Kube.CoreV1().Pods(s.Namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return IsReady(pod), fmt.Errorf("gate: %+v", Condition(pod, contract.Condition))
	})
	return pod
}

// Delete deletes a pod without waiting.
func (s *S) Delete(name string) {
	s.Helper()
	s.must("delete pod", s.Kube.CoreV1().Pods(s.Namespace).Delete(s.Ctx, name, metav1.DeleteOptions{}))
}

// AwaitGone waits until the API server has removed the pod with this UID.
func (s *S) AwaitGone(pod *corev1.Pod) {
	s.Helper()
	s.Eventually(pod.Name+" to be gone", func(ctx context.Context) (bool, error) {
		now, err := s.Kube.CoreV1().Pods(s.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		return apierrors.IsNotFound(err) || err == nil && now.UID != pod.UID, err
	})
}

// Catalog returns the service's entries in the catalog of Consul's servers, sorted by ID.
func (s *S) Catalog(service string) []*api.ServiceEntry {
	s.Helper()
	entries, _, err := s.Consul.Health().Service(service, "", false, (&api.QueryOptions{}).WithContext(s.Ctx))
	s.must("read catalog", err)
	slices.SortFunc(entries, func(a, b *api.ServiceEntry) int { return strings.Compare(a.Service.ID, b.Service.ID) })
	return entries
}

// Passing returns the service's entries whose checks all pass.
func (s *S) Passing(service string) []*api.ServiceEntry {
	s.Helper()
	return slices.DeleteFunc(s.Catalog(service), func(e *api.ServiceEntry) bool {
		return e.Checks.AggregatedStatus() != api.HealthPassing
	})
}

// AwaitCatalog waits until the catalog has n passing instances of the service and no others.
func (s *S) AwaitCatalog(service string, n int) {
	s.Helper()
	s.Eventually(fmt.Sprintf("%d passing instances of %s", n, service), func(context.Context) (bool, error) {
		all, passing := len(s.Catalog(service)), len(s.Passing(service))
		return all == n && passing == n, fmt.Errorf("%d passing of %d", passing, all)
	})
}

// Injected reports whether a pod has the agentlet.
func Injected(pod *corev1.Pod) bool { return registration.Agentlet(pod) != nil }

// AgentletStatus returns the status of a pod's agentlet, wherever it is placed in the pod, or the zero status.
func AgentletStatus(pod *corev1.Pod) corev1.ContainerStatus {
	return ContainerStatus(pod, contract.ContainerName)
}

// ContainerStatus returns the status of a pod's container, or the zero status. The kubelet sorts statuses by name, not by their
// order in the spec.
func ContainerStatus(pod *corev1.Pod, name string) corev1.ContainerStatus {
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if status.Name == name {
			return status
		}
	}
	return corev1.ContainerStatus{}
}
