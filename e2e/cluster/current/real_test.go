package current_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/cluster/current"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/toolchain"
	"github.com/agentlet/agentlet/internal/cli/installation"
)

// stranger is a cluster of which the tests know the kubeconfig alone.
type stranger struct {
	*testing.T
	cluster *cluster.Cluster
	root    string
	env     []string
	before  string
}

// TestStranger treats the test cluster as a stranger's. It starts one without Consul and Agentlet, loads the Consul image that its
// nodes can't pull here, and then calls make with its kubeconfig. After each call the cluster must be as before.
func TestStranger(t *testing.T) {
	if os.Getenv("AGENTLET_STRANGER") == "" {
		t.Skip("needs root and a machine of its own: make soak sets AGENTLET_STRANGER")
	}
	s := start(t)
	const loads = "LOAD=go run -C e2e ./cmd/cluster load"
	t.Run("demo", func(t *testing.T) {
		out, err := s.make(t, "demo", "CLUSTER=current", loads)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		contains(t, out, "failed: 0\n", "all of it is removed", "PASSED on context ")
		s.unchanged(t)
	})
	t.Run("scenarios", func(t *testing.T) {
		out, err := s.make(t, "e2e", "CLUSTER=current", loads)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		contains(t, out, "--- PASS: TestBasicRollingRestartSeenFromWithin", "--- PASS: TestBasicJobCompletes", "--- PASS: TestDocsDeadline",
			"TestBasicKubectlDrain/container needs the test cluster", "SKIPPED, because they need the test cluster", "PASSED on context ")
		s.unchanged(t)
	})
	t.Run("only others", func(t *testing.T) {
		out, err := s.make(t, "e2e", "CLUSTER=current", loads, "RUN=TestHAUpgrade$")
		if err == nil {
			t.Error("it succeeds")
		}
		contains(t, out, "scenarios: 0 ran, 1 SKIPPED", "all of it is removed", "FAILED: scenarios")
		s.unchanged(t)
	})
	t.Run("interrupted", func(t *testing.T) {
		out, err := s.interrupt(t, "it is restarted under load", "demo", "CLUSTER=current", loads)
		if err == nil {
			t.Error("it succeeds")
		}
		contains(t, out, "all of it is removed", "INTERRUPTED: ")
		s.unchanged(t)
	})
	t.Run("left over", func(t *testing.T) {
		s.namespace(t, current.SystemNamespace)
		out, err := s.make(t, "demo", "CLUSTER=current", loads)
		if err == nil {
			t.Error("it succeeds where another run has left something")
		}
		contains(t, out, "FAILED: the namespace agentlet-try is of another run", current.Remove)
		if out, err = s.make(t, "demo-down", "CLUSTER=current"); err != nil {
			t.Errorf("%v\n%s", err, out)
		}
		s.unchanged(t)
	})
	t.Run("installed already", func(t *testing.T) {
		s.install(t)
		out, err := s.make(t, "demo", "CLUSTER=current", loads)
		if err == nil {
			t.Error("it succeeds")
		}
		contains(t, out, "FAILED: agentlet is installed there already (MutatingWebhookConfiguration theirs")
		s.unchanged(t, "mutatingwebhookconfiguration.admissionregistration.k8s.io/theirs")
	})
}

func contains(t *testing.T, out string, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if !strings.Contains(out, part) {
			t.Errorf("it does not say %q", part)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
}

func start(t *testing.T) *stranger {
	t.Helper()
	ctx, log := t.Context(), os.Stderr
	release, err := cluster.Lock(ctx, cluster.DefaultName, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = release() })
	tools, err := toolchain.Ensure(ctx, log, toolchain.Kubernetes, toolchain.Consul, toolchain.Helm)
	if err != nil {
		t.Fatal(err)
	}
	options := cluster.Options{Consul: cluster.ConsulNone, Log: log}
	if err := cluster.Down(ctx, cluster.DefaultName, log); err != nil {
		t.Fatal(err)
	}
	c, err := cluster.Up(ctx, options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := cluster.Down(ctx, cluster.DefaultName, log); err != nil {
			t.Error(err)
		}
	})
	tarball := filepath.Join(c.Dir(), "consul.tar")
	if err := scenario.BuildConsulImage(ctx, tools.Program(toolchain.Consul, "consul"), tarball); err != nil {
		t.Fatal(err)
	}
	if err := c.LoadImage(ctx, tarball); err != nil {
		t.Fatal(err)
	}
	root, err := toolchain.Root()
	if err != nil {
		t.Fatal(err)
	}
	path := strings.Join([]string{filepath.Dir(c.Kubectl()), tools[toolchain.Helm], os.Getenv("PATH")}, ":")
	s := &stranger{T: t, cluster: c, root: root, env: []string{"KUBECONFIG=" + c.Kubeconfig(), "PATH=" + path, "MAKEFLAGS="}}
	s.before = s.objects(t)
	return s
}

// command returns a call of make, in a process group of its own, as a terminal has it.
func (s *stranger) command(ctx context.Context, args ...string) *exec.Cmd {
	command := exec.CommandContext(ctx, "make", args...)
	command.Dir, command.Env = s.root, append(os.Environ(), s.env...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	return command
}

func (s *stranger) make(t *testing.T, args ...string) (string, error) {
	t.Helper()
	out, err := s.command(t.Context(), args...).CombinedOutput()
	return string(out), err
}

// interrupt calls make, and presses Ctrl-C when the output contains a text.
func (s *stranger) interrupt(t *testing.T, at string, args ...string) (string, error) {
	t.Helper()
	command := s.command(t.Context(), args...)
	reader, writer := io.Pipe()
	command.Stdout, command.Stderr = writer, writer
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var once sync.Once
	read := make(chan struct{})
	go func() {
		defer close(read)
		buffer := make([]byte, 4096)
		for {
			n, err := reader.Read(buffer)
			out.Write(buffer[:n])
			if strings.Contains(out.String(), at) {
				once.Do(func() {
					if err := syscall.Kill(-command.Process.Pid, syscall.SIGINT); err != nil {
						t.Error(err)
					}
				})
			}
			if err != nil {
				return
			}
		}
	}()
	err := command.Wait()
	writer.Close()
	<-read
	return out.String(), err
}

// objects lists what of the cluster a run could leave.
func (s *stranger) objects(t *testing.T) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), s.cluster.Kubectl(), "get", "-o", "name", "--all-namespaces",
		"namespaces,clusterroles,clusterrolebindings,mutatingwebhookconfigurations,validatingwebhookconfigurations,"+
			"validatingadmissionpolicies,validatingadmissionpolicybindings,pods,secrets,rolebindings,persistentvolumes")
	command.Env = append(os.Environ(), s.env...)
	out, err := command.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}

// unchanged checks that the cluster has what it had before, and these objects.
func (s *stranger) unchanged(t *testing.T, and ...string) {
	t.Helper()
	now := s.objects(t)
	for _, object := range and {
		if !strings.Contains(now, object+"\n") {
			t.Errorf("%s is gone", object)
		}
		now = strings.Replace(now, object+"\n", "", 1)
	}
	if now != s.before {
		t.Errorf("the cluster had\n%s\nand has now\n%s", s.before, now)
	}
}

// namespace creates a namespace that looks like a run's.
func (s *stranger) namespace(t *testing.T, name string) {
	t.Helper()
	client, err := s.cluster.Client()
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{current.Label: "parts"}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// install creates the webhook configuration of an Agentlet that others have installed.
func (s *stranger) install(t *testing.T) {
	t.Helper()
	client, err := s.cluster.Client()
	if err != nil {
		t.Fatal(err)
	}
	url, none, ignore := "https://192.0.2.1/", admissionregistrationv1.SideEffectClassNone, admissionregistrationv1.Ignore
	_, err = client.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "theirs"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name: installation.HookName, ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &url},
			SideEffects: &none, FailurePolicy: &ignore, AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}
