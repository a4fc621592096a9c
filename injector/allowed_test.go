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

func TestAllowed(t *testing.T) {
	const services, tags = "annotation agentlet.dev/allowed-services of namespace shop", "annotation agentlet.dev/allowed-tags of namespace shop"
	type said = map[string]string // the namespace's annotations
	for name, test := range map[string]struct {
		services, tags string // of the configuration
		namespace      said
		asks           string // services and their tags
		reason         Reason
		says           []string // parts of the only error
		args           []string // of the agentlet
	}{
		"nobody says anything":         {"", "", nil, "pay", ReasonInjected, nil, nil},
		"all":                          {"web", "v*", said{contract.AllowedServices: "*", contract.AllowedTags: "*"}, "pay/x", ReasonInjected, nil, nil},
		"the namespace's":              {"", "", said{contract.AllowedServices: "web, shop-*"}, "web,shop-a/x", ReasonInjected, nil, []string{"--allowed-services=web,shop-*"}},
		"not the namespace's":          {"", "", said{contract.AllowedServices: "web, shop-*"}, "web,pay", ReasonServiceNotAllowed, []string{`service "pay"`, "only web,shop-*", services}, nil},
		"denied by the namespace":      {"", "", said{contract.AllowedServices: "!vault"}, "Vault", ReasonServiceNotAllowed, []string{`service "Vault"`, "may not register vault", services}, nil},
		"not denied by the namespace":  {"", "", said{contract.AllowedServices: "!vault"}, "web", ReasonInjected, nil, []string{"--allowed-services=!vault"}},
		"the installation's":           {"web", "", nil, "web", ReasonInjected, nil, []string{"--allowed-services=web"}},
		"not the installation's":       {"web", "", nil, "pay", ReasonServiceNotAllowed, []string{`service "pay"`, "only web", "the webhook's --allowed-services"}, nil},
		"the namespace's word is last": {"web", "!x", said{contract.AllowedServices: "pay", contract.AllowedTags: "*"}, "pay/x", ReasonInjected, nil, []string{"--allowed-services=pay"}},
		"also where it is narrower":    {"*", "", said{contract.AllowedServices: "pay"}, "web", ReasonServiceNotAllowed, []string{"only pay", services}, nil},
		"a bad glob":                   {"", "", said{contract.AllowedServices: "web,[a-z]"}, "web", ReasonInvalidAnnotations, []string{contract.AllowedServices, `"web,[a-z]"`, "comma-separated globs of service names", `"[a-z]" is no glob`}, nil},
		"an empty annotation":          {"web", "", said{contract.AllowedServices: ""}, "web", ReasonInvalidAnnotations, []string{contract.AllowedServices, `""`, "names nothing"}, nil},
		"tags":                         {"", "", said{contract.AllowedTags: `!urlprefix-*, v1\,2`}, `web/v1\,2`, ReasonInjected, nil, []string{`--allowed-tags=!urlprefix-*,v1\,2`}},
		"a denied tag":                 {"", "", said{contract.AllowedTags: "!urlprefix-*"}, "web/urlprefix-/", ReasonTagNotAllowed, []string{"service-tags]", `tag "urlprefix-/"`, "may not register urlprefix-*", tags}, nil},
		"a tag that is not allowed":    {"", "", said{contract.AllowedTags: "v*"}, "web/x", ReasonTagNotAllowed, []string{`tag "x"`, "only v*", tags}, nil},
		"the installation's tags":      {"", "!traefik.*", nil, "web/traefik.enable=true", ReasonTagNotAllowed, []string{`tag "traefik.enable=true"`, "the webhook's --allowed-tags"}, nil},
		"a bad glob of tags":           {"", "", said{contract.AllowedTags: "$(A)"}, "web", ReasonInvalidAnnotations, []string{contract.AllowedTags, "comma-separated globs of tags", "Kubernetes expands"}, nil},
		"both":                         {"web,!api", "!x", nil, "web/v1", ReasonInjected, nil, []string{"--allowed-services=web,!api", "--allowed-tags=!x"}},
		"the name of Consul's servers": {"consul", "", said{contract.AllowedServices: "consul"}, "consul", ReasonInvalidAnnotations, []string{"service-names]", "Consul's own servers"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			config := testConfig()
			config.AllowedServices, config.AllowedTags = test.services, test.tags
			i, err := New(config)
			if err != nil {
				t.Fatal(err)
			}
			names, tagged, _ := strings.Cut(test.asks, "/")
			pod := serving(names)
			if tagged != "" {
				pod.Annotations[contract.ServiceTags] = tagged
			}
			d := i.Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce, NamespaceAnnotations: test.namespace})
			if d.Reason != test.reason {
				t.Fatalf("%s: %v", d.Reason, d.Errors)
			}
			if test.says == nil {
				if got := argsOf(t, d, "--allowed-"); !slices.Equal(got, test.args) {
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

// TestEveryErrorInWhatIsAllowed: all errors are reported at once, also those of the namespace.
func TestEveryErrorInWhatIsAllowed(t *testing.T) {
	pod := serving("web,pay")
	pod.Annotations[contract.ServiceTags] = "x"
	decide := func(namespace map[string]string) Decision {
		return testInjector(t).Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce, NamespaceAnnotations: namespace})
	}
	if d := decide(map[string]string{contract.AllowedServices: "web", contract.AllowedTags: "v*"}); len(d.Errors) != 2 || d.Reason != ReasonServiceNotAllowed {
		t.Errorf("%s: %v", d.Reason, d.Errors)
	}
	pod.Annotations[contract.Gate] = "ajar"
	if d := decide(map[string]string{contract.AllowedServices: "web", contract.AllowedTags: "v*"}); len(d.Errors) != 3 || d.Reason != ReasonInvalidAnnotations {
		t.Errorf("%s: %v", d.Reason, d.Errors)
	}
	delete(pod.Annotations, contract.Gate)
	if d := decide(map[string]string{contract.AllowedServices: "a/b", contract.AllowedTags: ","}); len(d.Errors) != 2 || d.Reason != ReasonInvalidAnnotations {
		t.Errorf("%s: %v", d.Reason, d.Errors)
	}
}

// TestTagsOfOtherSystemsAreBounded: an error names the annotation that the pod's author has written.
func TestTagsOfOtherSystemsAreBounded(t *testing.T) {
	for key, annotations := range map[string]map[string]string{
		"katalog-sync.wish.com/service-tags-web": {
			"katalog-sync.wish.com/service-names": "web", "katalog-sync.wish.com/service-tags-web": "v1,urlprefix-/",
		},
		"consul.hashicorp.com/service-tags": {
			"consul.hashicorp.com/service-name": "web", "consul.hashicorp.com/service-tags": "v1,urlprefix-/",
		},
	} {
		t.Run(key, func(t *testing.T) {
			pod := serving("")
			pod.Annotations = annotations
			d := testInjector(t).Decide(Request{
				Namespace: "shop", Pod: pod, Nonce: nonce, NamespaceAnnotations: map[string]string{contract.AllowedTags: "!urlprefix-*"},
			})
			if d.Reason != ReasonTagNotAllowed || len(d.Errors) != 1 {
				t.Fatalf("%s: %v", d.Reason, d.Errors)
			}
			if got, want := d.Errors[0].Error(), "metadata.annotations["+key+`]: Forbidden: tag "urlprefix-/": pods`; !strings.HasPrefix(got, want) {
				t.Errorf("got  %s\nwant %s…", got, want)
			}
		})
	}
}

func TestAllowedOfTheConfigurationIsValidated(t *testing.T) {
	for text, good := range map[string]bool{"": true, "*": true, "a,b-*": true, "!a": true, " ": false, "a,,b": false, "!": false} {
		config := testConfig()
		config.AllowedServices, config.AllowedTags = text, text
		_, err := New(config)
		if (err == nil) != good || err != nil && (!strings.Contains(err.Error(), "--allowed-services") || !strings.Contains(err.Error(), "--allowed-tags")) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// TestNotAllowedAfterInjection: the bounds hold also for a pod that was created with an agentlet.
func TestNotAllowedAfterInjection(t *testing.T) {
	i := testInjector(t)
	pod := serving("pay")
	reg, errs := registration.Parse(pod, nil)
	if len(errs) > 0 {
		t.Fatal(errs)
	}
	pod.Spec.Containers = append(pod.Spec.Containers, *i.parts.container(pod, &reg.Settings, nonce, &registration.Allowed{}, nil, nil))
	d := i.Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce, NamespaceAnnotations: map[string]string{contract.AllowedServices: "web"}})
	if d.Reason != ReasonServiceNotAllowed {
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

// argsOf returns the agentlet's arguments with this prefix.
func argsOf(t *testing.T, d Decision, prefix string) (args []string) {
	t.Helper()
	for _, o := range d.Patch {
		if agentlet, ok := o.Value.(*corev1.Container); ok {
			for _, arg := range agentlet.Args {
				if strings.HasPrefix(arg, prefix) {
					args = append(args, arg)
				}
			}
			return args
		}
	}
	t.Fatal("the patch adds no agentlet")
	return nil
}
