package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// attachReal locks and returns the running cluster that $AGENTLET_CLUSTER names. Without the variable it skips the test.
func attachReal(t *testing.T) *Cluster {
	t.Helper()
	name := os.Getenv("AGENTLET_CLUSTER")
	if name == "" {
		t.Skip("needs a running cluster: set AGENTLET_CLUSTER to its name")
	}
	c, err := Attach(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	release, err := Lock(t.Context(), c.Name(), func() { t.Log("waiting for others to end their use of the cluster") })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Restore(context.WithoutCancel(t.Context())); err != nil {
			t.Errorf("the cluster is left unwell: %v", err)
		}
		if err := release(); err != nil {
			t.Error(err)
		}
	})
	if err := c.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestRealPodsRunOnEveryNode(t *testing.T) {
	c := attachReal(t)
	client, err := c.Client()
	if err != nil {
		t.Fatal(err)
	}
	tarball := filepath.Join(t.TempDir(), "image.tar")
	const reference = "agentlet.test/pause-loaded:e2e"
	if err := BuildImage(t.Context(), "..", "./images/pause", reference, tarball); err != nil {
		t.Fatal(err)
	}
	if err := c.LoadImage(t.Context(), tarball); err != nil {
		t.Fatal(err)
	}
	pods := client.CoreV1().Pods(metav1.NamespaceDefault)
	for _, n := range c.Nodes {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{GenerateName: "real-"},
			Spec: corev1.PodSpec{
				NodeName: n.Name, TerminationGracePeriodSeconds: new(int64(2)),
				Containers: []corev1.Container{{
					Name: "pause", Image: reference, ImagePullPolicy: corev1.PullNever,
				}},
			},
		}
		pod, err := pods.Create(t.Context(), pod, metav1.CreateOptions{})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := pods.Delete(context.WithoutCancel(t.Context()), pod.Name, metav1.DeleteOptions{}); err != nil {
				t.Error(err)
			}
		})
		waitReady(t, client, pod.Name)
		// Use the kubelet's API through the API server, as logs, exec and port-forward do.
		if _, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(t.Context()); err != nil {
			t.Errorf("logs on %s: %v", n.Name, err)
		}
		err = run(t.Context(), c.Kubectl(), "--kubeconfig", c.Kubeconfig(), "exec", pod.Name, "--", "/missing")
		if err == nil || !strings.Contains(err.Error(), "/missing") {
			t.Errorf("exec on %s = %v, want the runtime's word that /missing doesn't exist", n.Name, err)
		}
	}
}

func waitReady(t *testing.T, client kubernetes.Interface, name string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err := poll(ctx, func(ctx context.Context) error {
		pod, err := client.CoreV1().Pods(metav1.NamespaceDefault).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		for _, condition := range pod.Status.Conditions {
			if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
				return nil
			}
		}
		return errors.New("not ready")
	})
	if err != nil {
		t.Fatalf("wait for pod %s: %v", name, err)
	}
}

func TestRealProcessesStopAndStart(t *testing.T) {
	c := attachReal(t)
	for _, p := range c.Processes() {
		t.Run(qualified(p.Node, p.Name), func(t *testing.T) {
			for verb, end := range map[string]func(context.Context) error{"stop": p.Stop, "kill": p.Kill} {
				began := time.Now()
				if err := end(t.Context()); err != nil {
					t.Fatal(err)
				}
				took := time.Since(began).Round(time.Millisecond)
				if _, running := p.PID(); running {
					t.Errorf("runs after %s", verb)
				}
				began = time.Now()
				if err := p.Start(t.Context()); err != nil {
					t.Fatal(err)
				}
				t.Logf("%s took %s, start %s", verb, took, time.Since(began).Round(time.Millisecond))
			}
		})
	}
}

func TestRealPauseKeepsConnectionsOpen(t *testing.T) {
	c := attachReal(t)
	agent := c.Nodes[0].Process(ConsulAgent)
	if agent == nil {
		t.Skip("no consul")
	}
	if err := agent.Pause(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := agent.Resume(); err != nil {
			t.Error(err)
		}
	})
	if _, running := agent.PID(); !running {
		t.Error("a paused process doesn't count as running")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if err := agent.Probe.try(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a paused agent answers %v, want silence", err)
	}
}

func TestRealCutAndHeal(t *testing.T) {
	c := attachReal(t)
	n := c.Nodes[len(c.Nodes)-1]
	reach := func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		return n.Process(Kubelet).Probe.try(ctx)
	}
	if err := n.Cut(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := reach(t.Context()); !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, syscall.EHOSTUNREACH) {
		t.Errorf("reach a node that is cut off = %v", err)
	}
	if err := n.Heal(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if err := poll(ctx, reach); err != nil {
		t.Errorf("reach a healed node: %v", err)
	}
}

func TestRealImpair(t *testing.T) {
	c := attachReal(t)
	n := c.Nodes[0]
	trip := func() time.Duration {
		began := time.Now()
		if err := n.Process(Kubelet).Probe.try(t.Context()); err != nil {
			t.Fatal(err)
		}
		return time.Since(began)
	}
	err := n.Impair(t.Context(), Netem{Delay: 50 * time.Millisecond})
	if errors.Is(err, ErrNoNetem) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	slow := trip()
	if err := n.Repair(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Connecting and the request take one round trip each, with twice the delay.
	if slow < 200*time.Millisecond {
		t.Errorf("a request took %s over a link with 50 ms of delay", slow)
	}
	if fast := trip(); fast > slow/2 {
		t.Errorf("a request took %s after the repair, %s before", fast, slow)
	}
}

func TestRealWipeConsulData(t *testing.T) {
	c := attachReal(t)
	n := c.Nodes[0]
	agent := n.Process(ConsulAgent)
	if agent == nil {
		t.Skip("no consul")
	}
	if err := n.WipeConsulData(); err == nil {
		t.Error("wiped the data of a running agent")
	}
	if err := agent.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := n.WipeConsulData(); err != nil {
		t.Fatal(err)
	}
	if exists(n.consulDataDir()) {
		t.Error("the data is still there")
	}
	if err := agent.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitConsul(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestRealDropAndDeliver(t *testing.T) {
	c := attachReal(t)
	n := c.Nodes[0]
	reach := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return n.Process(Kubelet).Probe.try(ctx)
	}
	for range 2 { // the second run undoes the first
		if err := n.Drop(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := reach(); err == nil {
		t.Error("a node that loses every packet was reached")
	}
	if err := n.Deliver(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := reach(); err != nil {
		t.Error(err)
	}
}

func TestRealConsulDiskFull(t *testing.T) {
	c := attachReal(t)
	n := c.Nodes[0]
	client, err := ConsulClient(n.ConsulAddr())
	if err != nil {
		t.Fatal(err)
	}
	register := func(id string) error {
		return client.Agent().ServiceRegister(&api.AgentServiceRegistration{ID: id, Name: "real-disk"})
	}
	if err := register("before"); err != nil {
		t.Fatal(err)
	}
	for range 2 { // in the second run the small disk already exists
		if err := n.FillConsulDisk(); err != nil {
			t.Fatal(err)
		}
		if err := register("full"); err == nil {
			t.Error("an agent with a full disk took a service")
		}
		if err := n.FreeConsulDisk(); err != nil {
			t.Fatal(err)
		}
	}
	if err := register("after"); err != nil {
		t.Error(err)
	}
	if err := errors.Join(n.restoreConsulDisk(), n.Process(ConsulAgent).Restart(t.Context())); err != nil {
		t.Fatal(err)
	}
	services, err := client.Agent().ServicesWithFilter("Service == `real-disk`")
	if err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"before", "after"} {
		if services[id] == nil {
			t.Errorf("the agent has forgotten %q", id)
		}
		if err := client.Agent().ServiceDeregister(id); err != nil {
			t.Error(err)
		}
	}
	if services["full"] != nil {
		t.Error("the agent has kept what it refused")
	}
}
