package consul_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/agentlettest"
	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
)

// pod of shop, registering web, ready.
func pod() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-1", UID: "12345678-0000-0000-0000-000000000000",
			Annotations: map[string]string{contract.ServiceNames: "web", contract.ServicePort: "8080", contract.DrainDelay: "0s"},
		},
		Spec: corev1.PodSpec{ReadinessGates: []corev1.PodReadinessGate{{ConditionType: contract.Condition}}, Containers: []corev1.Container{{Name: "app"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: "127.0.0.1", ContainerStatuses: []corev1.ContainerStatus{{
			Name: "app", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		}}},
	}
}

// registered runs a registrar that logs in until its gate is open. ended closes when it has returned.
func (s secured) registered(t *testing.T, i issuer) (r *agentlet.Registrar, kube *agentlettest.Ports, ended <-chan struct{}) {
	t.Helper()
	client := s.client(t, consul.ACL{AuthMethod: "agentlet", BearerFile: written(t, i.token(t, "consul", "shop", "web"))})
	r, kube, ended = start(t, s.Address, pod(), agentlet.Config{Agent: client, View: client, Catalog: client, Login: client})
	eventually(t, "an open gate", kube.Open)
	return r, kube, ended
}

// start runs the registrar of a pod until the test's end, with the agent at the address and its views as they are
// configured. ended closes when it has returned.
func start(t *testing.T, address string, watched *corev1.Pod, config agentlet.Config) (r *agentlet.Registrar, kube *agentlettest.Ports, ended <-chan struct{}) {
	t.Helper()
	kube = agentlettest.New()
	config.Identity = agentlet.Identity{
		Namespace: watched.Namespace, Pod: watched.Name, UID: string(watched.UID), Node: "node1", HostIP: "127.0.0.1", ConsulAddress: address,
	}
	r = agentlet.New(kube.Fill(config))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	r.OnUpdate(watched)
	return r, kube, done
}

func eventually(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(90 * time.Second)
	for ; !so(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}

// end takes a pod to its end, and waits for the registrar's.
func end(t *testing.T, r *agentlet.Registrar, ended <-chan struct{}) {
	t.Helper()
	deleted := pod()
	deleted.DeletionTimestamp = &metav1.Time{Time: time.Now()}
	r.OnUpdate(deleted)
	if !r.Drain(t.Context(), time.Second) {
		t.Error("the hook was not held to the end of the drain")
	}
	r.Terminate()
	select {
	case <-ended:
	case <-time.After(10 * time.Second):
		t.Error("the registrar did not end")
	}
}

func (s secured) health(t *testing.T) string {
	t.Helper()
	entries, _, err := s.Client.Health().Service("web", "", false, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		return ""
	}
	return entries[0].Checks.AggregatedStatus()
}

// structured is the pod with these services in place of its own.
func structured(services string) *corev1.Pod {
	watched := pod()
	delete(watched.Annotations, contract.ServiceNames)
	delete(watched.Annotations, contract.ServicePort)
	watched.Annotations[contract.Services] = services
	return watched
}

// running runs a registrar for the pod until the test's end.
func running(t *testing.T, server *consultest.Agent, watched *corev1.Pod, agent agentlet.Agent) (*agentlet.Registrar, *agentlettest.Ports) {
	t.Helper()
	client := newClient(t, server.Address)
	r, kube, _ := start(t, server.Address, watched, agentlet.Config{Agent: agent, View: client, Catalog: client})
	return r, kube
}

// TestLossBehindTheAgentsBack has the catalog lose an instance that the agent still has, with a check of its own. The agent
// would notice at its next full sync; a resync restores all of it at once.
func TestLossBehindTheAgentsBack(t *testing.T) {
	server := consultest.Start(t)
	watched := structured("[{name: web, port: 8080, checks: [{tcp: ':8080', interval: 1h, status: passing}]}]")
	watched.Annotations[contract.GatePolicy] = string(contract.GateContinuous)
	_, kube := running(t, server, watched, newClient(t, server.Address))
	eventually(t, "an open gate", kube.Open)

	entry := func() *api.ServiceEntry {
		entries, _, err := server.Client.Health().Service("web", "", false, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(entries) == 0 {
			return nil
		}
		return entries[0]
	}
	generation := func(e *api.ServiceEntry) string { return e.Service.Meta[contract.MetaSyncGeneration] }
	for range 3 { // the agent's own syncs, of which there are some within seconds of its start, may be quicker
		before := entry()
		loss := &api.CatalogDeregistration{Node: before.Node.Node, ServiceID: before.Service.ID}
		if _, err := server.Client.Catalog().Deregister(loss, nil); err != nil {
			t.Fatal(err)
		}
		var back *api.ServiceEntry
		eventually(t, "the instance", func() bool {
			back = entry()
			return back != nil && back.Service.CreateIndex != before.Service.CreateIndex
		})
		if generation(back) != generation(before) {
			if len(back.Checks) != len(before.Checks) {
				t.Errorf("back with %d of %d checks", len(back.Checks), len(before.Checks))
			}
			if !kube.Gave(contract.CatalogLost) {
				t.Error("the gate was not closed")
			}
			eventually(t, "an open gate again", kube.Open)
			return
		}
		eventually(t, "an open gate", kube.Open)
	}
	t.Fatal("no resync brought the instance back")
}

// TestRenewal takes the minute that Consul gives tokens at least, so it is for the long run.
func TestRenewal(t *testing.T) {
	if os.Getenv("AGENTLET_LONG") == "" {
		t.Skip("SKIPPED: it takes a minute; set AGENTLET_LONG to run it")
	}
	server, i := startSecured(t), newIssuer(t)
	server.jwtMethod(t, i, time.Minute)
	r, _, ended := server.registered(t, i)
	first := server.logins(t)[0].AccessorID
	began := time.Now()
	eventually(t, "a second token", func() bool { return len(server.logins(t)) == 2 })
	t.Logf("renewed after %s", time.Since(began).Round(time.Second))
	eventually(t, "the end of the first token", func() bool {
		if got := server.health(t); got != api.HealthPassing {
			t.Errorf("the catalog says %q", got)
		}
		tokens := server.logins(t)
		return len(tokens) == 1 && tokens[0].AccessorID != first
	})
	unready := pod()
	unready.Status.ContainerStatuses[0].Ready = false
	r.OnUpdate(unready)
	eventually(t, "critical by the second token", func() bool { return server.health(t) == api.HealthCritical })
	end(t, r, ended)
	if n := len(server.logins(t)); n != 0 || server.health(t) != "" {
		t.Errorf("%d tokens and health %q are left", n, server.health(t))
	}
}

// TestAgentWithoutNodeWrite is about an agent whose own token may not write its node: Consul's servers refuse it to remove
// anything, and it says so in its own log alone.
func TestAgentWithoutNodeWrite(t *testing.T) {
	server, i := startSecured(t), newIssuer(t)
	server.jwtMethod(t, i, 0)
	r, kube, ended := server.registered(t, i)
	if _, err := server.Client.Agent().UpdateAgentACLToken(server.withPolicy(t, `service_prefix "" { policy = "read" }`), nil); err != nil {
		t.Fatal(err)
	}
	end(t, r, ended)
	if got := server.health(t); got != api.HealthCritical {
		t.Errorf("the catalog shows the ended pod as %q, want critical", got)
	}
	if said := kube.Gate(); said.Reason != string(contract.Draining) || !strings.Contains(said.Message, "node:write") {
		t.Errorf("the gate says %s %q", said.Reason, said.Message)
	}
	if n := len(server.logins(t)); n != 0 {
		t.Errorf("%d tokens are left", n)
	}
}

// TestDeadToken has a token destroyed in the life of a pod.
func TestDeadToken(t *testing.T) {
	server, i := startSecured(t), newIssuer(t)
	server.jwtMethod(t, i, 0)
	r, _, ended := server.registered(t, i)
	first := server.logins(t)[0].AccessorID
	if _, err := server.Client.ACL().TokenDelete(first, nil); err != nil {
		t.Fatal(err)
	}
	unready := pod()
	unready.Status.ContainerStatuses[0].Ready = false
	eventually(t, "another token", func() bool {
		r.OnUpdate(unready) // a call that fails notices it
		tokens := server.logins(t)
		return len(tokens) == 1 && tokens[0].AccessorID != first
	})
	eventually(t, "critical by the new token", func() bool { return server.health(t) == api.HealthCritical })
	end(t, r, ended)
	if n := len(server.logins(t)); n != 0 || server.health(t) != "" {
		t.Errorf("%d tokens and health %q are left", n, server.health(t))
	}
}
