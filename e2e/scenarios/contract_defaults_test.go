package scenarios_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// TestContractNamespaceDefaults tests a namespace's annotations as defaults of its pods. The one that is tried excludes a container
// that is never ready: the instance passes as long as it holds.
func TestContractNamespaceDefaults(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	exclude := promises()["exclude"]
	template := s.Sample(s.Annotations())
	exclude.change(&template)
	annotate := func(object string, pairs ...string) {
		s.Helper()
		_, err := s.Kubectl(s.Ctx, append([]string{"-n", s.Namespace, "annotate", "--overwrite", object}, pairs...)...)
		s.Must(err)
	}
	// told waits until a new pod's agentlet is told the namespace's default, or isn't, and returns all that it is told.
	told := func(want bool) (args []string) {
		s.Helper()
		s.Eventually("the webhook to know the namespace's annotations", func(ctx context.Context) (bool, error) {
			pod := &corev1.Pod{ObjectMeta: *template.ObjectMeta.DeepCopy(), Spec: *template.Spec.DeepCopy()}
			pod.Name = "tried"
			pod, err := s.Kube.CoreV1().Pods(s.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			if err != nil || !scenario.Injected(pod) {
				return false, err
			}
			args = registration.Agentlet(pod).Args
			return slices.Contains(args, "--default=agentlet.dev/container-exclude=lazy") == want, fmt.Errorf("it is told %q", args)
		})
		return args
	}
	health := func(want string) {
		s.Helper()
		s.Eventually("the instance to be "+want, func(context.Context) (bool, error) {
			entries := s.Catalog(s.Service())
			return len(entries) == 1 && entries[0].Checks.AggregatedStatus() == want, fmt.Errorf("the catalog has %+v", entries)
		})
	}

	var args []string
	s.Given("a namespace with defaults, one of them with a wrong value, and with annotations of pods", func() {
		annotate("namespace/"+s.Namespace, contract.ContainerExclude+"=lazy", contract.DrainDelay+"=0s", contract.GateTimeout+"=soon",
			contract.ServiceTags+"=x", contract.LocalAPI+"=enabled", contract.ConnectInject+"=true")
		args = told(true)
	})
	s.Then("a pod is admitted without the wrong one, and without what is a pod's own", func() {
		for _, arg := range args {
			for _, key := range []string{contract.GateTimeout, contract.ServiceTags, contract.LocalAPI, contract.ConnectInject} {
				if strings.Contains(arg, contract.Short(key)+"=") {
					s.Errorf("the agentlet is told %s", arg)
				}
			}
		}
	})
	p := newPlugin(s)
	s.Then("explain says which defaults hold, and check which don't", func() {
		out, ok := p.run(p.manifest(template), "explain", "-f", "-", "--from-cluster")
		if !ok || !strings.Contains(out, "of the namespace: container-exclude=lazy, drain-delay=0s") {
			s.Errorf("explain: %t\n%s", ok, out)
		}
		findings, _ := p.check()
		for _, says := range []string{contract.GateTimeout + `: "soon" has no effect`, contract.ServiceTags + ": has no effect on a namespace"} {
			if !slices.ContainsFunc(findings, func(f finding) bool {
				return f.Level == "warn" && f.Check == "namespaces" && strings.Contains(f.Message, says)
			}) {
				s.Errorf("no finding says %s: %+v", says, findings)
			}
		}
	})
	s.When("a pod is created", func() {
		_, err := s.CreatePod("web", template)
		s.Must(err)
	})
	s.Then("its instance passes", func() { health(api.HealthPassing) })
	s.When("the pod's own annotation says otherwise", func() { annotate("pod/web", contract.ContainerExclude+"=") })
	s.Then("its instance is critical", func() { health(api.HealthCritical) })
	s.When("the namespace has no defaults any more, and the pod's annotation goes, too", func() {
		annotate("namespace/"+s.Namespace, contract.ContainerExclude+"-", contract.DrainDelay+"-")
		told(false)
		annotate("pod/web", contract.ContainerExclude+"-")
	})
	s.Then("the default with which the pod was created holds", func() {
		health(api.HealthPassing)
		s.Delete("web")
		s.AwaitCatalog(s.Service(), 0)
	})
}
