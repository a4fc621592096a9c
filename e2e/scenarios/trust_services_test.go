package scenarios_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

func TestTrustAllowedServices(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	forbidden := "not-" + s.Service()
	globs := s.Service() + ",also-" + s.Service() + "*"
	s.Given("a namespace that allows some names", func() {
		_, err := s.Kubectl(s.Ctx, "annotate", "namespace", s.Namespace, contract.AllowedServices+"="+globs)
		s.Must(err)
		// The webhook learns of the annotation a moment later.
		s.Eventually("the annotation to be in force", func(context.Context) (bool, error) {
			_, err := s.CreatePod("early", s.Sample(s.Annotations("service-names", forbidden)))
			if err == nil {
				s.Delete("early")
			}
			return err != nil, fmt.Errorf("the pod was admitted")
		})
	})
	s.When("a pod asks for an allowed name", func() {
		_, err := s.CreatePod("web", s.Sample(s.Annotations()))
		s.Must(err)
	})
	s.Then("the pod becomes Ready", func() {
		s.AwaitReady("web")
		s.AwaitCatalog(s.Service(), 1)
	})
	s.Then("a pod with another name is denied, with the name, the globs and where they come from", func() {
		_, err := s.CreatePod("other", s.Sample(s.Annotations("service-names", s.Service()+","+forbidden)))
		if err == nil {
			s.Fatal("the pod was admitted")
		}
		mentions(s, err.Error(), fmt.Sprintf("%q", forbidden), globs, contract.AllowedServices+" of namespace "+s.Namespace)
	})
	s.When("the running pod's annotation changes to another name", func() {
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "annotate", "--overwrite", "pod/web", contract.ServiceNames+"="+forbidden)
		s.Must(err)
	})
	s.Then("its condition says so, and the last valid registration stays", func() {
		s.Eventually("the refusal", func(context.Context) (bool, error) {
			gate := scenario.Condition(s.Pod("web"), contract.Condition)
			return gate.Reason == string(contract.InvalidConfiguration) && gate.Status == "True", fmt.Errorf("the gate: %+v", gate)
		})
		mentions(s, scenario.Condition(s.Pod("web"), contract.Condition).Message, fmt.Sprintf("%q", forbidden), globs)
		if here, there := len(s.Passing(s.Service())), len(s.Catalog(forbidden)); here != 1 || there != 0 {
			s.Errorf("the catalog has %d passing of the old name, %d of the new", here, there)
		}
	})
	s.When("it changes to an allowed one", func() {
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "annotate", "--overwrite", "pod/web", contract.ServiceNames+"=also-"+s.Service()+"-2")
		s.Must(err)
	})
	s.Then("the catalog follows", func() {
		s.AwaitCatalog("also-"+s.Service()+"-2", 1)
		s.AwaitCatalog(s.Service(), 0)
	})
	s.Then("a bad list of globs denies every pod with an agentlet, and says why", func() {
		_, err := s.Kubectl(s.Ctx, "annotate", "--overwrite", "namespace", s.Namespace, contract.AllowedServices+"=web,[a-z]")
		s.Must(err)
		s.Eventually("the denial", func(context.Context) (bool, error) {
			_, err := s.CreatePod("bad", s.Sample(s.Annotations()))
			if err == nil {
				s.Delete("bad")
				return false, fmt.Errorf("the pod was admitted")
			}
			return strings.Contains(err.Error(), "comma-separated globs") && strings.Contains(err.Error(), contract.AllowedServices), err
		})
	})
}

// TestTrustAllowedTags checks that a tag that the namespace denies is never registered, from whatever source.
func TestTrustAllowedTags(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	const refusal = "pods of this namespace may not register urlprefix-* ("
	source := contract.AllowedTags + " of namespace " + s.Namespace
	structured := "[{name: " + s.Service() + ", port: 8080, tags: [v1, 'urlprefix-/structured']}]"
	template := func(pairs ...string) corev1.PodTemplateSpec {
		template := s.Sample(s.Annotations(pairs...))
		template.Labels["route"] = "urlprefix-label"
		return template
	}
	s.Given("a namespace whose pods may not register Fabio routes", func() {
		_, err := s.Kubectl(s.Ctx, "annotate", "namespace", s.Namespace, contract.AllowedTags+"=!urlprefix-*")
		s.Must(err)
		s.Eventually("the annotation to be in force", func(context.Context) (bool, error) {
			err := admit(s, template("service-tags", "urlprefix-/early"))
			return err != nil, fmt.Errorf("the pod was admitted")
		})
	})
	s.Then("a pod that asks for one is denied, with the tag, the glob and where it comes from", func() {
		for tag, pairs := range map[string][]string{
			"urlprefix-/flat":       {"service-tags", "v1,urlprefix-/flat"},
			"URLPREFIX-/case":       {"service-tags", "URLPREFIX-/case"},
			"urlprefix-/structured": {"service-names", "", "services", structured},
			"urlprefix-label":       {"tags-from-labels", "app,route"},
		} {
			err := admit(s, template(pairs...))
			if err == nil {
				s.Errorf("%v is admitted", pairs)
				continue
			}
			mentions(s, err.Error(), fmt.Sprintf("tag %q", tag), refusal, source)
		}
	})
	var pod *corev1.Pod
	s.When("a pod asks for other tags", func() {
		_, err := s.CreatePod("web", template("service-tags", "v1", "local-api", "enabled", "drain-delay", "0s"))
		s.Must(err)
		pod = s.AwaitReady("web")
		s.AwaitCatalog(s.Service(), 1)
	})
	stays := func() {
		s.Helper()
		s.Eventually("the refusal", func(context.Context) (bool, error) {
			gate := scenario.Condition(s.Pod("web"), contract.Condition)
			return gate.Reason == string(contract.InvalidConfiguration) && gate.Status == "True" && strings.Contains(gate.Message, refusal), fmt.Errorf("the gate: %+v", gate)
		})
		if entries := s.Passing(s.Service()); len(entries) != 1 || !slices.Equal(entries[0].Service.Tags, []string{"v1"}) {
			s.Errorf("the catalog has %d, %v", len(entries), entries)
		}
	}
	s.Then("the running pod's annotations and labels can't add one", func() {
		for _, change := range []string{contract.ServiceTags + "=v2,urlprefix-/later", contract.ServiceTags + "-"} {
			_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "annotate", "--overwrite", "pod/web", change, contract.TagsFromLabels+"=route")
			s.Must(err)
			stays()
		}
	})
	s.Then("neither can the application", func() {
		code, answer := tell(s, pod.Status.PodIP+":8080", contract.TagsPath, `{"tags": ["primary", "urlprefix-/said"]}`)
		if code != http.StatusForbidden {
			s.Errorf("answered with %d", code)
		}
		mentions(s, answer, "tags[1]", "urlprefix-/said", refusal)
		stays()
	})
	s.When("the application sets an allowed tag", func() {
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "annotate", "--overwrite", "pod/web", contract.ServiceTags+"=v2", contract.TagsFromLabels+"-")
		s.Must(err)
	})
	s.Then("the catalog follows", func() {
		s.Eventually("the tag", func(context.Context) (bool, error) {
			entries := s.Passing(s.Service())
			return len(entries) == 1 && slices.Equal(entries[0].Service.Tags, []string{"v2"}), nil
		})
	})
}

// TestTrustNobodyIsConsul checks that no pod can register as Consul's servers, even if the namespace allows the name.
func TestTrustNobodyIsConsul(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	servers := func() (found []string) {
		s.Helper()
		for _, entry := range s.Catalog("consul") {
			if found = append(found, entry.Service.ID); entry.Service.ID != "consul" {
				s.Errorf("the servers have an instance %s on %s", entry.Service.ID, entry.Node.Node)
			}
		}
		return found
	}
	var before []string
	s.Given("a namespace that allows the name", func() {
		_, err := s.Kubectl(s.Ctx, "annotate", "namespace", s.Namespace, contract.AllowedServices+"=*,consul")
		s.Must(err)
		if before = servers(); len(before) == 0 {
			s.Fatal("the catalog has no servers")
		}
	})
	s.Then("a pod that asks for it is denied, in any case and either form", func() {
		for _, pairs := range [][]string{
			{"service-names", "consul"}, {"service-names", "web,CONSUL"}, {"service-names", "", "services", "[{name: Consul, port: 8080}]"},
		} {
			if err := admit(s, s.Sample(s.Annotations(pairs...))); err == nil {
				s.Errorf("%v is admitted", pairs)
			} else {
				mentions(s, err.Error(), "it is the service of Consul's own servers")
			}
		}
	})
	s.When("a running pod asks for it", func() {
		_, err := s.CreatePod("web", s.Sample(s.Annotations("drain-delay", "0s")))
		s.Must(err)
		s.AwaitReady("web")
		_, err = s.Kubectl(s.Ctx, "-n", s.Namespace, "annotate", "--overwrite", "pod/web", contract.ServiceNames+"=Consul")
		s.Must(err)
	})
	s.Then("its gate gives the reason, and the service consul has only the servers", func() {
		s.Eventually("the refusal", func(context.Context) (bool, error) {
			gate := scenario.Condition(s.Pod("web"), contract.Condition)
			return gate.Reason == string(contract.InvalidConfiguration) && strings.Contains(gate.Message, "Consul's own servers"), fmt.Errorf("the gate: %+v", gate)
		})
		if now := servers(); len(now) != len(before) || len(s.Passing(s.Service())) != 1 {
			s.Errorf("%d servers, then %d; %d passing of the pod's own service", len(before), len(now), len(s.Passing(s.Service())))
		}
	})
}

// admit returns the API server's response to a dry-run creation of the template's pod.
func admit(s *scenario.S, template corev1.PodTemplateSpec) error {
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.GenerateName = "tried-"
	_, err := s.Kube.CoreV1().Pods(s.Namespace).Create(s.Ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	return err
}

// mentions checks that a text contains all parts.
func mentions(s *scenario.S, text string, parts ...string) {
	s.Helper()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			s.Errorf("%q is not said: %s", part, text)
		}
	}
}

// TestTrustAllowedServicesOfTheChart runs alone, because it installs the chart with other values.
func TestTrustAllowedServicesOfTheChart(t *testing.T) {
	s := scenario.New(t)
	s.Given("an installation that allows one name and denies tags, and where the webhook grants nothing", func() {
		reinstalled(s)
		s.Must(s.Install(s.Ctx, "grants.mode=list", "grants.namespaces={"+s.Namespace+"}", "allowedServices="+s.Service(), "allowedTags=!urlprefix-*"))
	})
	s.Then("a pod with that name becomes Ready", func() {
		_, err := s.CreatePod("web", s.Sample(s.Annotations()))
		s.Must(err)
		s.AwaitReady("web")
	})
	s.Then("one with another name is denied", func() {
		_, err := s.CreatePod("other", s.Sample(s.Annotations("service-names", "other")))
		if err == nil {
			s.Fatal("the pod was admitted")
		}
		mentions(s, err.Error(), `"other"`, "only "+s.Service(), "the webhook's --allowed-services")
	})
	s.Then("so is one with such a tag", func() {
		err := admit(s, s.Sample(s.Annotations("service-tags", "v1,urlprefix-/")))
		if err == nil {
			s.Fatal("the pod was admitted")
		}
		mentions(s, err.Error(), `tag "urlprefix-/"`, "the webhook's --allowed-tags")
	})
	s.Then("a namespace's own annotation has precedence", func() {
		_, err := s.Kubectl(s.Ctx, "annotate", "namespace", s.Namespace, contract.AllowedServices+"=other")
		s.Must(err)
		s.Eventually("the annotation to be in force", func(context.Context) (bool, error) {
			_, err := s.CreatePod("other", s.Sample(s.Annotations("service-names", "other")))
			return err == nil, err
		})
	})
}

func TestTrustChecksStayInThePod(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	create := func(check string) error {
		return admit(s, s.Sample(s.Annotations("service-names", "", "services", "- name: "+s.Service()+"\n  checks:\n  - interval: 10s\n    "+check+"\n")))
	}
	s.Then("a check of the pod itself is allowed", func() { s.Must(create("http: http://:8080/health")) })
	for name, check := range map[string]string{
		"to another address": "http: http://10.96.0.1:8080/", "to another name": "tcp: db.example.com:5432", "to the node": "grpc: 127.0.0.1:8502",
		"that runs a command": "args: [/bin/sh, -c, id]", "in a container": "docker_container_id: any", "of the operating system": "os_service: sshd",
		"of another node": "alias_node: node1", "of another service": "alias_service: db",
	} {
		s.Then("a check "+name+" is denied", func() {
			if err := create(check); err == nil || !strings.Contains(err.Error(), "the pod's own IP") {
				s.Errorf("%s: %v, want a denial", check, err)
			}
		})
	}
}
