package scenarios_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// plugin is kubectl-agentlet, built from this tree.
type plugin struct {
	*scenario.S
	file string
	// said is what the last run wrote to its standard error.
	said string
}

func newPlugin(s *scenario.S) *plugin {
	s.Helper()
	p := &plugin{S: s, file: filepath.Join(s.TempDir(), "kubectl-agentlet")}
	s.Must(s.Command(s.Ctx, "go", "build", "-C", s.Root, "-o", p.file, "./cmd/kubectl-agentlet"))
	return p
}

// run runs the plugin with stdin, and returns its output and whether its exit code is 0.
func (p *plugin) run(stdin string, args ...string) (out string, ok bool) {
	p.Helper()
	command := exec.CommandContext(p.Ctx, p.file, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+p.Cluster.Kubeconfig())
	command.Stdin = strings.NewReader(stdin)
	var errs strings.Builder
	command.Stderr = &errs
	text, err := command.Output()
	if p.said = errs.String(); p.said != "" {
		p.Logf("kubectl agentlet %s: %s", strings.Join(args, " "), p.said)
	}
	return string(text), err == nil
}

// finding is a finding in check's JSON.
type finding struct{ Level, Check, Subject, Message, Remedy string }

// check runs check for the scenario's namespace.
func (p *plugin) check() (findings []finding, ok bool) {
	p.Helper()
	out, ok := p.run("", "check", "-n", p.Namespace, "-o", "json", "--patience=2s", "--consul-addr="+p.Cluster.ConsulAddr())
	var result struct{ Findings []finding }
	p.Must(json.Unmarshal([]byte(out), &result))
	return result.Findings, ok
}

// fails expects check to fail with a finding of this check, message and remedy.
func (p *plugin) fails(check, says, remedy string) {
	p.Helper()
	findings, ok := p.check()
	if ok {
		p.Errorf("check is content: %+v", findings)
	}
	if !slices.ContainsFunc(findings, func(f finding) bool {
		return f.Level == "fail" && f.Check == check && strings.Contains(f.Message, says) && strings.Contains(f.Remedy, remedy)
	}) {
		p.Errorf("no failure of %s says %q with the remedy %q: %+v", check, says, remedy, findings)
	}
}

// well expects check to find no problem. Without an opted-in namespace it skips the call of the webhook.
func (p *plugin) well() {
	p.Helper()
	findings, ok := p.check()
	for _, f := range findings {
		if f.Level != "ok" && f.Level != "skip" {
			p.Errorf("%+v", f)
		}
	}
	if !ok {
		p.Error("check failed")
	}
}

// patience is how long a gate must be closed before check, with --patience=2s, reports it.
const patience = 3 * time.Second

// manifest returns the manifest of a Deployment "sample", as a person would write it.
func (p *plugin) manifest(template corev1.PodTemplateSpec) string {
	p.Helper()
	text, err := yaml.Marshal(&appsv1.Deployment{
		TypeMeta:   metav1.TypeMeta{APIVersion: "apps/v1", Kind: "Deployment"},
		ObjectMeta: metav1.ObjectMeta{Name: "sample", Namespace: p.Namespace},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(1)), Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template,
		},
	})
	p.Must(err)
	return "# The sample.\n" + string(text)
}

// inject applies the output of inject for a manifest.
func (p *plugin) inject(manifest string) {
	p.Helper()
	out, ok := p.run(manifest, "inject", "-f", "-", "--image=agentlet/agentlet:dev")
	if !ok || !strings.HasPrefix(out, "# The sample.\n") {
		p.Fatalf("inject: %v\n%s", ok, out)
	}
	file := filepath.Join(p.TempDir(), "injected.yaml")
	p.Must(os.WriteFile(file, []byte(out), 0o600))
	_, err := p.Kubectl(p.Ctx, "apply", "-f", file)
	p.Must(err)
}

func TestPluginInjectWorksWithoutTheWebhook(t *testing.T) {
	s := scenario.New(t, scenario.Label(contract.InjectLabel, ""))
	p := newPlugin(s)
	s.Given("a grant for the namespace's pods, as the chart's grants.namespaces makes it", func() {
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "create", "rolebinding", grantRole, "--clusterrole="+grantRole, "--group=system:serviceaccounts:"+s.Namespace)
		s.Must(err)
	})
	s.When("the injected manifest of a Deployment is applied where the webhook is not active", func() {
		p.inject(p.manifest(s.Sample(s.Annotations())))
	})
	s.Then("its pod is registered and Ready", func() {
		s.Rollout()
		s.AwaitCatalog(s.Service(), 1)
	})
	s.Then("status shows it open and passing", func() {
		out, ok := p.run("", "status", "-n", s.Namespace, "-o", "json")
		var report struct {
			Items []struct{ Pod, Gate, Since, Reason, Service, Consul, CatalogAge, Drift, NextStep, Address string }
		}
		s.Must(json.Unmarshal([]byte(out), &report))
		rows := report.Items
		pod := s.Pods(s.Ctx)[0]
		if !ok || len(rows) != 1 || rows[0].Pod != pod.Name || rows[0].Gate != "open" || rows[0].Reason != string(contract.Registered) ||
			rows[0].Service != s.Service() || rows[0].Consul != "passing" || rows[0].Drift != "" || rows[0].NextStep != "" || rows[0].Since == "" || rows[0].Address != pod.Status.PodIP+":8080" {
			s.Errorf("%v, %s", ok, out)
		}
		if age, err := time.ParseDuration(rows[0].CatalogAge); err != nil || age > 10*time.Second {
			s.Errorf("the catalog was read %s ago: %v", rows[0].CatalogAge, err)
		}
		table, _ := p.run("", "status", "-n", s.Namespace)
		s.Logf("\n%s", table)
		if !strings.Contains(table, pod.Name) || strings.Contains(table, "\x1b[") {
			s.Errorf("%q", table)
		}
	})
	s.Then("pods are chosen by name and by label, as kubectl does it, and printed for kubectl", func() {
		name := "pod/" + s.Pods(s.Ctx)[0].Name
		for _, choice := range [][]string{{name}, {"-l", "app=sample"}} {
			if out, ok := p.run("", append([]string{"status", "-n", s.Namespace, "-o", "name"}, choice...)...); !ok || out != name+"\n" {
				s.Errorf("%q: %v, %q", choice, ok, out)
			}
		}
	})
	s.Then("who may not read pods is told so by the API server: it is asked as them", func() {
		as := "system:serviceaccount:default:default" // all accounts of this namespace have the grant
		if out, ok := p.run("", "status", "-n", s.Namespace, "--as", as, "--request-timeout=20s"); ok || !strings.Contains(p.said, "cannot list resource \"pods\"") {
			s.Errorf("as %s: %t, %s%s", as, ok, out, p.said)
		}
	})
	s.Then("check finds no problem", p.well)
}

func TestPluginInjectSaysWhatTheWebhookSays(t *testing.T) {
	s := scenario.New(t)
	p := newPlugin(s)
	s.Given("a pod injected by the webhook, and the same manifest through inject", func() {
		_, err := s.CreatePod("web", s.Sample(s.Annotations("drain-delay", "1s")))
		s.Must(err)
		s.AwaitReady("web")
	})
	s.Then("both have the same agentlet, except for the nonce, the pod's name and the API server's defaults", func() {
		pod := &corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}}
		template := s.Sample(s.Annotations("drain-delay", "1s"))
		pod.ObjectMeta, pod.Spec, pod.Name = template.ObjectMeta, template.Spec, "web"
		text, err := yaml.Marshal(pod)
		s.Must(err)
		out, ok := p.run(string(text), "inject", "-n", s.Namespace, "-f", "-", "--from-cluster")
		mine, theirs := &corev1.Pod{}, s.Pod("web")
		s.Must(yaml.Unmarshal([]byte(out), mine))
		if !ok || !scenario.Injected(mine) {
			s.Fatalf("not injected: %s", out)
		}
		a, b := registration.Agentlet(mine), registration.Agentlet(theirs)
		for _, c := range []*corev1.Container{a, b} { // the plugin doesn't know the pod's name, which others may change yet
			c.Env = slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == contract.EnvInjectedFor })
		}
		if a.Image != b.Image || !slices.Equal(a.Args, b.Args) || len(a.Env) != len(b.Env) || len(mine.Spec.ReadinessGates) != len(theirs.Spec.ReadinessGates) {
			s.Errorf("inject: %+v\nwebhook: %+v", a, b)
		}
	})
	s.Then("a manifest with errors is refused with its lines, before the API server sees it", func() {
		out, ok := p.run(p.manifest(s.Sample(s.Annotations("gate", "ajar"))), "explain", "-f", "-")
		if ok || !strings.Contains(out, "stdin:") || !strings.Contains(out, "passing, registered or off") {
			s.Errorf("%v, %s", ok, out)
		}
	})
	s.When("the namespace allows only other names", func() {
		_, err := s.Kubectl(s.Ctx, "annotate", "namespace", s.Namespace, contract.AllowedServices+"=other-*")
		s.Must(err)
	})
	s.Then("explain refuses the name where it asks the cluster, and not offline", func() {
		manifest := p.manifest(s.Sample(s.Annotations()))
		if out, ok := p.run(manifest, "explain", "-f", "-", "--from-cluster"); ok || !strings.Contains(out, "may register only other-* (annotation "+contract.AllowedServices) {
			s.Errorf("%v, %s", ok, out)
		}
		if out, ok := p.run(manifest, "explain", "-f", "-"); !ok {
			s.Errorf("%v, %s", ok, out)
		}
	})
	s.Then("check finds no problem", p.well)
}

func TestPluginCheckFindsWhatIsBroken(t *testing.T) {
	t.Run("namespace without the label", func(t *testing.T) {
		s := scenario.New(t, scenario.Label(contract.InjectLabel, ""))
		p := newPlugin(s)
		s.Given("an annotated pod in a namespace that did not opt in", func() {
			_, err := s.CreatePod("lost", s.Sample(s.Annotations()))
			s.Must(err)
		})
		s.Then("check says to label it", func() {
			p.fails("pods", "the namespace is not opted in", "kubectl label namespace "+s.Namespace+" "+contract.InjectLabel+"="+contract.InjectEnabled)
		})
		s.When("the namespace is labelled, but the pod stays", func() {
			_, err := s.Kubectl(s.Ctx, "label", "namespace", s.Namespace, contract.InjectLabel+"="+contract.InjectEnabled)
			s.Must(err)
		})
		s.Then("check says to recreate it", func() { p.fails("pods", "but has no agentlet", "delete pod lost") })
	})
	t.Run("no grant", func(t *testing.T) {
		s := scenario.New(t, scenario.Label(contract.InjectLabel, ""))
		p := newPlugin(s)
		s.Given("an injected pod in a namespace without grants", func() {
			p.inject(p.manifest(s.Sample(s.Annotations())))
			s.Eventually("the pod to run", func(ctx context.Context) (bool, error) {
				pods := s.Pods(ctx)
				return len(pods) == 1 && pods[0].Status.Phase == corev1.PodRunning, nil
			})
			s.Pause(patience)
		})
		s.Then("check names the right that is missing, and the gate that stays closed for it", func() {
			p.fails("grants", "patch pods/status", s.Namespace)
			p.fails("gates", "has not written the gate", "logs")
		})
	})
	t.Run("policies without their bindings", func(t *testing.T) {
		s := scenario.New(t)
		p := newPlugin(s)
		var restore func(context.Context) error
		s.When("the policies' bindings are deleted", func() { restore = unbindPolicies(s) })
		s.Then("check says what a granted pod's token could do now", func() {
			p.fails("policy", "no binding makes it deny: a granted service account can patch the status of every pod", "policy.enabled=true")
			p.fails("policy", "no binding makes it deny: a granted service account can write any event", "policy.enabled=true")
		})
		s.When("they are back", func() { s.Must(restore(s.Ctx)) })
		s.Then("check finds no problem again", func() {
			s.Eventually("a check without failures", func(context.Context) (bool, error) {
				findings, ok := p.check()
				return ok, fmt.Errorf("%+v", findings)
			})
		})
	})
	t.Run("webhook scaled to 0", func(t *testing.T) {
		s := scenario.New(t)
		p := newPlugin(s)
		s.Then("check finds no problem", p.well)
		s.Afterwards(2*time.Minute, func(ctx context.Context) {
			scaleWebhook(ctx, s, 2)
		})
		s.When("the webhook is scaled to 0", func() { scaleWebhook(s.Ctx, s, 0) })
		s.Then("check says that there is no replica, and the consequence", func() {
			p.fails("webhook", "no replica is ready", "scale")
			p.fails("webhook", "the API server can't use the webhook", "")
		})
		s.When("it is back", func() { scaleWebhook(s.Ctx, s, 2) })
		s.Then("check finds no problem again", p.well)
	})
}

// TestTrustForgedReport makes a pod write a forged row of check's report into its own gate's message, which its token allows.
func TestTrustForgedReport(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	p := newPlugin(s)
	const row = "ok    gates       all is well"
	const message = "because\n" + row + "\t\u202e\u2028"
	s.Given("a pod that is not ready, and whose agentlet is frozen, so that it does not put its gate right", func() {
		serviceAccount(s, "web")
		pod := createUnready(s, "own", "node1")
		awaitAccounts(s, "web")
		agentlet, err := scenario.FindProcess("agentlet run", string(pod.UID))
		s.Must(err)
		s.Eventually("the gate to be written", func(context.Context) (bool, error) {
			gate := scenario.Condition(s.Pod("own"), contract.Condition)
			return gate.Reason == string(contract.ContainersNotReady), fmt.Errorf("%+v", gate)
		})
		held := withToken(s, tokenInside(s, "own"))
		s.Must(syscall.Kill(agentlet.PID, syscall.SIGSTOP))
		s.Cleanup(func() { _ = syscall.Kill(agentlet.PID, syscall.SIGCONT) })
		patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []any{map[string]any{
			"type": contract.Condition, "status": "False", "reason": contract.ContainersNotReady, "message": message,
		}}}})
		s.Must(err)
		s.Must(attack{held, "own", "status", string(patch)}.try(s))
		s.Pause(patience)
	})
	s.Then("check reports the gate in one line without control characters", func() {
		control := func(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }
		out, _ := p.run("", "check", "-n", s.Namespace, "--patience=2s")
		told := 0
		for line := range strings.Lines(out) {
			line = strings.TrimSuffix(line, "\n")
			if strings.ContainsFunc(line, control) || strings.HasPrefix(line, row) {
				s.Errorf("%q", line)
			}
			if strings.HasPrefix(line, "warn") && strings.Contains(line, `ContainersNotReady: because\n`+row+`\t\u202e\u2028`) {
				told++
			}
		}
		if told != 1 {
			s.Errorf("told %d times:\n%s", told, out)
		}
	})
	s.Then("its JSON contains exactly the message", func() {
		findings, _ := p.check()
		if !slices.ContainsFunc(findings, func(f finding) bool {
			return f.Check == "gates" && strings.HasSuffix(f.Message, "ContainersNotReady: "+message)
		}) {
			s.Errorf("%+v", findings)
		}
	})
}

// TestPluginCheckSaysWhyAnAgentletDoesNotRun checks that a container that can't start is reported as such, not as a missing
// right.
func TestPluginCheckSaysWhyAnAgentletDoesNotRun(t *testing.T) {
	s := scenario.New(t, scenario.Label(contract.InjectLabel, ""), scenario.Parallel())
	p := newPlugin(s)
	s.Given("an injected pod whose agentlet's image doesn't exist", func() {
		out, ok := p.run(p.manifest(s.Sample(s.Annotations())), "inject", "-f", "-",
			"--image=agentlet/agentlet:absent", "--image-pull-policy=Never")
		if !ok {
			s.Fatal("inject failed")
		}
		file := filepath.Join(p.TempDir(), "injected.yaml")
		p.Must(os.WriteFile(file, []byte(out), 0o600))
		_, err := p.Kubectl(p.Ctx, "apply", "-f", file)
		p.Must(err)
		s.Eventually("the kubelet to say so", func(ctx context.Context) (bool, error) {
			pods := s.Pods(ctx)
			if len(pods) != 1 {
				return false, nil
			}
			waiting := scenario.AgentletStatus(&pods[0]).State.Waiting
			return waiting != nil && waiting.Reason == "ErrImageNeverPull", nil
		})
		s.Pause(patience)
	})
	s.Then("check says why", func() {
		p.fails("gates", "has not written the gate", "describe pod")
		p.fails("gates", "the container agentlet waits: ErrImageNeverPull", "describe pod")
	})
	s.Then("status does, too", func() {
		out, _ := p.run("", "status", "-n", s.Namespace)
		if !strings.Contains(out, "the agentlet does not run: the container agentlet waits: ErrImageNeverPull") {
			s.Errorf("%s", out)
		}
	})
}
