package scenarios_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// awaitGate waits until a pod's gate says this.
func awaitGate(s *scenario.S, name string, status corev1.ConditionStatus, reason contract.Reason) {
	s.Helper()
	s.Eventually(name+" to say "+string(reason), func(context.Context) (bool, error) {
		gate := scenario.Condition(s.Pod(name), contract.Condition)
		return gate.Status == status && gate.Reason == string(reason), fmt.Errorf("the gate: %+v", gate)
	})
}

// TestContractOptOut: a person takes one running pod out of Consul, looks into it, and has it back.
func TestContractOptOut(t *testing.T) {
	s := scenario.New(t, scenario.Anywhere(), scenario.Parallel())
	s.Given("a registered pod", func() { running(s, "web", s.Sample(s.Annotations())) })
	for _, way := range []struct{ what, kind, out, back string }{
		{"its annotation says so", "annotate", contract.InjectLabel + "=" + contract.InjectDisabled, contract.InjectLabel + "-"},
		{"its label says so", "label", contract.InjectLabel + "=" + contract.InjectDisabled, contract.InjectLabel + "-"},
		{"its service names are taken away", "annotate", contract.ServiceNames + "-", contract.ServiceNames + "=" + s.Service()},
	} {
		s.When(way.what, func() {
			_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, way.kind, "pod/web", way.out)
			s.Must(err)
		})
		s.Then("it leaves the catalog and stays Ready, with the reason", func() {
			s.AwaitCatalog(s.Service(), 0)
			awaitGate(s, "web", corev1.ConditionTrue, contract.OptedOut)
			if !scenario.IsReady(s.Pod("web")) {
				s.Error("it is not Ready any more")
			}
		})
		s.When("that is undone", func() {
			_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, way.kind, "pod/web", way.back)
			s.Must(err)
		})
		s.Then("it is back", func() {
			s.AwaitCatalog(s.Service(), 1)
			awaitGate(s, "web", corev1.ConditionTrue, contract.Registered)
		})
	}
}

// TestContractCopy: what kubectl debug makes of a pod has that one's agentlet, and annotations where it only changes an image.
func TestContractCopy(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Anywhere(), scenario.Parallel(), placed)
		s.Given("a registered pod", func() { running(s, "web", s.Sample(s.Annotations())) })
		s.When("kubectl debug copies it", func() {
			said, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "debug", "web", "--copy-to=web-debug", "--set-image=app="+s.SampleImage())
			s.Must(err)
			if !strings.Contains(said, "is taken for a copy") {
				s.Errorf("kubectl says %s", said)
			}
		})
		s.Then("the copy says so, and is not registered when it runs", func() {
			awaitGate(s, "web-debug", corev1.ConditionFalse, contract.CopiedPod)
			s.Eventually("the copy's containers to be ready", func(context.Context) (bool, error) {
				pod := s.Pod("web-debug")
				ready := scenario.Condition(pod, corev1.ContainersReady)
				return ready.Status == corev1.ConditionTrue, fmt.Errorf("%+v", ready)
			})
			s.AwaitCatalog(s.Service(), 1)
			if scenario.IsReady(s.Pod("web-debug")) {
				s.Error("the copy is Ready")
			}
		})
		s.Then("both end as pods do", func() {
			for _, name := range []string{"web-debug", "web"} {
				pod := s.Pod(name)
				s.Delete(name)
				s.AwaitGone(pod)
			}
			s.AwaitCatalog(s.Service(), 0)
		})
	})
}

// TestContractStaticPod: of an annotated static pod the API server takes the mirror, which it refuses with a volume that has a token.
func TestContractStaticPod(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	const kubelet = "node1"
	mirror := filepath.Join(s.TempDir(), "mirror.json")
	s.Given("the mirror of a static pod, as a kubelet creates it", func() {
		node, err := s.Kube.CoreV1().Nodes().Get(s.Ctx, kubelet, metav1.GetOptions{})
		s.Must(err)
		template := s.Sample(s.Annotations())
		pod := &corev1.Pod{
			TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
			ObjectMeta: metav1.ObjectMeta{Name: "edge-" + kubelet, Namespace: s.Namespace, Annotations: template.Annotations},
			Spec:       template.Spec,
		}
		maps.Copy(pod.Annotations, map[string]string{
			corev1.MirrorPodAnnotationKey: "5b1a0f2c", "kubernetes.io/config.hash": "5b1a0f2c", "kubernetes.io/config.source": "file",
		})
		pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Node", Name: kubelet, UID: node.UID, Controller: new(true)}}
		pod.Spec.NodeName = kubelet
		text, err := json.Marshal(pod)
		s.Must(err)
		s.Must(os.WriteFile(mirror, text, 0o600))
	})
	s.Then("the API server takes it, with a warning and without an agentlet", func() {
		said, err := s.Kubectl(s.Ctx, "create", "--dry-run=server", "-o", "yaml", "--as=system:node:"+kubelet, "--as-group=system:nodes", "-f", mirror)
		s.Must(err)
		if !strings.Contains(said, "this is a static pod") || strings.Contains(said, contract.VolumeName) {
			s.Errorf("kubectl says %s", said)
		}
	})
}
