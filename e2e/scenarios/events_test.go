package scenarios_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

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

// awaitEvents waits until a pod's agentlet has created exactly these events, each a type and a reason, in this order.
func awaitEvents(s *scenario.S, pod *corev1.Pod, want ...string) []corev1.Event {
	s.Helper()
	var events []corev1.Event
	s.Eventually("the events "+strings.Join(want, ", "), func(ctx context.Context) (bool, error) {
		list, err := s.Kube.CoreV1().Events(s.Namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.uid=" + string(pod.UID)})
		if err != nil {
			return false, err
		}
		events = slices.DeleteFunc(list.Items, func(e corev1.Event) bool { return e.ReportingController != contract.ReportingController })
		slices.SortFunc(events, func(a, b corev1.Event) int { return strings.Compare(a.Name, b.Name) })
		var got []string
		for _, e := range events {
			got = append(got, e.Type+" "+e.Reason)
		}
		return slices.Equal(got, want), fmt.Errorf("told: %q", got)
	})
	return events
}
