package scenarios_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/doctest"
)

// docsNamespace is the namespace in the docs' commands.
const docsNamespace = "shop"

// TestDocs follows the pages command by command. It runs alone, because it checks the whole installation.
func TestDocs(t *testing.T) {
	s := scenario.New(t)
	p := newPlugin(s)
	shell := func(block doctest.Block) string {
		s.Helper()
		path := strings.Join([]string{filepath.Dir(p.file), filepath.Dir(s.Cluster.Kubectl()), os.Getenv("PATH")}, ":")
		command := exec.CommandContext(s.Ctx, "bash", "-euo", "pipefail", "-c", block.Text)
		command.Dir, command.Env = s.Root, append(os.Environ(), "PATH="+path, "KUBECONFIG="+s.Cluster.Kubeconfig())
		out, err := command.CombinedOutput()
		if err != nil {
			s.Fatalf("%s: %v: %s", block.Place(), err, out)
		}
		s.Logf("%s:\n%s", block.Place(), out)
		return string(out)
	}
	var blocks []doctest.Block
	s.Given("the pages, and no namespace "+docsNamespace, func() {
		pages, err := doctest.Pages(s.Root)
		s.Must(err)
		for _, page := range pages {
			for _, block := range page.Blocks {
				if block.Kind() == "sh cluster" {
					blocks = append(blocks, block)
				}
			}
		}
		if len(blocks) < 4 || blocks[0].Page != "README.md" || blocks[1].Page != "README.md" {
			s.Fatalf("these blocks were found: %v", blocks)
		}
		removeDocsNamespace(s.Ctx, s)
		s.Afterwards(time.Minute, func(ctx context.Context) {
			removeDocsNamespace(ctx, s)
		})
	})
	s.When("a namespace is opted in,"+blocks[0].Place(), func() { shell(blocks[0]) })
	s.Given("a Deployment there without annotations for Consul", func() { plainWeb(s) })
	s.When("its service is named, "+blocks[1].Place(), func() {
		out := shell(blocks[1])
		if !strings.Contains(out, "READINESS GATES") {
			s.Errorf("no column READINESS GATES in\n%s", out)
		}
	})
	s.Then("its pods are in Consul and their gates open", func() { s.AwaitCatalog("web", 3) })
	for _, block := range blocks[2:] {
		s.Then("the commands succeed as documented,"+block.Place(), func() { shell(block) })
	}
	s.Then("the namespace's pods are what Consul has", func() {
		out, ok := p.run("", "status", "-n", docsNamespace, "-o", "json")
		var report struct {
			Items []struct{ Gate, Consul, Drift string }
		}
		s.Must(json.Unmarshal([]byte(out), &report))
		if !ok || len(report.Items) < 3 {
			s.Fatalf("%v %s", ok, out)
		}
		for _, row := range report.Items {
			if row.Gate != "open" || row.Consul != "passing" || row.Drift != "" {
				s.Errorf("%+v", row)
			}
		}
	})
}

// removeDocsNamespace deletes the namespace and waits until it is gone.
func removeDocsNamespace(ctx context.Context, s *scenario.S) {
	s.Helper()
	_, err := s.Kubectl(ctx, "delete", "namespace", docsNamespace, "--ignore-not-found", "--timeout=60s")
	if err != nil {
		s.Errorf("remove namespace: %v", err)
	}
}

// plainWeb creates examples/web.yaml without its annotations, once the namespace's default service account exists.
func plainWeb(s *scenario.S) {
	s.Helper()
	text, err := os.ReadFile(filepath.Join(s.Root, "examples", "web.yaml"))
	s.Must(err)
	var web appsv1.Deployment
	s.Must(yaml.UnmarshalStrict(text, &web))
	web.Spec.Template.Annotations = nil
	s.Eventually("the namespace's service account", func(ctx context.Context) (bool, error) {
		_, err := s.Kube.CoreV1().ServiceAccounts(docsNamespace).Get(ctx, "default", metav1.GetOptions{})
		return err == nil, err
	})
	_, err = s.Kube.AppsV1().Deployments(docsNamespace).Create(s.Ctx, &web, metav1.CreateOptions{})
	s.Must(err)
}

// closed returns a template of pods whose gate stays closed, because a check of their service targets a port that nothing listens
// on.
func closed(s *scenario.S) corev1.PodTemplateSpec {
	s.Helper()
	return s.Sample(s.Annotations("service-names", "", "services", fmt.Sprintf("[{name: %s, port: 8080, checks: [{tcp: ':1', interval: 1s}]}]", s.Service())))
}

// awaitClosed waits for n running pods with ready containers and closed gates.
func awaitClosed(s *scenario.S, n int) {
	s.Helper()
	s.Eventually("closed gates", func(ctx context.Context) (bool, error) {
		waiting := 0
		for _, pod := range s.Pods(ctx) {
			ready := scenario.Condition(&pod, corev1.ContainersReady).Status == corev1.ConditionTrue
			if gate := scenario.Condition(&pod, contract.Condition); ready && gate.Reason == string(contract.AwaitingCatalog) {
				waiting++
			}
		}
		return waiting == n, fmt.Errorf("%d of %d", waiting, n)
	})
}

// TestDocsBudget tests what docs/applications.md says about PodDisruptionBudgets.
func TestDocsBudget(t *testing.T) {
	s := scenario.New(t, scenario.Anywhere(), scenario.Parallel())
	budgets := s.Kube.PolicyV1().PodDisruptionBudgets(s.Namespace)
	evict := func() error {
		s.Helper()
		return s.Kube.PolicyV1().Evictions(s.Namespace).Evict(s.Ctx, &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Name: s.Pods(s.Ctx)[0].Name, Namespace: s.Namespace}})
	}
	s.Given("a pod whose gate stays closed, and a budget without unhealthyPodEvictionPolicy", func() {
		s.Deployment(1, closed(s))
		awaitClosed(s, 1)
		least := intstr.FromInt32(1)
		_, err := budgets.Create(s.Ctx, &policyv1.PodDisruptionBudget{
			ObjectMeta: metav1.ObjectMeta{Name: "sample"},
			Spec:       policyv1.PodDisruptionBudgetSpec{MinAvailable: &least, Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "sample"}}},
		}, metav1.CreateOptions{})
		s.Must(err)
		s.Eventually("the budget's status", func(ctx context.Context) (bool, error) {
			budget, err := budgets.Get(ctx, "sample", metav1.GetOptions{})
			return err == nil && budget.Status.ObservedGeneration == budget.Generation && budget.Status.ExpectedPods == 1, err
		})
	})
	s.Then("the eviction is rejected", func() {
		if err := evict(); !apierrors.IsTooManyRequests(err) {
			s.Errorf("the eviction is answered: %v", err)
		}
	})
	s.When("the budget says AlwaysAllow", func() {
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "patch", "pdb/sample", "--type=merge", "-p", `{"spec":{"unhealthyPodEvictionPolicy":"AlwaysAllow"}}`)
		s.Must(err)
	})
	s.Then("the eviction is accepted", func() {
		s.Eventually("the eviction", func(context.Context) (bool, error) {
			err := evict()
			return err == nil, err
		})
	})
}

// TestDocsDeadline tests what docs/applications.md says about progressDeadlineSeconds.
func TestDocsDeadline(t *testing.T) {
	s := scenario.New(t, scenario.Anywhere(), scenario.Parallel())
	s.Given("a Deployment that is rolled out, with a deadline of five seconds", func() {
		s.Deployment(2, s.Sample(s.Annotations()))
		s.Rollout()
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "patch", "deployment/sample", "--type=merge", "-p", `{"spec":{"progressDeadlineSeconds":5}}`)
		s.Must(err)
	})
	s.When("its new pods' gates stay closed", func() {
		patch, err := json.Marshal(map[string]any{"spec": map[string]any{"template": map[string]any{"metadata": map[string]any{
			"annotations": map[string]any{contract.ServiceNames: nil, contract.Services: closed(s).Annotations[contract.Services]},
		}}}})
		s.Must(err)
		_, err = s.Kubectl(s.Ctx, "-n", s.Namespace, "patch", "deployment/sample", "--type=merge", "-p", string(patch))
		s.Must(err)
	})
	deployment := func(ctx context.Context) (*appsv1.Deployment, error) {
		return s.Kube.AppsV1().Deployments(s.Namespace).Get(ctx, "sample", metav1.GetOptions{})
	}
	s.Then("the Deployment says so after its deadline, and the old pods stay, Ready and in Consul", func() {
		s.Eventually("ProgressDeadlineExceeded", func(ctx context.Context) (bool, error) {
			d, err := deployment(ctx)
			if err != nil {
				return false, err
			}
			for _, c := range d.Status.Conditions {
				if c.Type == appsv1.DeploymentProgressing && c.Reason == "ProgressDeadlineExceeded" {
					return true, nil
				}
			}
			return false, fmt.Errorf("conditions %+v", d.Status.Conditions)
		})
		d, err := deployment(s.Ctx)
		s.Must(err)
		if d.Status.ReadyReplicas != 2 {
			s.Errorf("%d pods are Ready, want the two old ones", d.Status.ReadyReplicas)
		}
		if n := len(s.Passing(s.Service())); n != 2 {
			s.Errorf("Consul has %d passing, want the two old ones", n)
		}
	})
	s.When("the new ones may open after a second, in Consul or not", func() {
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "patch", "deployment/sample", "--type=merge", "-p",
			fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{%q:"1s"}}}}}`, contract.GateTimeout))
		s.Must(err)
	})
	s.Then("the rollout comes to its end", func() { s.Rollout() })
}
