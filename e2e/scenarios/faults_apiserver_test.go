package scenarios_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// TestFaultAPIServerAwayAtTheEnd ends pods while the API server is away. One pod was deleted just before; the kubelet ends
// another by its activeDeadlineSeconds. The agentlet of a third is killed meanwhile.
func TestFaultAPIServerAwayAtTheEnd(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	whole(s)
	timeline := observe.NewTimeline(nil)
	service := func(pod string) string { return s.Service() + "-" + pod }
	uids := map[string]string{}
	var gaps func() []time.Duration
	s.Given("three registered pods", func() {
		collector, err := timeline.Collect(s.Ctx, cluster.HostIP)
		s.Must(err)
		deadline := int64(40)
		for _, name := range []string{"deleted", "overdue", "restarted"} {
			template := s.Sample(s.Annotations("service-names", service(name), "heartbeat-ttl", "9s", "drain-delay", "6s"))
			scenario.SetEnv(&template, "COLLECTOR", collector)
			if name == "overdue" {
				template.Spec.ActiveDeadlineSeconds = &deadline
			}
			_, err := s.CreatePod(name, template)
			s.Must(err)
			timeline.Catalog(s.Ctx, s.Consul, service(name))
		}
		for _, name := range []string{"deleted", "overdue", "restarted"} {
			uids[name] = string(s.AwaitReady(name).UID)
			s.AwaitCatalog(service(name), 1)
		}
		gaps = followService(s, service("restarted"))
	})
	s.When("one is deleted, the API server stops, and another one's agentlet is killed", func() {
		s.Delete("deleted")
		s.Eventually("its removal", func(context.Context) (bool, error) { return len(s.Catalog(service("deleted"))) == 0, nil })
		s.Must(s.Cluster.APIServer().Kill(s.Ctx))
		s.Must(scenario.Kill("agentlet run", uids["restarted"]))
	})
	s.Then("the deleted one and the overdue one get SIGTERM after the catalog has dropped them", func() {
		for _, name := range []string{"deleted", "overdue"} {
			var held time.Duration
			s.Eventually("SIGTERM of the "+name+" pod", func(context.Context) (bool, error) {
				for _, life := range timeline.Lives() {
					if life.UID == uids[name] {
						took, ended := life.Between(observe.OutOfCatalog, observe.Terminated)
						held = took
						return ended, fmt.Errorf("seen: %v", life.At)
					}
				}
				return false, nil
			})
			if held <= 0 {
				s.Errorf("the %s pod's SIGTERM came %s before the catalog had dropped it", name, -held)
			}
			told(s, "API server away while a pod ends ("+name+")", "out of the catalog before SIGTERM, by the time given", held)
		}
	})
	s.Then("the agentlet that was killed meanwhile keeps its instance passing", func() {
		s.Eventually("its next start", func(context.Context) (bool, error) {
			_, err := scenario.FindProcess("agentlet run", uids["restarted"])
			return err == nil, err
		})
		const outage = 20 * time.Second // twice the heartbeat-ttl
		s.Pause(outage)
		if g := gaps(); len(g) > 0 {
			s.Errorf("gaps in passing: %v", g)
		}
	})
	s.When("the API server is back, all is as before", func() {
		began := time.Now()
		s.Must(s.Cluster.APIServer().Start(s.Ctx))
		s.Must(s.Cluster.Restore(s.Ctx))
		pod := s.AwaitReady("restarted")
		if gate := scenario.Condition(pod, contract.Condition); gate.Status != corev1.ConditionTrue {
			s.Errorf("gate: %+v", gate)
		}
		s.AwaitCatalog(service("restarted"), 1)
		told(s, "agentlet killed while the API server is away", "no gap in passing, though nobody could tell it the pod's annotations; the gate stayed open", time.Since(began))
	})
}

// TestFaultAPIServerInterrupted restarts the API server, which breaks every watch, and later freezes it.
func TestFaultAPIServerInterrupted(t *testing.T) {
	for name, interrupt := range map[string]struct {
		do   func(*scenario.S) error
		most time.Duration
	}{
		"restarted": {func(s *scenario.S) error { return s.Cluster.APIServer().Restart(s.Ctx) }, time.Minute},
		// Test half-open connections: client-go closes one when pings were unanswered for 45 s.
		"hanging for 50 s": {func(s *scenario.S) error {
			if err := s.Cluster.APIServer().Pause(); err != nil {
				return err
			}
			s.Pause(50 * time.Second)
			return s.Cluster.APIServer().Resume()
		}, time.Minute},
	} {
		t.Run(name, func(t *testing.T) {
			s := scenario.New(t, scenario.Long())
			whole(s)
			var pod *corev1.Pod
			var gaps func() []time.Duration
			s.Given("a registered pod with a short heartbeat", func() {
				pod = running(s, "pod", s.Sample(s.Annotations("heartbeat-ttl", "9s")))
				gaps = followStatus(s)
			})
			s.When("the API server is "+name, func() { s.Must(interrupt.do(s)); s.Must(s.Cluster.Restore(s.Ctx)) })
			s.Then("the pod passed all the time, and its next change reaches Consul", func() {
				if g := gaps(); len(g) > 0 {
					s.Errorf("gaps in passing: %v", g)
				}
				began := time.Now()
				s.Must(put(s, pod, "/unready"))
				s.Eventually("critical", func(context.Context) (bool, error) { return len(s.Passing(s.Service())) == 0, nil })
				told(s, "API server "+name, "no gap in passing, gate untouched; the time is until unready became critical afterwards", time.Since(began))
				if took := time.Since(began); took > interrupt.most {
					s.Errorf("unready became critical after %s", took)
				}
			})
		})
	}
}

// TestFaultGrantLate grants the right to patch the status long after the pod needs it.
func TestFaultGrantLate(t *testing.T) {
	s := scenario.New(t, scenario.Label(contract.InjectLabel, ""))
	log := func(ctx context.Context) (string, error) {
		return s.Kubectl(ctx, "-n", s.Namespace, "logs", "deployment/sample", "-c", contract.ContainerName)
	}
	s.Given("a pod with an agentlet in a namespace without RBAC grants", func() {
		p := newPlugin(s)
		p.inject(p.manifest(s.Sample(s.Annotations())))
		s.Eventually("its agentlet's complaint", func(ctx context.Context) (bool, error) {
			text, err := log(ctx)
			return strings.Contains(text, "forbidden"), err
		})
		s.Pause(8 * time.Second) // the agentlet retries, without logging it again
	})
	s.When("the grant is created, the pod becomes Ready", func() {
		began := time.Now()
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "create", "rolebinding", grantRole, "--clusterrole="+grantRole, "--group=system:serviceaccounts:"+s.Namespace)
		s.Must(err)
		s.Rollout()
		s.AwaitCatalog(s.Service(), 1)
		took := time.Since(began)
		text, err := log(s.Ctx)
		s.Must(err)
		if n := strings.Count(text, "forbidden"); n > 3 {
			s.Errorf("the log says %d times that it is forbidden, want once of listing, watching and writing each:\n%s", n, text)
		}
		told(s, "the grant of the namespace's pods comes late", "403 told once, then Ready; the time is from the grant", took)
	})
}
