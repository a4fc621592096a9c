package registration

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// annotations are a pod's, by the key without its prefix.
type annotations map[string]string

// newPod is a pod with a container that declares http=8080 and metrics=9090, and a native sidecar with admin=9901.
func newPod(short annotations) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{}, Labels: map[string]string{"app": "web"}},
		Spec: corev1.PodSpec{
			Containers: []corev1.Container{{Name: "app", Ports: []corev1.ContainerPort{
				{Name: "http", ContainerPort: 8080}, {Name: "metrics", ContainerPort: 9090},
			}}},
			InitContainers: []corev1.Container{
				{
					Name: contract.ContainerName, RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
					Ports: []corev1.ContainerPort{{Name: contract.PortName, ContainerPort: 19500}},
				},
				{Name: "migrate", Ports: []corev1.ContainerPort{{Name: "gone", ContainerPort: 1}}},
				{
					Name: "proxy", RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
					Ports: []corev1.ContainerPort{{Name: "admin", ContainerPort: 9901}},
				},
			},
		},
	}
	for key, value := range short {
		pod.Annotations[contract.Prefix+key] = value
	}
	return pod
}

// mustParse parses a pod that has no errors.
func mustParse(t *testing.T, pod *corev1.Pod, defaults Defaults) (*Registration, []Warning) {
	t.Helper()
	reg, warnings, errs := Lint(pod, defaults, nil)
	if len(errs) > 0 {
		t.Fatalf("Parse: %v", errs.ToAggregate())
	}
	return reg, warnings
}

// wantErrors checks that a pod has exactly these errors, each given by a part of its text.
func wantErrors(t *testing.T, pod *corev1.Pod, parts ...string) {
	t.Helper()
	if reg, _ := Parse(pod, nil); reg != nil {
		t.Errorf("a registration beside errors: %+v", reg)
	}
	_, _, errs := Lint(pod, nil, nil)
	if len(errs) != len(parts) {
		t.Fatalf("%d errors, want %d:\n%v", len(errs), len(parts), errs.ToAggregate())
	}
	for i, part := range parts {
		if !strings.Contains(errs[i].Error(), part) {
			t.Errorf("error %d is\n%s\nwithout %q", i, errs[i].Error(), part)
		}
	}
}

// wantWarnings checks that there are exactly these warnings, each given by a part of its text.
func wantWarnings(t *testing.T, warnings []Warning, parts ...string) {
	t.Helper()
	if len(warnings) != len(parts) {
		t.Fatalf("warnings %q, want %q", warnings, parts)
	}
	for i, part := range parts {
		if !strings.Contains(warnings[i].Message, part) {
			t.Errorf("warning %d is\n%s\nwithout %q", i, warnings[i].Message, part)
		}
	}
}
