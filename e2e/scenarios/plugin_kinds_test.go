package scenarios_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// everyKindOf returns a stream of objects named "kind" with the template, one of each of these kinds, or, without kinds, of all
// that contain a template.
func everyKindOf(s *scenario.S, template corev1.PodTemplateSpec, kinds ...string) string {
	s.Helper()
	once := *template.DeepCopy()
	once.Spec.RestartPolicy = corev1.RestartPolicyNever
	meta, selector := metav1.ObjectMeta{Name: "kind", Namespace: s.Namespace}, &metav1.LabelSelector{MatchLabels: template.Labels}
	kind := func(version, kind string) metav1.TypeMeta { return metav1.TypeMeta{APIVersion: version, Kind: kind} }
	var stream strings.Builder
	for _, object := range []runtime.Object{
		&corev1.Pod{TypeMeta: kind("v1", "Pod"), ObjectMeta: metav1.ObjectMeta{
			Name: "kind", Namespace: s.Namespace, Annotations: template.Annotations,
		}, Spec: template.Spec},
		&corev1.ReplicationController{TypeMeta: kind("v1", "ReplicationController"), ObjectMeta: meta, Spec: corev1.ReplicationControllerSpec{Template: &template}},
		&appsv1.Deployment{TypeMeta: kind("apps/v1", "Deployment"), ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Selector: selector, Template: template}},
		&appsv1.ReplicaSet{TypeMeta: kind("apps/v1", "ReplicaSet"), ObjectMeta: meta, Spec: appsv1.ReplicaSetSpec{Selector: selector, Template: template}},
		&appsv1.StatefulSet{TypeMeta: kind("apps/v1", "StatefulSet"), ObjectMeta: meta, Spec: appsv1.StatefulSetSpec{Selector: selector, Template: template}},
		&appsv1.DaemonSet{TypeMeta: kind("apps/v1", "DaemonSet"), ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{Selector: selector, Template: template}},
		&batchv1.Job{TypeMeta: kind("batch/v1", "Job"), ObjectMeta: meta, Spec: batchv1.JobSpec{Template: once}},
		&batchv1.CronJob{TypeMeta: kind("batch/v1", "CronJob"), ObjectMeta: meta, Spec: batchv1.CronJobSpec{
			Schedule: "0 3 * * *", JobTemplate: batchv1.JobTemplateSpec{Spec: batchv1.JobSpec{Template: once}},
		}},
	} {
		if name := object.GetObjectKind().GroupVersionKind().Kind; len(kinds) > 0 && !slices.Contains(kinds, name) {
			continue
		}
		text, err := yaml.Marshal(object)
		s.Must(err)
		stream.WriteString("---\n" + string(text))
	}
	return stream.String()
}

func TestPluginInjectsEveryKind(t *testing.T) {
	s := scenario.New(t, scenario.Parallel(), scenario.Label(contract.InjectLabel, ""))
	p := newPlugin(s)
	s.Then("the API server accepts each kind as inject writes it", func() {
		const kinds = 8
		out, ok := p.run(everyKindOf(s, s.Sample(s.Annotations())), "inject", "-f", "-")
		if n := strings.Count(out, "readinessGates:"); !ok || n != kinds {
			s.Fatalf("%d gates, want %d:\n%s", n, kinds, out)
		}
		file := filepath.Join(s.TempDir(), "kinds.yaml")
		s.Must(os.WriteFile(file, []byte(out), 0o600))
		said, err := s.Kubectl(s.Ctx, "apply", "--dry-run=server", "--validate=strict", "-f", file)
		s.Must(err)
		if n := strings.Count(said, "created (server dry run)"); n != kinds {
			s.Errorf("%d taken, want %d:\n%s", n, kinds, said)
		}
	})
}

func TestPluginCheckMissesAConsulAgent(t *testing.T) {
	s := scenario.New(t)
	p := newPlugin(s)
	node := s.Cluster.Nodes[0]
	agent := node.Process("consul")
	s.When("the Consul agent of a node stops", func() {
		s.Afterwards(time.Minute, func(ctx context.Context) {
			if _, runs := agent.PID(); !runs {
				if err := agent.Start(ctx); err != nil {
					t.Errorf("start the Consul agent again: %v", err)
				}
			}
		})
		s.Must(agent.Stop(s.Ctx))
	})
	s.Then("check names the node", func() {
		p.fails("consul", "no Consul agent answers at the node's address, port 8500", "run a Consul client agent")
	})
	s.When("it runs again", func() { s.Must(agent.Start(s.Ctx)) })
	s.Then("check finds no problem", func() {
		s.Eventually("a check without failures", func(context.Context) (bool, error) {
			findings, ok := p.check()
			return ok, fmt.Errorf("%+v", findings)
		})
	})
}
