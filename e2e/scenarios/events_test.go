package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

func TestEventsTellAPodsLife(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	var pod *corev1.Pod
	s.Given("a pod in the catalog", func() {
		_, err := s.CreatePod("pod", s.Sample(s.Annotations("drain-delay", "0s")))
		s.Must(err)
		pod = s.AwaitReady("pod")
		awaitEvents(s, pod, "Normal Registered")
	})
	s.When("the agentlet is killed, so that its successor finds the gate open", func() {
		s.Must(scenario.Kill("agentlet run", string(pod.UID)))
		s.Eventually("its restart", func(context.Context) (bool, error) {
			status := scenario.AgentletStatus(s.Pod("pod"))
			return status.RestartCount > 0 && status.State.Running != nil, fmt.Errorf("%+v", status.State)
		})
	})
	s.When("an annotation of the running pod becomes invalid", func() {
		patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:"soon"}}}`, contract.HeartbeatTTL)
		_, err := s.Kube.CoreV1().Pods(s.Namespace).Patch(s.Ctx, "pod", types.MergePatchType, patch, metav1.PatchOptions{})
		s.Must(err)
		events := awaitEvents(s, pod, "Normal Registered", "Warning InvalidConfiguration")
		for _, part := range []string{contract.HeartbeatTTL, `"soon"`} {
			if message := events[1].Message; !strings.Contains(message, part) {
				s.Errorf("the event does not say %s: %s", part, message)
			}
		}
	})
	s.When("the pod is deleted", func() {
		s.Delete("pod")
		s.AwaitGone(pod)
	})
	s.Then("there is one event for each change, in the form of Kubernetes' own", func() {
		events := awaitEvents(s, pod, "Normal Registered", "Warning InvalidConfiguration", "Normal Drained")
		for _, e := range events {
			if e.InvolvedObject.Name != pod.Name || e.InvolvedObject.Kind != "Pod" || e.Count != 1 || e.Message == "" ||
				e.FirstTimestamp.IsZero() || time.Since(e.LastTimestamp.Time) > 5*time.Minute {
				s.Errorf("event %+v", e)
			}
		}
		described, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "events", "--for=pod/pod")
		s.Must(err)
		if !strings.Contains(described, "Drained") {
			s.Errorf("kubectl events does not show it:\n%s", described)
		}
	})
}

// TestEventsTellWhyAGateIsClosed has an application that is never ready, which is no fault of Consul's.
func TestEventsTellWhyAGateIsClosed(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	const told = string(contract.ContainersNotReady)
	s.Given("a pod whose readiness probe fails", func() {
		template := s.Sample(s.Annotations())
		template.Spec.Containers[0].ReadinessProbe.HTTPGet.Port = intstr.FromInt32(8081) // nothing listens there
		_, err := s.CreatePod("pod", template)
		s.Must(err)
	})
	s.Then("kubectl describe pod says what its gate waits for", func() {
		s.Eventually("the event", func(ctx context.Context) (bool, error) {
			described, err := s.Kubectl(ctx, "-n", s.Namespace, "describe", "pod", "pod")
			_, events, _ := strings.Cut(described, "Events:")
			return strings.Contains(events, told) && strings.Contains(events, "not ready: app"), errors.Join(err, errors.New(events))
		})
	})
}

// awaitEvents waits until a pod's agentlet has created exactly these events, each a type and a reason, in this order. That containers
// took longer than 15 seconds to become ready, as on a slow machine, is left out.
func awaitEvents(s *scenario.S, pod *corev1.Pod, want ...string) []corev1.Event {
	s.Helper()
	var events []corev1.Event
	s.Eventually("the events "+strings.Join(want, ", "), func(ctx context.Context) (bool, error) {
		list, err := s.Kube.CoreV1().Events(s.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
		if err != nil {
			return false, err
		}
		events = slices.DeleteFunc(list.Items, func(e corev1.Event) bool {
			return e.ReportingController != contract.ReportingController || e.Reason == string(contract.ContainersNotReady)
		})
		slices.SortFunc(events, func(a, b corev1.Event) int { return strings.Compare(a.Name, b.Name) })
		var got []string
		for _, e := range events {
			got = append(got, e.Type+" "+e.Reason)
		}
		return slices.Equal(got, want), fmt.Errorf("told: %q", got)
	})
	return events
}
