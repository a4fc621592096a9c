package scenarios_test

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/kube"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// sink records what a watch of the agentlet's own pod reports.
type sink struct {
	mu   sync.Mutex
	pod  *corev1.Pod
	gone bool
}

func (s *sink) OnUpdate(pod *corev1.Pod) { s.mu.Lock(); defer s.mu.Unlock(); s.pod = pod }
func (s *sink) OnDelete()                { s.mu.Lock(); defer s.mu.Unlock(); s.gone = true }

func (s *sink) last() (*corev1.Pod, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pod, s.gone
}

// held prevents a pod from being scheduled, so that only the scenario writes its status.
func held(s *scenario.S) corev1.PodTemplateSpec {
	template := s.Sample(nil)
	template.Spec.SchedulerName = "nobody"
	return template
}

func TestBasicAPIServerAdapter(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	var pod *corev1.Pod
	var own *kube.Pod
	config, err := s.Cluster.RESTConfig()
	s.Must(err)
	watched, stranger := &sink{}, &sink{}
	follow := func(uid types.UID, to *sink) *kube.Pod {
		adapter, err := kube.NewPod(config, s.Namespace, "own", string(uid))
		s.Must(err)
		go adapter.Watch(s.Ctx, slog.New(slog.DiscardHandler), to)
		return adapter
	}
	condition := func(status corev1.ConditionStatus) []corev1.PodCondition {
		return []corev1.PodCondition{{Type: contract.Condition, Status: status, Reason: "Tried", LastTransitionTime: metav1.Now()}}
	}
	s.Given("a watch of a pod by its UID", func() {
		pod, err = s.CreatePod("own", held(s))
		s.Must(err)
		own = follow(pod.UID, watched)
		s.Eventually("the first sight", func(context.Context) (bool, error) { seen, _ := watched.last(); return seen != nil, nil })
	})
	s.Then("the agentlet's condition is written, and the watch reports it", func() {
		for _, status := range []corev1.ConditionStatus{corev1.ConditionFalse, corev1.ConditionTrue} {
			_, err := own.SetConditions(s.Ctx, condition(status))
			s.Must(err)
			s.Eventually("the condition", func(context.Context) (bool, error) {
				seen, _ := watched.last()
				return scenario.Condition(seen, contract.Condition).Status == status, nil
			})
		}
		if scheduled := scenario.Condition(s.Pod("own"), corev1.PodScheduled); scheduled.Status != "" && scheduled.Reason == "" {
			s.Errorf("another condition changed: %+v", scheduled)
		}
	})
	s.Then("an agentlet of an earlier pod with this name can't write, and learns that its pod is gone", func() {
		earlier := follow("00000000-0000-0000-0000-000000000000", stranger)
		if _, err := earlier.SetConditions(s.Ctx, condition(corev1.ConditionFalse)); err == nil || errors.Is(err, agentlet.ErrAbsent) {
			s.Errorf("SetConditions with another UID = %v, want a conflict", err)
		}
		s.Eventually("the news", func(context.Context) (bool, error) { seen, gone := stranger.last(); return gone && seen == nil, nil })
	})
	s.Then("the watch reports the deletion", func() {
		none := int64(0)
		s.Must(s.Kube.CoreV1().Pods(s.Namespace).Delete(s.Ctx, "own", metav1.DeleteOptions{GracePeriodSeconds: &none}))
		s.Eventually("the news", func(context.Context) (bool, error) { _, gone := watched.last(); return gone, nil })
		if _, err := own.SetConditions(s.Ctx, condition(corev1.ConditionTrue)); !errors.Is(err, agentlet.ErrAbsent) {
			s.Errorf("SetConditions of a pod that is gone = %v, want ErrAbsent", err)
		}
	})
}

func TestBasicGoldenPodsAreAccepted(t *testing.T) {
	s := scenario.New(t, scenario.Parallel(), scenario.Label(contract.InjectLabel, ""))
	files, err := filepath.Glob(filepath.Join(s.Root, "injector", "testdata", "*", "patched.yaml"))
	s.Must(err)
	if len(files) == 0 {
		s.Fatal("no golden pods")
	}
	_, err = s.Kubectl(s.Ctx, "-n", s.Namespace, "create", "serviceaccount", "web") // for one of the golden pods
	s.Must(err)
	for _, file := range files {
		name := filepath.Base(filepath.Dir(file))
		s.Then("the API server accepts the patched pod "+name, func() {
			original, err := os.ReadFile(filepath.Join(filepath.Dir(file), "pod.yaml"))
			s.Must(err)
			if out, err := dryRun(s, original); err != nil {
				s.Logf("the pod itself is not taken: %s", out)
				return
			}
			patched, err := os.ReadFile(file)
			s.Must(err)
			if out, err := dryRun(s, patched); err != nil {
				s.Errorf("%s", out)
			}
		})
	}
}

func TestBasicOnlyTheOwnGate(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	var own, other *corev1.Pod
	var bound, unbound kubernetes.Interface
	s.Given("two pods, a token that is bound to one of them, and an unbound token", func() {
		var err error
		injected := held(s)
		injected.Annotations = s.Annotations()
		own, err = s.CreatePod("own", injected)
		s.Must(err)
		other, err = s.CreatePod("other", injected)
		s.Must(err)
		awaitAccounts(s, "default")
		bound = as(s, &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: own.Name, UID: own.UID})
		unbound = as(s, nil)
	})
	patch := func(client kubernetes.Interface, pod *corev1.Pod, body string) error {
		_, err := client.CoreV1().Pods(s.Namespace).Patch(s.Ctx, pod.Name, types.StrategicMergePatchType, []byte(body), metav1.PatchOptions{}, "status")
		return err
	}
	gate := `{"status":{"conditions":[{"type":"` + contract.Condition + `","status":"True"}]}}`
	s.Then("the pod's own gate is accepted", func() {
		s.Eventually("the grant to be in force", func(context.Context) (bool, error) {
			err := patch(bound, own, gate)
			return err == nil, err
		})
	})
	for name, attack := range map[string]struct {
		client kubernetes.Interface
		pod    *corev1.Pod
		body   string
	}{
		"another pod's gate":            {bound, other, gate},
		"an unbound token":              {unbound, own, gate},
		"the own Ready condition":       {bound, own, `{"status":{"conditions":[{"type":"Ready","status":"True"}]}}`},
		"the own phase":                 {bound, own, `{"status":{"phase":"Running"}}`},
		"the own labels":                {bound, own, `{"metadata":{"labels":{"role":"primary"}}}`},
		"the own annotations":           {bound, own, `{"metadata":{"annotations":{"a":"b"}}}`},
		"the own nominated node":        {bound, own, `{"status":{"nominatedNodeName":"node1"}}`},
		"a message in the pod's status": {bound, own, `{"status":{"message":"all is well"}}`},
	} {
		s.Then(name+" is denied", func() {
			if err := patch(attack.client, attack.pod, attack.body); err == nil || !strings.Contains(err.Error(), "denied") {
				s.Errorf("the patch %s got %v, want a denial", attack.body, err)
			}
		})
	}
	s.Then("the account may not touch pods themselves", func() {
		if _, err := bound.CoreV1().Pods(s.Namespace).Patch(s.Ctx, own.Name, types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"a":"b"}}}`), metav1.PatchOptions{}); err == nil {
			s.Error("a pod was patched")
		}
		if err := bound.CoreV1().Pods(s.Namespace).Delete(s.Ctx, other.Name, metav1.DeleteOptions{}); err == nil {
			s.Error("a pod was deleted")
		}
		if _, err := bound.CoreV1().Secrets(s.Namespace).List(s.Ctx, metav1.ListOptions{}); err == nil {
			s.Error("secrets were read")
		}
	})
}

// dryRun asks the API server, in a dry run, whether it would create the pod in the scenario's namespace.
func dryRun(s *scenario.S, manifest []byte) (string, error) {
	var pod map[string]any
	s.Must(yaml.Unmarshal(manifest, &pod))
	pod["metadata"].(map[string]any)["namespace"] = s.Namespace
	content, err := yaml.Marshal(pod)
	s.Must(err)
	file := filepath.Join(s.TempDir(), "pod.yaml")
	s.Must(os.WriteFile(file, content, 0o600))
	return s.Kubectl(s.Ctx, "create", "--dry-run=server", "--validate=ignore", "-f", file)
}

// as returns a client with a token of the namespace's default service account, bound to an object, or unbound.
func as(s *scenario.S, object *authenticationv1.BoundObjectReference) kubernetes.Interface {
	s.Helper()
	return withToken(s, tokenOf(s, s.Namespace, "default", object))
}

// tokenOf returns a new token of a service account, bound to an object, or unbound.
func tokenOf(s *scenario.S, namespace, account string, object *authenticationv1.BoundObjectReference) string {
	s.Helper()
	token, err := s.Kube.CoreV1().ServiceAccounts(namespace).CreateToken(s.Ctx, account,
		&authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{BoundObjectRef: object}}, metav1.CreateOptions{})
	s.Must(err)
	return token.Status.Token
}

// withToken returns a client with this token as its only credential.
func withToken(s *scenario.S, token string) kubernetes.Interface {
	s.Helper()
	config, err := s.Cluster.RESTConfig()
	s.Must(err)
	config = rest.AnonymousClientConfig(config)
	config.BearerToken = token
	client, err := kubernetes.NewForConfig(config)
	s.Must(err)
	return client
}
