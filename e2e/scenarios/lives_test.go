package scenarios_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

func TestBasicUnlabelledNamespaceIsUntouched(t *testing.T) {
	s := scenario.New(t, scenario.Anywhere(), scenario.Parallel(), scenario.Label(contract.InjectLabel, ""))
	s.When("an annotated pod is created in a namespace that did not opt in", func() {
		_, err := s.CreatePod("plain", s.Sample(s.Annotations()))
		s.Must(err)
		s.AwaitReady("plain")
	})
	s.Then("it is unchanged", func() {
		pod := s.Pod("plain")
		if scenario.Injected(pod) || len(pod.Spec.ReadinessGates) > 0 || pod.Spec.Containers[0].Lifecycle != nil {
			s.Errorf("the pod was patched: %+v", pod.Spec)
		}
		if n := len(s.Catalog(s.Service())); n != 0 {
			s.Errorf("the catalog has %d instances", n)
		}
	})
}

func TestBasicOptOut(t *testing.T) {
	s := scenario.New(t, scenario.Anywhere(), scenario.Parallel())
	s.When("pods opt out by a label and by an annotation", func() {
		labelled, annotated := s.Sample(s.Annotations()), s.Sample(s.Annotations())
		labelled.Labels[contract.InjectLabel] = contract.InjectDisabled
		annotated.Annotations[contract.InjectLabel] = contract.InjectDisabled
		for name, template := range map[string]corev1.PodTemplateSpec{"labelled": labelled, "annotated": annotated} {
			_, err := s.CreatePod(name, template)
			s.Must(err)
		}
	})
	s.Then("neither is injected", func() {
		for _, name := range []string{"labelled", "annotated"} {
			if scenario.Injected(s.AwaitReady(name)) {
				s.Errorf("%s was injected", name)
			}
		}
	})
}

func TestBasicErrorsAreDeniedAllAtOnce(t *testing.T) {
	s := scenario.New(t, scenario.Anywhere(), scenario.Parallel())
	var denial error
	s.When("a pod with three errors is created", func() {
		_, denial = s.CreatePod("mistaken", s.Sample(s.Annotations(
			"service-port", "web", "heartbeat-ttl", "soon", "gate", "ajar")))
	})
	s.Then("the denial names each key, its value and the form expected", func() {
		if denial == nil {
			s.Fatal("the pod was admitted")
		}
		for _, part := range []string{
			contract.ServicePort, `"web"`, contract.HeartbeatTTL, `"soon"`, "duration", contract.Gate, `"ajar"`, "passing, registered or off",
		} {
			if !strings.Contains(denial.Error(), part) {
				s.Errorf("the denial does not say %s: %v", part, denial)
			}
		}
	})
}

func TestBasicJobCompletes(t *testing.T) {
	s := scenario.New(t, scenario.Anywhere(), scenario.Parallel())
	s.Given("a Job whose pod registers and runs for three seconds", func() {
		template := s.Sample(s.Annotations())
		scenario.SetEnv(&template, "RUN_FOR", "3s")
		template.Spec.RestartPolicy = corev1.RestartPolicyNever
		_, err := s.Kube.BatchV1().Jobs(s.Namespace).Create(s.Ctx, &batchv1.Job{
			ObjectMeta: metav1.ObjectMeta{Name: "sample"},
			Spec:       batchv1.JobSpec{Template: template},
		}, metav1.CreateOptions{})
		s.Must(err)
		s.AwaitCatalog(s.Service(), 1)
	})
	s.Then("the Job completes, and the catalog has no instance", func() {
		s.Eventually("the Job to complete", func(ctx context.Context) (bool, error) {
			job, err := s.Kube.BatchV1().Jobs(s.Namespace).Get(ctx, "sample", metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			return job.Status.Succeeded == 1, nil
		})
		s.AwaitCatalog(s.Service(), 0)
	})
}

func TestBasicStatefulSetPodIsReplacedWithoutConfusion(t *testing.T) {
	s := scenario.New(t, scenario.Anywhere(), scenario.Parallel())
	var first *corev1.Pod
	s.Given("a StatefulSet's pod in the catalog", func() {
		template := s.Sample(s.Annotations())
		replicas := int32(1)
		_, err := s.Kube.AppsV1().StatefulSets(s.Namespace).Create(s.Ctx, &appsv1.StatefulSet{
			ObjectMeta: metav1.ObjectMeta{Name: "db"},
			Spec: appsv1.StatefulSetSpec{
				Replicas: &replicas, Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template,
			},
		}, metav1.CreateOptions{})
		s.Must(err)
		s.Eventually("db-0", func(ctx context.Context) (bool, error) { return len(s.Pods(ctx)) == 1, nil })
		first = s.AwaitReady("db-0")
	})
	s.When("it is deleted and its successor is there", func() {
		s.Delete("db-0")
		s.AwaitGone(first)
		s.Eventually("the successor", func(ctx context.Context) (bool, error) { return len(s.Pods(ctx)) == 1, nil })
		s.AwaitReady("db-0")
	})
	s.Then("the catalog has only the successor", func() {
		s.AwaitCatalog(s.Service(), 1)
		second := s.Pod("db-0")
		entry := s.Catalog(s.Service())[0]
		if got := entry.Service.Meta[contract.MetaPodUID]; got != string(second.UID) {
			s.Errorf("the catalog has UID %s, want the successor's %s", got, second.UID)
		}
		if entry.Service.Address != second.Status.PodIP {
			s.Errorf("the catalog has address %s, want %s", entry.Service.Address, second.Status.PodIP)
		}
	})
}

func TestBasicRestrictedNamespaceWithoutAutomount(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Anywhere(), scenario.Parallel(), scenario.Label("pod-security.kubernetes.io/enforce", "restricted"), placed)
		s.When("a restricted pod without a service account token is created", func() {
			template := s.Sample(s.Annotations())
			restrict(&template)
			no := false
			template.Spec.AutomountServiceAccountToken = &no
			_, err := s.CreatePod("restricted", template)
			s.Must(err)
		})
		s.Then("it is admitted, registered and Ready, and the application still has no token", func() {
			pod := s.AwaitReady("restricted")
			s.AwaitCatalog(s.Service(), 1)
			if mounts := pod.Spec.Containers[0].VolumeMounts; len(mounts) != 0 {
				s.Errorf("the application got mounts: %+v", mounts)
			}
		})
	})
}

// restrict changes a template so that it complies with the Pod Security level restricted.
func restrict(template *corev1.PodTemplateSpec) {
	yes, no, user := true, false, int64(1000)
	template.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		RunAsNonRoot: &yes, RunAsUser: &user, AllowPrivilegeEscalation: &no,
		Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

func TestBasicHostNetwork(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Parallel(), placed)
		var pod *corev1.Pod
		s.Given("a pod on its host's network", func() {
			template := s.Sample(s.Annotations("service-port", "18080"))
			template.Spec.HostNetwork = true
			template.Spec.Containers[0].Ports[0].ContainerPort = 18080
			template.Spec.Containers[0].ReadinessProbe.HTTPGet.Port.IntVal = 18080
			scenario.SetEnv(&template, "PORT", "18080")
			_, err := s.CreatePod("host", template)
			s.Must(err)
			pod = s.AwaitReady("host")
		})
		s.Then("the catalog has the instance at the node's address", func() {
			s.AwaitCatalog(s.Service(), 1)
			if got := s.Catalog(s.Service())[0].Service; got.Address != pod.Status.HostIP || got.Port != 18080 {
				s.Errorf("the catalog has %s:%d, want %s:18080", got.Address, got.Port, pod.Status.HostIP)
			}
			hook := pod.Spec.Containers[0].Lifecycle.PreStop.HTTPGet
			if hook.Host != "127.0.0.1" {
				s.Errorf("the drain hook goes to %q, want 127.0.0.1", hook.Host)
			}
		})
		s.When("it is deleted", func() {
			s.Delete("host")
			s.AwaitGone(pod)
		})
		s.Then("the catalog has removed the instance", func() { s.AwaitCatalog(s.Service(), 0) })
	})
}

func TestBasicScaleToZeroAndBack(t *testing.T) {
	s := scenario.New(t, scenario.Anywhere(), scenario.Parallel())
	s.Given("three replicas in the catalog", func() {
		s.Deployment(3, s.Sample(s.Annotations()))
		s.Rollout()
		s.AwaitCatalog(s.Service(), 3)
	})
	s.When("they are scaled to zero, the catalog is empty", func() {
		s.Scale(0)
		s.AwaitCatalog(s.Service(), 0)
		s.Rollout()
	})
	s.When("they are scaled back, the catalog has them", func() {
		s.Scale(3)
		s.Rollout()
		s.AwaitCatalog(s.Service(), 3)
	})
}

func TestBasicTwoServicesOnOnePod(t *testing.T) {
	s := scenario.New(t, scenario.Anywhere(), scenario.Parallel())
	web, admin := s.Service()+"-web", s.Service()+"-admin"
	s.When("a pod registers two services with different ports", func() {
		template := s.Sample(s.Annotations(
			"service-names", web+","+admin, "service-port."+web, "http", "service-port."+admin, "9090",
			"service-tags."+web, `v1,a\,b`, "service-meta."+admin, "team:core"))
		_, err := s.CreatePod("two", template)
		s.Must(err)
		s.AwaitReady("two")
	})
	s.Then("both are in the catalog as annotated", func() {
		s.AwaitCatalog(web, 1)
		s.AwaitCatalog(admin, 1)
		if got := s.Catalog(web)[0].Service; got.Port != 8080 || !slices.Equal(got.Tags, []string{"v1", "a,b"}) {
			s.Errorf("%s has port %d and tags %q", web, got.Port, got.Tags)
		}
		if got := s.Catalog(admin)[0].Service; got.Port != 9090 || got.Meta["team"] != "core" {
			s.Errorf("%s has port %d and meta %v", admin, got.Port, got.Meta)
		}
	})
}

// TestBasicEviction checks the order of an eviction: the catalog removes the pod before its application gets SIGTERM.
func TestBasicEviction(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Parallel(), placed)
		var f followed
		var pod corev1.Pod
		s.Given("a registered pod of a Deployment", func() {
			f = follow(s, 1)
			pod = s.Pods(s.Ctx)[0]
		})
		s.When("it is evicted", func() {
			s.Must(s.Kube.PolicyV1().Evictions(s.Namespace).Evict(s.Ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: pod.Name, Namespace: s.Namespace}}))
			s.AwaitGone(&pod)
		})
		s.Then("the catalog removed it before it got SIGTERM, and has only its successor", func() {
			if share := sigtermAfterGone(f.timeline.Lives()); share != 1 {
				s.Errorf("SIGTERM came before the catalog had dropped it: %+v", f.timeline.Lives())
			}
			s.Rollout()
			s.AwaitCatalog(s.Service(), 1)
			if uid := s.Catalog(s.Service())[0].Service.Meta[contract.MetaPodUID]; uid == string(pod.UID) {
				s.Error("the catalog still has the evicted pod")
			}
		})
	})
}

// TestBasicKubectlDrain runs alone, because it cordons a node.
func TestBasicKubectlDrain(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, placed)
		var node string
		s.Given("four replicas on two nodes", func() {
			s.Deployment(4, s.Sample(s.Annotations()))
			s.Rollout()
			node = s.Pods(s.Ctx)[0].Spec.NodeName
		})
		s.When("a node is drained", func() {
			s.Afterwards(time.Minute, func(ctx context.Context) {
				if _, err := s.Kubectl(ctx, "uncordon", node); err != nil {
					s.Error(err)
				}
			})
			_, err := s.Kubectl(s.Ctx, "drain", node, "--pod-selector=app=sample", "--ignore-daemonsets", "--timeout=90s")
			s.Must(err)
		})
		s.Then("all replicas are passing on the other node, and nothing is left of the old ones", func() {
			s.Rollout()
			s.AwaitCatalog(s.Service(), 4)
			for _, entry := range s.Catalog(s.Service()) {
				if entry.Service.Meta[contract.MetaNode] == node {
					s.Errorf("%s is still on %s", entry.Service.ID, node)
				}
			}
		})
	})
}
