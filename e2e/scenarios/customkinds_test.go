package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// customKinds are the scenarios that use the custom kinds now. The last one removes them.
var customKinds struct {
	sync.Mutex
	users int
}

// useCustomKinds makes the API server serve the kinds of testdata/customkinds.yaml as long as the scenario runs.
func useCustomKinds(s *scenario.S) {
	s.Helper()
	file := filepath.Join(s.Root, "e2e", "scenarios", "testdata", "customkinds.yaml")
	customKinds.Lock()
	defer customKinds.Unlock()
	customKinds.users++
	s.Afterwards(time.Minute, func(ctx context.Context) {
		customKinds.Lock()
		defer customKinds.Unlock()
		if customKinds.users--; customKinds.users > 0 {
			return
		}
		if _, err := s.Kubectl(ctx, "delete", "-f", file, "--ignore-not-found", "--timeout=45s"); err != nil {
			s.Errorf("remove custom kinds: %v", err)
		}
	})
	_, err := s.Kubectl(s.Ctx, "apply", "-f", file)
	s.Must(err)
	_, err = s.Kubectl(s.Ctx, "wait", "--for=condition=Established", "--timeout=1m", "-f", file)
	s.Must(err)
}

// manifestOfRollout returns the manifest of a Rollout with the template.
func manifestOfRollout(s *scenario.S, name string, template corev1.PodTemplateSpec) string {
	s.Helper()
	text, err := yaml.Marshal(map[string]any{
		"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout",
		"metadata": map[string]any{"name": name, "namespace": s.Namespace},
		"spec":     map[string]any{"replicas": 1, "template": template},
	})
	s.Must(err)
	return string(text)
}

// TestWorkloadsOfOtherSystems checks what kubectl apply says of a Rollout, and of annotations that are not in a template. No
// controller of Rollouts runs here; the test makes the pod that one would make.
func TestWorkloadsOfOtherSystems(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	s.Given("the API server knows Rollouts", func() { useCustomKinds(s) })
	s.Then("a Rollout with an error in its template is refused at kubectl apply", func() {
		file := filepath.Join(s.TempDir(), "wrong.yaml")
		s.Must(os.WriteFile(file, []byte(manifestOfRollout(s, "wrong", s.Sample(s.Annotations("gate", "ajar")))), 0o600))
		// The API server learns of kind and namespace by watches. A dry run leaves nothing that is updated the next time.
		s.Eventually("the refusal", func(ctx context.Context) (bool, error) {
			said, err := s.Kubectl(ctx, "apply", "--dry-run=server", "-f", file)
			return err != nil && strings.Contains(said, `admission webhook "workloads.agentlet.dev" denied the request: `+
				`spec.template.metadata.annotations[agentlet.dev/gate]: Invalid value: "ajar"`), errors.New(said)
		})
	})
	s.Then("one without a port is accepted, with a warning: its controller may declare it", func() {
		template := s.Sample(s.Annotations())
		template.Spec.Containers[0].Ports = nil
		said, ok := applyText(s, manifestOfRollout(s, "portless", template))
		if !ok || !strings.Contains(said, "Warning: as it stands here its pods would be refused") {
			s.Errorf("applied: %t, %s", ok, said)
		}
	})
	template := s.Sample(s.Annotations())
	s.Then("one without errors is accepted, without a warning", func() {
		if said, ok := applyText(s, manifestOfRollout(s, "right", template)); !ok || strings.Contains(said, "Warning") {
			s.Errorf("applied: %t, %s", ok, said)
		}
	})
	s.Then("a change that brings an error is refused", func() {
		said, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "patch", "rollouts.argoproj.io/right", "--type=merge", "-p", string(patchOf("gate", "wide")))
		if err == nil || !strings.Contains(said, `Invalid value: "wide"`) {
			s.Errorf("%v, %s", err, said)
		}
	})
	s.Then("the pod of its template is injected", func() {
		pod, err := s.CreatePod("right", template)
		s.Must(err)
		if !scenario.Injected(pod) {
			s.Errorf("not injected: %+v", pod.Spec.Containers)
		}
	})
	s.Then("annotations on a Deployment and on a Service are warned of", func() {
		deployment := everyKindOf(s, s.Sample(nil), "Deployment")
		service := fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: kind, namespace: %s}\nspec: {ports: [{port: 80}]}\n", s.Namespace)
		said, ok := applyText(s, annotated(s, deployment)+"---\n"+annotated(s, service))
		for _, want := range []string{
			"Warning: annotation agentlet.dev/service-names: no effect on a Deployment; agentlet reads it from spec.template.metadata.annotations",
			"Warning: annotation agentlet.dev/service-names: no effect on a Service; agentlet reads it from the annotations of pods",
		} {
			if !ok || !strings.Contains(said, want) {
				s.Errorf("applied: %t, no %q in %s", ok, want, said)
			}
		}
	})
}

// annotated returns a manifest whose object has the annotation that belongs to its pods.
func annotated(s *scenario.S, manifest string) string {
	s.Helper()
	var object map[string]any
	s.Must(yaml.Unmarshal([]byte(manifest), &object))
	object["metadata"].(map[string]any)["annotations"] = map[string]any{contract.ServiceNames: "kind"}
	text, err := yaml.Marshal(object)
	s.Must(err)
	return string(text)
}
