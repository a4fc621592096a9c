package versions

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/cli/installation"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// said are the versions that pods say, by name; the others don't answer.
type said map[string]string

func (s said) Pod(_ context.Context, _, pod, port, path string) ([]byte, error) {
	if s[pod] == "" {
		return nil, errors.New("no answer")
	}
	metric := map[string]string{"19500": "agentlet_build_info", "8080": "agentlet_webhook_build_info"}[port]
	if metric == "" || path != "metrics" {
		return nil, fmt.Errorf("unexpected %s at %s", path, port)
	}
	return fmt.Appendf(nil, "# HELP %s 1.\n%s{goversion=\"go1.26\",version=%q} 1\n", metric, metric, s[pod]), nil
}

// replica is a pod of the webhook that injects an image.
func replica(name, image string, age time.Duration) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "agentlet-system", Name: name, Labels: map[string]string{"app": "webhook"},
			CreationTimestamp: metav1.NewTime(time.Unix(1e9, 0).Add(-age)),
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "webhook", Image: image, Args: []string{"--image=" + image}}}},
	}
}

// injected is a pod of a Deployment with an agentlet.
func injected(name, image, deployment string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, Labels: map[string]string{"pod-template-hash": "1"},
			OwnerReferences: []metav1.OwnerReference{{Kind: "ReplicaSet", Name: deployment + "-1", Controller: new(true)}},
		},
		Spec: corev1.PodSpec{Containers: []corev1.Container{
			{Name: "web"},
			{Name: contract.ContainerName, Image: image, Ports: []corev1.ContainerPort{{ContainerPort: 19500}}},
		}},
	}
}

// bare is a pod with an agentlet and without a controller.
func bare(name, image string) *corev1.Pod {
	pod := injected(name, image, "")
	pod.OwnerReferences = nil
	return pod
}

// hook is the webhook's configuration, with its service.
func hook() []runtime.Object {
	return []runtime.Object{
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: "agentlet-system", Name: "agentlet"},
			Spec:       corev1.ServiceSpec{Selector: map[string]string{"app": "webhook"}},
		},
		&admissionregistrationv1.MutatingWebhookConfiguration{
			ObjectMeta: metav1.ObjectMeta{Name: "agentlet"},
			Webhooks: []admissionregistrationv1.MutatingWebhook{{
				Name: installation.HookName,
				ClientConfig: admissionregistrationv1.WebhookClientConfig{
					Service: &admissionregistrationv1.ServiceReference{Namespace: "agentlet-system", Name: "agentlet"},
				},
			}},
		},
	}
}

func TestRead(t *testing.T) {
	of := func(pod *corev1.Pod, id string) *corev1.Pod {
		pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: contract.ContainerName, ImageID: id}}
		return pod
	}
	for name, test := range map[string]struct {
		objects []runtime.Object
		says    said
		want    []string // lines of the text, without the plugin's
		plugin  string   // 1.2.0 if empty
	}{
		"one version": {
			append(hook(), replica("w", "r/agentlet:1.2.0", 0), injected("a", "r/agentlet:1.2.0", "web"), injected("b", "r/agentlet:1.2.0", "web")),
			said{"w": "1.2.0", "b": "1.2.0"}, // one that answers is enough
			[]string{"webhook 1.2.0 1 r/agentlet:1.2.0 -", "agentlet 1.2.0 2 r/agentlet:1.2.0 new pods get it"},
			"",
		},
		"older agentlets": {
			append(hook(), replica("w", "r/agentlet:1.2.0", 0), injected("a", "r/agentlet:1.2.0", "web"),
				injected("b", "r/agentlet:1.1.0", "old"), injected("c", "r/agentlet:1.1.0", "old")),
			said{"w": "1.2.0", "a": "1.2.0", "b": "1.1.0"},
			[]string{
				"webhook 1.2.0 1 r/agentlet:1.2.0 -", "agentlet 1.1.0 2 r/agentlet:1.1.0 -", "agentlet 1.2.0 1 r/agentlet:1.2.0 new pods get it",
				"2 pods have another agentlet than new pods get. To create them anew:", "kubectl -n shop rollout restart deployment/old",
			},
			"",
		},
		"an older agentlet that nothing would create again": {
			append(hook(), replica("w", "r/agentlet:1.2.0", 0), bare("a", "r/agentlet:1.1.0")),
			said{"w": "1.2.0", "a": "1.1.0"},
			[]string{
				"webhook 1.2.0 1 r/agentlet:1.2.0 -", "agentlet 1.1.0 1 r/agentlet:1.1.0 -",
				"1 pod has another agentlet than new pods get. To create them anew:",
				"# no controller has pod a of namespace shop: delete it, and create it again",
			},
			"",
		},
		"too old an agentlet": {
			append(hook(), replica("w", "r/agentlet:1.4.0", 0), injected("a", "r/agentlet:1.1.0", "web")),
			said{"w": "1.4.0", "a": "1.1.0"},
			[]string{
				"webhook 1.4.0 1 r/agentlet:1.4.0 -",
				"agentlet 1.1.0 1 r/agentlet:1.1.0 3 releases apart from the webhook's 1.4.0, and at most 2 are supported",
				"1 pod has another agentlet than new pods get. To create them anew:", "kubectl -n shop rollout restart deployment/web",
			},
			"",
		},
		"too old an agentlet for the plugin's release": {
			append(hook(), replica("w", "r/agentlet:1.2.0", 0), injected("a", "r/agentlet:1.1.0", "web"), injected("b", "r/agentlet:1.2.0", "new")),
			said{"w": "1.2.0", "a": "1.1.0", "b": "1.2.0"},
			[]string{
				"webhook 1.2.0 1 r/agentlet:1.2.0 -",
				"agentlet 1.1.0 1 r/agentlet:1.1.0 3 releases apart from this plugin's 1.4.0, and at most 2 are supported",
				"agentlet 1.2.0 1 r/agentlet:1.2.0 new pods get it",
				"1 pod has another agentlet than new pods get. To create them anew:", "kubectl -n shop rollout restart deployment/web",
			},
			"1.4.0",
		},
		"an older plugin says nothing of that": {
			append(hook(), replica("w", "r/agentlet:1.4.0", 0), injected("a", "r/agentlet:1.4.0", "web")),
			said{"w": "1.4.0", "a": "1.4.0"},
			[]string{"webhook 1.4.0 1 r/agentlet:1.4.0 -", "agentlet 1.4.0 1 r/agentlet:1.4.0 new pods get it"},
			"1.1.0",
		},
		"the same version from elsewhere": {
			append(hook(), replica("w", "r/agentlet:1.2.0", 0), injected("a", "mirror/agentlet@sha256:1", "web")),
			said{"w": "1.2.0", "a": "1.2.0"},
			[]string{"webhook 1.2.0 1 r/agentlet:1.2.0 -", "agentlet 1.2.0 1 mirror/agentlet@sha256:1 new pods get it"},
			"",
		},
		"a moved tag": {
			append(hook(), replica("w", "r/agentlet:1", 0), of(injected("a", "r/agentlet:1", "web"), "x"), of(injected("b", "r/agentlet:1", "old"), "y")),
			said{"w": "1.2.0", "a": "1.2.0", "b": "1.1.0"},
			[]string{
				"webhook 1.2.0 1 r/agentlet:1 -", "agentlet 1.2.0 1 r/agentlet:1 new pods get it", "agentlet 1.1.0 1 r/agentlet:1 -",
				"1 pod has another agentlet than new pods get. To create them anew:", "kubectl -n shop rollout restart deployment/old",
			},
			"",
		},
		"two builds of one version": {
			append(hook(), replica("w", "r/agentlet:1", 0), of(injected("a", "r/agentlet:1", "web"), "x"), of(injected("b", "r/agentlet:1", "old"), "y")),
			said{"w": "1.2.0", "a": "1.2.0", "b": "1.2.0"},
			[]string{"webhook 1.2.0 1 r/agentlet:1 -", "agentlet 1.2.0 2 r/agentlet:1 new pods get it"},
			"",
		},
		"nobody answers": {
			append(hook(), replica("w", "r/agentlet:1.2.0", 0), injected("a", "r/agentlet:1.2.0", "web"), injected("b", "r/agentlet:1.1.0", "old")),
			said{},
			[]string{
				"webhook unknown 1 r/agentlet:1.2.0 -", "agentlet unknown 1 r/agentlet:1.2.0 new pods get it", "agentlet unknown 1 r/agentlet:1.1.0 -",
				"1 pod has another agentlet than new pods get. To create them anew:", "kubectl -n shop rollout restart deployment/old",
			},
			"",
		},
		"a webhook that is being rolled out": {
			append(hook(), replica("old", "r/agentlet:1.1.0", time.Hour), replica("w", "r/agentlet:1.2.0", 0), injected("a", "r/agentlet:1.2.0", "web")),
			said{"w": "1.2.0", "old": "1.1.0", "a": "1.2.0"},
			[]string{"webhook 1.1.0 1 r/agentlet:1.1.0 -", "webhook 1.2.0 1 r/agentlet:1.2.0 -", "agentlet 1.2.0 1 r/agentlet:1.2.0 new pods get it"},
			"",
		},
		"no webhook": {
			[]runtime.Object{injected("a", "r/agentlet:1.1.0", "web")},
			said{"a": "1.1.0"},
			[]string{"agentlet 1.1.0 1 r/agentlet:1.1.0 -", "No webhook is installed."},
			"",
		},
		"pods without an agentlet, and ended ones": {
			append(hook(), replica("w", "r/agentlet:1.2.0", 0), &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "plain"}},
				func() *corev1.Pod {
					pod := injected("job", "r/agentlet:1.0.0", "web")
					pod.Status.Phase = corev1.PodSucceeded
					return pod
				}()),
			said{"w": "1.2.0"},
			[]string{"webhook 1.2.0 1 r/agentlet:1.2.0 -"},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			report, err := Read(t.Context(), Config{Kube: fake.NewClientset(test.objects...), Cluster: test.says, Plugin: cmp.Or(test.plugin, "1.2.0")})
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			Write(printer.New(&out, false), report)
			var lines []string
			for line := range strings.Lines(out.String()) {
				if fields := strings.Fields(line); len(fields) > 0 && fields[0] != "WHAT" && fields[0] != "plugin" {
					lines = append(lines, strings.Join(fields, " "))
				}
			}
			if !slices.Equal(lines, test.want) {
				t.Errorf("%s\nwant\n%s", strings.Join(lines, "\n"), strings.Join(test.want, "\n"))
			}
		})
	}
}

// TestReadWithoutRights checks that pods are needed, and the webhook isn't.
func TestReadWithoutRights(t *testing.T) {
	for resource, fails := range map[string]bool{"pods": true, "mutatingwebhookconfigurations": false, "services": false} {
		t.Run(resource, func(t *testing.T) {
			client := fake.NewClientset(append(hook(), injected("a", "r/agentlet:1.1.0", "web"))...)
			client.PrependReactor("*", resource, func(clienttesting.Action) (bool, runtime.Object, error) {
				return true, nil, errors.New("forbidden")
			})
			report, err := Read(t.Context(), Config{Kube: client, Cluster: said{}})
			if (err != nil) != fails || err == nil && (len(report.Agentlets) != 1 || len(report.Old) > 0 || !strings.Contains(report.Unknown, "forbidden")) {
				t.Errorf("%+v, %v", report, err)
			}
		})
	}
}

// TestSkewIsThatOfTheDocs checks that docs and version name the same limit.
func TestSkewIsThatOfTheDocs(t *testing.T) {
	text, err := os.ReadFile("../../../docs/supported.md")
	word := []string{"no", "one", "two", "three"}[maxSkew]
	if want := "up to " + word + " releases (minor versions) older or newer"; err != nil || !strings.Contains(string(text), want) {
		t.Errorf("docs/supported.md doesn't say %q: %v", want, err)
	}
}

func TestSkew(t *testing.T) {
	for name, test := range map[string]struct{ webhook, agentlet, want string }{
		"the same":                              {"1.2.0", "1.2.0", ""},
		"another patch":                         {"1.2.0", "1.2.9", ""},
		"the release before last":               {"1.4.0", "1.2.9", ""},
		"one before that":                       {"1.4.0", "1.1.0", "3 releases apart"},
		"the webhook is of the one before last": {"1.2.0", "1.4.0", ""},
		"the webhook is older than that":        {"1.1.0", "1.4.0", "3 releases apart"},
		"before 1.0":                            {"0.4.0", "v0.1.0", "3 releases apart"},
		"another major version":                 {"2.0.0", "1.9.0", "another major version"},
		"no release":                            {"dev", "1.1.0", ""},
		"unknown":                               {"1.4.0", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got := skew("the webhook's", test.webhook, test.agentlet); test.want == "" && got != "" || !strings.Contains(got, test.want) {
				t.Errorf("%q", got)
			}
		})
	}
}
