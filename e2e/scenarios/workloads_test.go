package scenarios_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// judged are the kinds of workloads that the webhook validates.
var judged = []string{"Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "Job", "CronJob"}

// applyText applies manifests with kubectl, and returns its output.
func applyText(s *scenario.S, manifests string) (said string, ok bool) {
	s.Helper()
	file := filepath.Join(s.TempDir(), "manifests.yaml")
	s.Must(os.WriteFile(file, []byte(manifests), 0o600))
	said, err := s.Kubectl(s.Ctx, "apply", "-f", file)
	return said, err == nil
}

// withErrors returns a template with three errors.
func withErrors(s *scenario.S) corev1.PodTemplateSpec {
	template := s.Sample(s.Annotations("gate", "ajar", "drain-delay", "soon"))
	template.Spec.Containers[0].Ports[0].ContainerPort = 19500
	return template
}

func TestWorkloadsErrorsAreToldAtApply(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	s.Then("each kind with three errors is rejected at once, with all errors and their fields", func() {
		s.Eventually("the first refusal", func(ctx context.Context) (bool, error) { // the API server learns of the webhook by a watch
			_, err := s.Kube.AppsV1().Deployments(s.Namespace).Create(ctx, &appsv1.Deployment{
				ObjectMeta: metav1.ObjectMeta{Name: "first"},
				Spec:       appsv1.DeploymentSpec{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "sample"}}, Template: withErrors(s)},
			}, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err != nil, errors.New("it was accepted")
		})
		said, ok := applyText(s, everyKindOf(s, withErrors(s), judged...))
		s.Logf("%s", said)
		if ok || strings.Contains(said, "created") {
			s.Errorf("accepted: %s", said)
		}
		for want, times := range map[string]int{
			`admission webhook "workloads.agentlet.dev" denied the request: 3 errors:`: len(judged),
			"- spec.template.metadata.annotations[agentlet.dev/gate]: Invalid":         len(judged) - 1,
			"- spec.jobTemplate.spec.template.metadata.annotations[agentlet.dev/gate]": 1,
			"annotations[agentlet.dev/drain-delay]":                                    len(judged),
			"spec.containers[0].ports[0].containerPort":                                len(judged),
		} {
			if n := strings.Count(said, want); n != times {
				s.Errorf("%d times %q, want %d:\n%s", n, want, times, said)
			}
		}
	})
	s.Then("without errors each is accepted, with warnings of probable mistakes", func() {
		template := s.Sample(s.Annotations("service-tgas", "x"))
		grace := int64(3)
		template.Spec.TerminationGracePeriodSeconds = &grace
		said, ok := applyText(s, everyKindOf(s, template, judged...))
		if n := strings.Count(said, " created"); !ok || n != len(judged) {
			s.Errorf("%d created: %s", n, said)
		}
		for _, want := range []string{"did you mean agentlet.dev/service-tags?", "terminationGracePeriodSeconds 3 leaves"} {
			if !strings.Contains(said, want) {
				s.Errorf("no warning %q: %s", want, said)
			}
		}
	})
}

// TestWorkloadsStopNoController checks that accepted workloads stay valid: no change by a controller or an autoscaler is
// rejected, although none of their pods could be created now.
func TestWorkloadsStopNoController(t *testing.T) {
	s := scenario.New(t, scenario.Parallel(), scenario.Label(contract.InjectLabel, ""))
	deployments := s.Kube.AppsV1().Deployments(s.Namespace)
	s.Given("a Deployment with errors, created before the namespace was opted in", func() {
		s.Deployment(1, withErrors(s))
		s.Eventually("its pod", func(ctx context.Context) (bool, error) { return len(s.Pods(ctx)) == 1, nil })
		_, err := s.Kubectl(s.Ctx, "label", "namespace", s.Namespace, contract.InjectLabel+"="+contract.InjectEnabled)
		s.Must(err)
	})
	s.Given("the webhook validates workloads of the namespace", func() {
		s.Eventually("a refusal of a new error", func(ctx context.Context) (bool, error) {
			_, err := deployments.Patch(ctx, "sample", types.MergePatchType, patchOf("gate-policy", "never"), metav1.PatchOptions{DryRun: []string{metav1.DryRunAll}})
			if err == nil {
				return false, errors.New("a new error is accepted")
			}
			if !strings.Contains(err.Error(), "gate-policy") || strings.Contains(err.Error(), "ajar") {
				s.Errorf("refused for another thing than what is new: %v", err)
			}
			return true, nil
		})
	})
	run := func(args ...string) string {
		s.Helper()
		said, err := s.Kubectl(s.Ctx, append([]string{"-n", s.Namespace}, args...)...)
		s.Must(err)
		return said
	}
	s.Then("it is scaled, by itself and by the scale subresource as an autoscaler does it", func() {
		s.Scale(2)
		run("scale", "deployment/sample", "--replicas=3")
		scale, err := deployments.GetScale(s.Ctx, "sample", metav1.GetOptions{})
		s.Must(err)
		scale.Spec.Replicas, scale.ResourceVersion = 2, "" // overwrite whatever its controller has written meanwhile
		_, err = deployments.UpdateScale(s.Ctx, "sample", scale, metav1.UpdateOptions{})
		s.Must(err)
	})
	s.Then("it is labelled, annotated, paused, and restarted; the restart warns that no pod will be created", func() {
		run("label", "deployment/sample", "a=b")
		run("annotate", "deployment/sample", "a=b")
		run("rollout", "pause", "deployment/sample")
		run("rollout", "resume", "deployment/sample")
		if said := run("rollout", "restart", "deployment/sample"); !strings.Contains(said, "its pods will be refused, as before") {
			s.Errorf("no warning: %s", said)
		}
	})
	s.Then("its controller makes the new ReplicaSet, and scales it", func() {
		s.Eventually("two ReplicaSets", func(ctx context.Context) (bool, error) {
			d, err := deployments.Get(ctx, "sample", metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			sets, err := s.Kube.AppsV1().ReplicaSets(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "app=sample"})
			if err != nil {
				return false, err
			}
			scaled := 0
			for i := range sets.Items {
				if *sets.Items[i].Spec.Replicas > 0 {
					scaled++
				}
			}
			return len(sets.Items) == 2 && scaled == 2 && d.Status.ObservedGeneration == d.Generation, fmt.Errorf("%d, %d scaled", len(sets.Items), scaled)
		})
	})
	s.Then("with a finalizer it is deleted, and its finalizer removed, whatever its template has become", func() {
		run("patch", "deployment/sample", "--type=merge", "-p", `{"metadata":{"finalizers":["example.com/wait"]}}`)
		run("delete", "deployment/sample", "--wait=false")
		run("patch", "deployment/sample", "--type=merge", "-p", `{"metadata":{"finalizers":null}}`)
		s.Eventually("its end", func(ctx context.Context) (bool, error) {
			_, err := deployments.Get(ctx, "sample", metav1.GetOptions{})
			return apierrors.IsNotFound(err), err
		})
	})
}

// patchOf returns a patch that sets an annotation of the template.
func patchOf(key, value string) []byte {
	return fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{%q:%q}}}}}`, contract.Prefix+key, value)
}

func TestWorkloadsAreAcceptedWithoutTheWebhook(t *testing.T) {
	s := scenario.New(t)
	s.Afterwards(2*time.Minute, func(ctx context.Context) {
		scaleWebhook(ctx, s, 2)
	})
	s.When("the webhook is gone", func() { scaleWebhook(s.Ctx, s, 0) })
	s.Then("workloads with errors are accepted, in good time", func() {
		began := time.Now()
		said, ok := applyText(s, everyKindOf(s, withErrors(s), judged...))
		if n := strings.Count(said, " created"); !ok || n != len(judged) {
			s.Errorf("%d created: %s", n, said)
		}
		// Each request waits at most the webhook's timeoutSeconds.
		if took := time.Since(began); took > 30*time.Second {
			s.Errorf("took %s", took)
		} else {
			s.Logf("six kinds took %s", took.Round(time.Millisecond))
		}
	})
	s.When("it is back", func() { scaleWebhook(s.Ctx, s, 2) })
	s.Then("accepted workloads can still be updated, and new ones with errors are rejected", func() {
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "set", "image", "deployment/kind", "app=other")
		s.Must(err)
		s.Eventually("a refusal", func(ctx context.Context) (bool, error) {
			said, err := s.Kubectl(ctx, "-n", s.Namespace, "patch", "deployment/kind", "--dry-run=server", "-p", string(patchOf("gate", "wide")))
			return err != nil && strings.Contains(said, `"wide"`), errors.New(said)
		})
	})
}
