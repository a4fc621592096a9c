package scenarios_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// TestFaultGateClosedByAnother closes an open gate twice in a row by another user with that right, so that the second time
// collides with the agentlet's own write.
func TestFaultGateClosedByAnother(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	const tries = 13
	var slowest time.Duration
	s.Given("an open gate", func() { running(s, "pod", s.Sample(s.Annotations())) })
	s.When("another user closes it twice in a row, again and again", func() {
		for try := range tries {
			for range 2 {
				patch := fmt.Appendf(nil, `{"status":{"conditions":[{"type":%q,"status":"False","reason":"ByHand","message":"try %d"}]}}`, contract.Condition, try)
				_, err := s.Kube.CoreV1().Pods(s.Namespace).Patch(s.Ctx, "pod", types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
				s.Must(err)
				time.Sleep(time.Duration(try) * 3 * time.Millisecond) // machines differ in when it collides, so vary it
			}
			began := time.Now()
			s.Within(20*time.Second, fmt.Sprintf("the gate to be open again after try %d", try), func(context.Context) (bool, error) {
				gate := gateOf(s, "pod")
				return gate.Status == corev1.ConditionTrue, fmt.Errorf("gate %s %s", gate.Status, gate.Reason)
			})
			slowest = max(slowest, time.Since(began))
		}
	})
	s.Then("it was opened each time", func() {
		told(s, "another closes the gate twice in a row", fmt.Sprintf("opened again in %d of %d tries; the time is the slowest", tries, tries), slowest)
	})
}

// TestFaultOwnCheckFails makes a service's own check fail while its containers are ready.
func TestFaultOwnCheckFails(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	var pod *corev1.Pod
	s.Given("an open gate of a service with a check of its own", func() {
		template := s.Sample(s.Annotations("service-names", "", "services",
			fmt.Sprintf("[{name: %s, port: 8080, checks: [{name: web, http: /ready, interval: 1s}]}]", s.Service())))
		template.Spec.Containers[0].ReadinessProbe = nil
		pod = running(s, "pod", template)
	})
	answered := fmt.Sprintf("web (HTTP GET http://%s:8080/ready: 503 Service Unavailable)", pod.Status.PodIP)
	s.When("the check fails", func() { s.Must(put(s, pod, "/unready")) })
	began := time.Now()
	s.Then("gate and event name the check with its output, and the gate stays open", func() {
		events := awaitEvents(s, pod, "Normal Registered", "Warning CheckFailing")
		if got := events[1].Message; !strings.Contains(got, answered) {
			s.Errorf("the event says %q, want %q", got, answered)
		}
		s.Eventually("the gate's message", func(context.Context) (bool, error) {
			gate := gateOf(s, "pod")
			return gate.Status == corev1.ConditionTrue && strings.Contains(gate.Message, answered), fmt.Errorf("%s: %s", gate.Status, gate.Message)
		})
		told(s, "a check of the service's own fails", "gate open; the message and an event name the check, its URL and its answer", time.Since(began))
	})
	s.Then("/status says critical", func() {
		if got := statusOf(s, pod).Services[0]; got.Catalog != contract.Critical || !strings.Contains(got.Failing, answered) {
			s.Errorf("status: %+v", got)
		}
	})
	s.When("the check passes again", func() { s.Must(put(s, pod, "/ready")) })
	s.Then("the gate says so; the event is delayed, as each is created once in five minutes", func() {
		s.Eventually("the gate's message", func(context.Context) (bool, error) {
			gate := gateOf(s, "pod")
			return !strings.Contains(gate.Message, "failing"), fmt.Errorf("%s", gate.Message)
		})
	})
}

// TestFaultConsulDiskFull starts a pod at an agent that can't write its registration to disk.
func TestFaultConsulDiskFull(t *testing.T) {
	s := scenario.New(t)
	whole(s)
	node := s.Cluster.Nodes[0]
	s.Given("a node whose Consul agent has no space left", func() { s.Must(node.FillConsulDisk()) })
	var pod *corev1.Pod
	s.When("a pod starts there", func() {
		_, err := s.CreatePod("pod", pinned(s, node))
		s.Must(err)
	})
	s.Then("its gate and an event contain the agent's answer, and are written once", func() {
		s.Eventually("the gate's reason", func(context.Context) (bool, error) {
			gate := gateOf(s, "pod")
			return gate.Reason == string(contract.RegistrationFailed) && strings.Contains(gate.Message, "no space left on device"),
				fmt.Errorf("%s: %s", gate.Reason, gate.Message)
		})
		pod = s.Pod("pod")
		awaitEvents(s, pod, "Warning RegistrationFailed")
		before := gateOf(s, "pod").Message
		s.Pause(10 * time.Second)
		if after := gateOf(s, "pod").Message; after != before {
			s.Errorf("the gate says something else at each try: %q, then %q", before, after)
		}
	})
	s.When("there is space again", func() { s.Must(node.FreeConsulDisk()) })
	began := time.Now()
	s.Then("the gate opens by itself", func() {
		s.AwaitReady("pod")
		s.AwaitCatalog(s.Service(), 1)
		told(s, "a node's Consul agent without space on its disk when a pod starts",
			"gate False, RegistrationFailed, with the agent's answer; the time is from the space's return to Ready", time.Since(began))
	})
}

// statusOf returns the status of a pod's agentlet.
func statusOf(s *scenario.S, pod *corev1.Pod) contract.Status {
	s.Helper()
	text, err := scenario.Get(s.Ctx, "http://"+pod.Status.PodIP+":19500"+contract.StatusPath)
	s.Must(err)
	var status contract.Status
	s.Must(json.Unmarshal(text, &status))
	return status
}
