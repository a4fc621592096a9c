package scenarios_test

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// inBothPlaces runs a scenario twice: with the agentlet as one of the pod's containers, and as a native sidecar.
func inBothPlaces(t *testing.T, run func(t *testing.T, placed scenario.Option)) {
	t.Helper()
	for _, place := range []contract.PlacementMode{contract.PlacementContainer, contract.PlacementSidecar} {
		t.Run(string(place), func(t *testing.T) { run(t, scenario.Placed(place)) })
	}
}

// TestPlacementIsLast checks that kubectl commands without a container name mean the application's container.
func TestPlacementIsLast(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	var pod *corev1.Pod
	s.Given("a pod without a placement annotation", func() { pod = running(s, "pod", s.Sample(s.Annotations())) })
	s.Then("the agentlet is the last of its containers", func() {
		if n := len(pod.Spec.InitContainers); n > 0 {
			s.Errorf("%d init containers", n)
		}
		if last := pod.Spec.Containers[len(pod.Spec.Containers)-1].Name; last != contract.ContainerName {
			s.Errorf("the last container is %s", last)
		}
	})
	s.Then("kubectl logs and exec use the application's container", func() {
		log, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "logs", "pod")
		s.Must(err)
		if !strings.Contains(log, "Defaulted container \"app\"") || strings.Contains(log, "registered") {
			s.Errorf("logs says\n%s", log)
		}
		out, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "exec", "pod", "--", "/sample", "true")
		s.Must(err)
		if !strings.Contains(out, "Defaulted container \"app\"") {
			s.Errorf("exec says\n%s", out)
		}
	})
}

// TestPlacementSlowPostStart tests slow postStart hooks: the kubelet starts a container after the hooks of those before it, so an
// agentlet that comes last starts late. Nothing is registered before, and nothing is left of a pod that ends meanwhile.
func TestPlacementSlowPostStart(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Parallel(), placed)
		const slow = 5
		template := func(edit func(*corev1.Container)) corev1.PodTemplateSpec {
			template := s.Sample(s.Annotations("drain-delay", "0s"))
			app := &template.Spec.Containers[0]
			app.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: slow}}}
			if edit != nil {
				edit(app)
			}
			return template
		}
		var pod *corev1.Pod
		s.When("an application's postStart hook takes five seconds", func() {
			_, err := s.CreatePod("slow", template(nil))
			s.Must(err)
			pod = s.AwaitReady("slow")
		})
		s.Then("the pod passes when it is Ready, and leaves the catalog when it is deleted", func() {
			s.AwaitCatalog(s.Service(), 1)
			s.Delete("slow")
			s.AwaitCatalog(s.Service(), 0)
			s.AwaitGone(pod)
		})
		s.When("another one is deleted while its hook runs", func() {
			_, err := s.CreatePod("early", template(func(c *corev1.Container) { c.Lifecycle.PostStart.Sleep.Seconds = 25 }))
			s.Must(err)
			s.Eventually("the application's process", func(context.Context) (bool, error) {
				pod = s.Pod("early")
				_, err := scenario.FindProcess("/sample", string(pod.UID))
				return err == nil, err
			})
			s.Delete("early")
			s.AwaitGone(pod)
		})
		s.Then("nothing is left of it", func() { s.AwaitCatalog(s.Service(), 0) })
	})
}

// TestPlacementOutlivesItsGracePeriod tests an application that ignores SIGTERM: it is killed after its grace period. The
// agentlet, whose drain is long over, does not delay this.
func TestPlacementOutlivesItsGracePeriod(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Parallel(), placed)
		timeline := observe.NewTimeline(nil)
		var pod *corev1.Pod
		const grace = 12
		s.Given("a registered pod whose application ignores SIGTERM", func() {
			collector, err := timeline.Collect(s.Ctx, cluster.HostIP)
			s.Must(err)
			template := s.Sample(s.Annotations("drain-delay", "1s"))
			scenario.SetEnv(&template, "COLLECTOR", collector)
			scenario.SetEnv(&template, "LINGER", "5m")
			template.Spec.TerminationGracePeriodSeconds = new(int64(grace))
			_, err = timeline.Pods(s.Ctx, s.Kube, s.Namespace, "app=sample")
			s.Must(err)
			timeline.Catalog(s.Ctx, s.Consul, s.Service())
			pod = running(s, "pod", template)
		})
		began := time.Now()
		s.When("it is deleted", func() {
			s.Must(s.Kube.CoreV1().Pods(s.Namespace).Delete(s.Ctx, "pod", metav1.DeleteOptions{}))
			s.AwaitGone(pod)
		})
		took := time.Since(began)
		s.Then("it was drained before SIGTERM, and killed when the grace period was over", func() {
			if sigtermAfterGone(timeline.Lives()) != 1 {
				s.Errorf("SIGTERM came before the catalog had dropped it: %+v", timeline.Lives())
			}
			if took < grace*time.Second || took > (grace+15)*time.Second {
				s.Errorf("it was gone after %s, and its grace period is %d s", took, grace)
			}
			s.AwaitCatalog(s.Service(), 0)
		})
	})
}
