package scenarios_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/e2e/scenario"
)

// TestInjectLeavesHostProcessPodsAlone uses dry runs, because no node of the cluster could run a HostProcess pod.
func TestInjectLeavesHostProcessPodsAlone(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	hostProcess := &corev1.WindowsSecurityContextOptions{HostProcess: new(true), RunAsUserName: new(`NT AUTHORITY\SYSTEM`)}
	for who, set := range map[string]func(*corev1.PodSpec){
		"whose pod says hostProcess": func(spec *corev1.PodSpec) {
			spec.SecurityContext = &corev1.PodSecurityContext{WindowsOptions: hostProcess}
		},
		"that say hostProcess themselves": func(spec *corev1.PodSpec) {
			spec.Containers[0].SecurityContext = &corev1.SecurityContext{WindowsOptions: hostProcess}
		},
	} {
		s.Then("containers "+who+" get no agentlet", func() {
			template := s.Sample(s.Annotations())
			template.GenerateName, template.Spec.HostNetwork = "windows-", true
			set(&template.Spec)
			pod, err := s.Kube.CoreV1().Pods(s.Namespace).Create(s.Ctx, &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec},
				metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			s.Must(err)
			if scenario.Injected(pod) || len(pod.Spec.ReadinessGates) > 0 {
				s.Errorf("%+v", pod.Spec)
			}
		})
	}
}
