package scenarios_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/internal/openshift"
)

// assignedUser is a user of the range that the policy of restrictedV2 knows.
const assignedUser = 1000650000

// restrictedV2 refuses in the scenario's namespace and in the chart's what OpenShift's restricted-v2 refuses, until the scenario's
// end.
func restrictedV2(s *scenario.S) {
	s.Helper()
	binding := filepath.Join(s.TempDir(), "binding.yaml")
	s.Must(os.WriteFile(binding, fmt.Appendf(nil, `
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingAdmissionPolicyBinding
metadata: {name: restricted-v2}
spec:
  policyName: restricted-v2
  validationActions: [Deny]
  matchResources:
    namespaceSelector:
      matchExpressions: [{key: kubernetes.io/metadata.name, operator: In, values: [%s, %s, agentlet-helm-test]}]
`, s.Namespace, scenario.SystemNamespace), 0o600))
	files := []string{"-f", filepath.Join(s.Root, "hack", "policies", "testdata", "restricted-v2.yaml"), "-f", binding}
	s.Afterwards(time.Minute, func(ctx context.Context) {
		if _, err := s.Kubectl(ctx, append([]string{"delete", "--ignore-not-found"}, files...)...); err != nil {
			s.Error(err)
		}
	})
	_, err := s.Kubectl(s.Ctx, append([]string{"apply"}, files...)...)
	s.Must(err)
	s.Eventually("the policy to be in force", func(context.Context) (bool, error) {
		template := assigned(s.Sample(nil))
		template.Spec.HostNetwork = true
		err := admit(s, template)
		return err != nil && strings.Contains(err.Error(), "restricted-v2: the host's network"), err
	})
}

// assigned is the template as OpenShift completes it for a namespace with this range.
func assigned(template corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	template.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsUser: new(int64(assignedUser)), FSGroup: new(int64(assignedUser)), RunAsNonRoot: new(true),
		SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	template.Spec.Containers[0].SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
	}
	return template
}

// openShift has the API server serve OpenShift's API group, until the scenario's end.
func openShift(s *scenario.S) {
	s.Helper()
	served := func(ctx context.Context) (bool, error) {
		return openshift.AssignsUsers(ctx, s.Kube.Discovery().RESTClient())
	}
	file := filepath.Join(s.TempDir(), "kind.yaml")
	s.Must(os.WriteFile(file, []byte(`
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: securitycontextconstraints.`+openshift.Group+`}
spec:
  group: `+openshift.Group+`
  scope: Cluster
  names: {kind: SecurityContextConstraints, listKind: SecurityContextConstraintsList, plural: securitycontextconstraints, singular: securitycontextconstraints}
  versions:
  - {name: v1, served: true, storage: true, schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}}
`), 0o600))
	s.Afterwards(time.Minute, func(ctx context.Context) {
		if _, err := s.Kubectl(ctx, "delete", "--ignore-not-found", "-f", file); err != nil {
			s.Error(err)
		}
		// A webhook that starts before that would take the cluster for OpenShift.
		if err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
			still, err := served(ctx)
			return err == nil && !still, nil
		}); err != nil {
			s.Errorf("wait until the group is gone: %v", err)
		}
	})
	_, err := s.Kubectl(s.Ctx, "apply", "-f", file)
	s.Must(err)
	s.Eventually("the API group", served)
}

// TestOpenShift runs alone, because it installs the chart with other values, and bounds its namespace by a policy.
func TestOpenShift(t *testing.T) {
	s := scenario.New(t)
	reinstalled(s)
	template := func() corev1.PodTemplateSpec { return assigned(s.Sample(s.Annotations())) }
	s.Given("namespaces with a policy that refuses what restricted-v2 refuses", func() { restrictedV2(s) })
	s.Then("a pod is refused for the user of its agentlet, and admitted without one", func() {
		err := admit(s, template())
		if err == nil || !strings.Contains(err.Error(), "restricted-v2: users and groups must be in the ranges: [1000650000, 1000659999]") {
			s.Errorf("it says: %v", err)
		}
		s.Must(admit(s, assigned(s.Sample(s.Annotations("inject", "false")))))
	})
	s.When("the API server has OpenShift's API group, and the webhook starts, as it is installed there", func() {
		openShift(s)
		s.Must(s.Install(s.Ctx, "connect.image=consul-and-envoy"))
		awaitWebhooks(s)
	})
	var pod *corev1.Pod
	s.Then("the pod is admitted, registered and Ready", func() {
		_, err := s.CreatePod("web", template())
		s.Must(err)
		pod = s.AwaitReady("web")
		s.AwaitCatalog(s.Service(), 1)
		if c := registration.Agentlet(pod).SecurityContext; c.RunAsUser != nil || c.RunAsGroup != nil {
			s.Errorf("the agentlet has %+v", c)
		}
	})
	s.Then("its agentlet runs as the assigned user, in the group 0", func() {
		process, err := scenario.FindProcess("/agentlet run", string(pod.UID))
		s.Must(err)
		user, group, err := process.Identity()
		s.Must(err)
		if user != assignedUser || group != 0 {
			s.Errorf("it runs as %d:%d", user, group)
		}
	})
	s.Then("it drains", func() { drains(s, pod) })
	s.Then("a pod with a mesh proxy is admitted, too", func() {
		meshed := mesh{s}.member(s.Service(), "[]")
		s.Must(admit(s, assigned(meshed)))
	})
	s.Then("the plugin says the same of the cluster", func() {
		p := newPlugin(s)
		out, ok := p.run(p.manifest(template()), "inject", "-f", "-", "--from-cluster")
		if !ok || !strings.Contains(out, contract.ContainerName) || strings.Contains(out, "65532") {
			s.Errorf("%v\n%s", ok, out)
		}
	})
	s.Then("the chart's own test passes", func() {
		_, err := s.HelmOutput(s.Ctx, "test", scenario.Release, "--timeout=90s")
		s.Must(err)
	})
}
