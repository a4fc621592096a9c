package scenarios_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/e2e/scenario"
)

// pre runs check --pre for the scenario's namespace with more arguments.
func (p *plugin) pre(args ...string) (findings []finding, ok bool) {
	p.Helper()
	out, ok := p.run("", append([]string{"check", "--pre", "-n", p.Namespace, "-o", "json"}, args...)...)
	var result struct{ Findings []finding }
	p.Must(json.Unmarshal([]byte(out), &result))
	return result.Findings, ok
}

// says expects a finding.
func (p *plugin) says(findings []finding, level, check, message string) {
	p.Helper()
	if !slices.ContainsFunc(findings, func(f finding) bool {
		return f.Level == level && f.Check == check && strings.Contains(f.Message, message)
	}) {
		p.Errorf("no finding %s of %s says %q: %+v", level, check, message, findings)
	}
}

func TestPluginCheckPre(t *testing.T) {
	s := scenario.New(t)
	p := newPlugin(s)
	wellExceptInstalled := func(findings []finding, ok bool) {
		s.Helper()
		for _, f := range findings {
			if f.Level != "ok" && f.Level != "skip" && !strings.Contains(f.Message, "is installed already") {
				s.Errorf("%+v", f)
			}
		}
		if !ok {
			s.Error("it failed")
		}
		p.says(findings, "warn", "webhook", "is installed already")
		p.says(findings, "ok", "rights", "may install, upgrade and remove the chart")
		p.says(findings, "ok", "policy", "has ValidatingAdmissionPolicy")
		p.says(findings, "ok", "consul", "leave_on_terminate off")
	}
	s.Then("it finds a Consul agent on each node through the API server, and that Agentlet is there", func() {
		wellExceptInstalled(p.pre("--consul-addr=" + s.Cluster.ConsulAddr()))
	})
	probing := []string{"--probe-nodes", "--image=agentlet/agentlet:dev"}
	s.Then("it finds the same by a pod on each node", func() { wellExceptInstalled(p.pre(probing...)) })
	s.Then("at a port without a Consul agent both say so, and what to do", func() {
		for _, args := range [][]string{nil, probing} {
			findings, ok := p.pre(append([]string{"--consul-port=8599"}, args...)...)
			if ok {
				s.Errorf("it is content: %+v", findings)
			}
			p.says(findings, "fail", "consul", "no Consul agent answers at the IP of any of")
		}
	})
	s.Then("no pod is left", func() {
		pods, err := s.Kube.CoreV1().Pods(s.Namespace).List(s.Ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/name=agentlet-probe"})
		s.Must(err)
		if len(pods.Items) > 0 {
			s.Errorf("%d pods are left", len(pods.Items))
		}
	})
}

func TestPluginVersion(t *testing.T) {
	s := scenario.New(t)
	p := newPlugin(s)
	s.Given("a pod with an agentlet", func() {
		_, err := s.CreatePod("web", s.Sample(s.Annotations()))
		s.Must(err)
		s.AwaitReady("web")
	})
	s.Then("version shows plugin, webhook and agentlet, and nothing to create anew", func() {
		out, ok := p.run("", "version", "-n", s.Namespace, "-o", "json")
		type running struct {
			Version, Image string
			Pods           int
			New            bool
		}
		var report struct {
			Plugin             string
			Webhook, Agentlets []running
			Old                []struct{ Command string }
		}
		s.Must(json.Unmarshal([]byte(out), &report))
		if !ok || report.Plugin == "" || len(report.Webhook) != 1 || report.Webhook[0].Version == "" || len(report.Agentlets) != 1 || len(report.Old) > 0 {
			s.Fatalf("%v, %s", ok, out)
		}
		if a := report.Agentlets[0]; a.Version == "" || a.Pods != 1 || !a.New || a.Image != agentletImage(s.Pod("web")) {
			s.Errorf("%+v", a)
		}
	})
}
