package injector

import (
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestAllowedServices(t *testing.T) {
	said := func(text string) *string { return &text }
	const ofNamespace = "annotation agentlet.dev/allowed-services of namespace shop"
	for name, test := range map[string]struct {
		installation string
		namespace    *string
		services     string
		reason       Reason
		says         []string // of the one error
		args         string   // what the agentlet is told
	}{
		"nobody says anything":         {"", nil, "pay", ReasonInjected, nil, ""},
		"all":                          {"web", said("*"), "pay", ReasonInjected, nil, ""},
		"the namespace's":              {"", said("web, shop-*"), "web,shop-a", ReasonInjected, nil, "--allowed-services=web,shop-*"},
		"not the namespace's":          {"", said("web, shop-*"), "web,pay", ReasonServiceNotAllowed, []string{`service "pay"`, "web,shop-*", ofNamespace}, ""},
		"the installation's":           {"web", nil, "web", ReasonInjected, nil, "--allowed-services=web"},
		"not the installation's":       {"web", nil, "pay", ReasonServiceNotAllowed, []string{`service "pay"`, "only web", "the chart's allowedServices"}, ""},
		"the namespace's word is last": {"web", said("pay"), "pay", ReasonInjected, nil, "--allowed-services=pay"},
		"also where it is narrower":    {"*", said("pay"), "web", ReasonServiceNotAllowed, []string{"only pay", ofNamespace}, ""},
		"a bad glob":                   {"", said("web,[a-z]"), "web", ReasonInvalidAnnotations, []string{contract.AllowedServices, `"web,[a-z]"`, "comma-separated globs", `"[a-z]" is no glob`}, ""},
		"an empty annotation":          {"web", said(""), "web", ReasonInvalidAnnotations, []string{contract.AllowedServices, `""`, "names nothing"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			config.AllowedServices = test.installation
			i, err := New(config)
			if err != nil {
				t.Fatal(err)
			}
			d := i.Decide(Request{Namespace: "shop", Pod: serving(test.services), Nonce: nonce, AllowedServices: test.namespace})
			if d.Reason != test.reason {
				t.Fatalf("%s: %v", d.Reason, d.Errors)
			}
			if test.says == nil {
				if got := argOf(t, d, "--allowed-services="); got != test.args {
					t.Errorf("the agentlet is told %q", got)
				}
				return
			}
			if len(d.Errors) != 1 || len(d.Patch) > 0 || d.Outcome != Denied {
				t.Fatalf("%s with %d operations: %v", d.Outcome, len(d.Patch), d.Errors)
			}
			for _, part := range test.says {
				if !strings.Contains(d.Errors[0].Error(), part) {
					t.Errorf("%s does not say %s", d.Errors[0], part)
				}
			}
		})
	}
}

func TestAllowedServicesOfAnInstallationAreJudged(t *testing.T) {
	for text, good := range map[string]bool{"": true, "*": true, "a,b-*": true, " ": false, "a,,b": false, "a/b": false} {
		config := testConfig()
		config.AllowedServices = text
		if _, err := New(config); (err == nil) != good || err != nil && !strings.Contains(err.Error(), "allowedServices") {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestNotAllowedAfterInjection: a pod that brings an agentlet of its own is bounded, too.
func TestNotAllowedAfterInjection(t *testing.T) {
	only, i := "web", testInjector(t)
	pod := serving("pay")
	reg, _, errs := registration.Parse(pod, nil)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	pod.Spec.InitContainers = []corev1.Container{*i.parts.container(pod, &reg.Settings, nonce, nil, nil)}
	if d := i.Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce, AllowedServices: &only}); d.Reason != ReasonServiceNotAllowed {
		t.Errorf("%s: %v", d.Reason, d.Errors)
	}
}

func serving(services string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web", Annotations: map[string]string{contract.ServiceNames: services}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{
			Name: "app", Image: "app", Ports: []corev1.ContainerPort{{ContainerPort: 8080}},
		}}},
	}
}

// argOf is the agentlet's argument that starts so, or nothing.
func argOf(t *testing.T, d Decision, prefix string) string {
	t.Helper()
	for _, o := range d.Patch {
		if containers, ok := o.Value.([]*corev1.Container); ok {
			args := containers[0].Args
			if n := slices.IndexFunc(args, func(arg string) bool { return strings.HasPrefix(arg, prefix) }); n >= 0 {
				return args[n]
			}
			return ""
		}
	}
	t.Fatal("the patch adds no agentlet")
	return ""
}
