package scenarios_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/figures"
)

// told writes a fault's row into the report.
func told(s *scenario.S, fault, happened string, took time.Duration) {
	s.Logf("%s: %s (%s)", fault, happened, took.Round(time.Millisecond))
	if s.Placement == contract.PlacementSidecar {
		return // only the row of the default placement is in the table
	}
	s.Must(figures.MergeRow(filepath.Join(s.Out, "faults.md"), []string{"fault", "what happened", "how long"},
		fault, happened, took.Round(time.Millisecond).String()))
}

// pinned returns a template of the sample for one node.
func pinned(s *scenario.S, node *cluster.Node, annotations ...string) corev1.PodTemplateSpec {
	template := s.Sample(s.Annotations(annotations...))
	template.Spec.NodeName = node.Name
	return template
}

// running creates a pod and waits until it is Ready and passing.
func running(s *scenario.S, name string, template corev1.PodTemplateSpec) *corev1.Pod {
	_, err := s.CreatePod(name, template)
	s.Must(err)
	pod := s.AwaitReady(name)
	s.AwaitCatalog(s.Service(), 1)
	return pod
}

// whole restores the whole cluster after the scenario, whatever happened in it.
func whole(s *scenario.S) {
	s.Afterwards(2*time.Minute, func(ctx context.Context) {
		if err := s.Cluster.Restore(ctx); err != nil {
			s.Errorf("restore the cluster: %v", err)
		}
		// An evicted replica of the webhook stays as a failed pod, which other scenarios would count.
		if _, err := s.Kubectl(ctx, "-n", scenario.SystemNamespace, "delete", "pods", "--field-selector=status.phase=Failed"); err != nil {
			s.Errorf("delete the webhook's failed pods: %v", err)
		}
		// A node that was lost may have had a replica of the webhook.
		if _, err := s.Kubectl(ctx, "-n", scenario.SystemNamespace, "rollout", "status", "deployment/"+scenario.Release+"-webhook", "--timeout=90s"); err != nil {
			s.Errorf("restore the webhook: %v", err)
		}
	})
}

// agentOf returns the API of the Consul agent on a pod's node.
func agentOf(s *scenario.S, pod *corev1.Pod) *api.Agent { return consulOf(s, pod).Agent() }

// consulOf returns a client of that agent.
func consulOf(s *scenario.S, pod *corev1.Pod) *api.Client {
	client, err := cluster.ConsulClient(s.Cluster.Node(pod.Spec.NodeName).ConsulAddr())
	s.Must(err)
	return client
}

// followStatus records each time in which the service has no passing instance, until stop is called, which returns them. It reads
// one server's state (stale reads), and so sees what clients see without a leader.
func followStatus(s *scenario.S) (stop func() (gaps []time.Duration)) {
	return followService(s, s.Service())
}

func followService(s *scenario.S, service string) (stop func() (gaps []time.Duration)) {
	ctx, cancel := context.WithCancel(s.Ctx)
	done := make(chan []time.Duration)
	go func() {
		var gaps []time.Duration
		var since time.Time
		for index := uint64(0); ctx.Err() == nil; {
			query := (&api.QueryOptions{WaitIndex: index, AllowStale: true}).WithContext(ctx)
			entries, meta, err := s.Consul.Health().Service(service, "", true, query)
			if err != nil {
				index = 0
				select {
				case <-ctx.Done():
				case <-time.After(100 * time.Millisecond):
				}
				continue
			}
			index = meta.LastIndex
			switch {
			case len(entries) == 0 && since.IsZero():
				since = time.Now()
			case len(entries) > 0 && !since.IsZero():
				gaps, since = append(gaps, time.Since(since)), time.Time{}
			}
		}
		if !since.IsZero() {
			gaps = append(gaps, time.Since(since))
		}
		done <- gaps
	}()
	return func() []time.Duration { cancel(); return <-done }
}

func gateOf(s *scenario.S, pod string) corev1.PodCondition {
	return scenario.Condition(s.Pod(pod), contract.Condition)
}

func TestFaultConsulAgentDownAtStart(t *testing.T) {
	s := scenario.New(t)
	whole(s)
	node := s.Cluster.Nodes[0]
	s.Given("a node whose Consul agent is down", func() { s.Must(node.Process(cluster.ConsulAgent).Stop(s.Ctx)) })
	s.When("pods start there, one of them with a gate-timeout", func() {
		for name, timeout := range map[string]string{"patient": "", "hasty": "5s"} {
			_, err := s.CreatePod(name, pinned(s, node, "gate-timeout", timeout))
			s.Must(err)
		}
	})
	s.Then("the gate says that Consul is unreachable, and at which address", func() {
		s.Eventually("the reason", func(context.Context) (bool, error) {
			gate := gateOf(s, "patient")
			return gate.Status == corev1.ConditionFalse && gate.Reason == string(contract.ConsulUnreachable) &&
				strings.Contains(gate.Message, node.IP+":8500"), fmt.Errorf("gate: %+v", gate)
		})
	})
	s.Then("the gate with a timeout opens before the catalog confirmed the registration", func() {
		s.AwaitReady("hasty")
		if gate := gateOf(s, "hasty"); gate.Reason != string(contract.TimedOut) {
			s.Errorf("the gate says %+v", gate)
		}
	})
	s.When("the agent comes back, all of them register by themselves", func() {
		s.Must(node.Process(cluster.ConsulAgent).Start(s.Ctx))
		back := time.Now()
		s.AwaitReady("patient")
		s.AwaitCatalog(s.Service(), 2)
		told(s, "Consul agent down when a pod starts", "gate False, ConsulUnreachable; opened by itself after the agent's return", time.Since(back))
	})
}

func TestFaultConsulAgentDownAtTheEnd(t *testing.T) {
	for name, fault := range map[string]struct {
		do       func(*cluster.Process, context.Context) error
		min, max time.Duration
	}{
		"refuses": {(*cluster.Process).Stop, 0, 4 * time.Second},
		// The grace period is 12 s: a third is for Consul, at most two thirds for the whole drain, with a delay of 5 s in
		// between.
		"hangs": {func(p *cluster.Process, _ context.Context) error { return p.Pause() }, 3500 * time.Millisecond, 9500 * time.Millisecond},
	} {
		t.Run(name, func(t *testing.T) {
			s := scenario.New(t)
			whole(s)
			node := s.Cluster.Nodes[0]
			timeline := observe.NewTimeline(nil)
			var pod *corev1.Pod
			s.Given("a registered pod, whose node's agent then "+name, func() {
				collector, err := timeline.Collect(s.Ctx, cluster.HostIP)
				s.Must(err)
				template := pinned(s, node)
				grace := int64(12)
				template.Spec.TerminationGracePeriodSeconds = &grace
				scenario.SetEnv(&template, "COLLECTOR", collector)
				pod = running(s, "pod", template)
				_, err = timeline.Pods(s.Ctx, s.Kube, s.Namespace, "app=sample")
				s.Must(err)
				s.Must(fault.do(node.Process(cluster.ConsulAgent), s.Ctx))
			})
			s.When("it is deleted", func() { s.Delete("pod"); s.AwaitGone(pod) })
			s.Then("its application gets SIGTERM in time", func() {
				held, ok := timeline.Lives()[0].Between(observe.Deleted, observe.Terminated)
				if !ok || held < fault.min || held > fault.max {
					s.Errorf("SIGTERM came after %s (seen: %v), want %s to %s", held, ok, fault.min, fault.max)
				}
				told(s, "Consul agent "+name+" while a pod ends", "SIGTERM after the deletion; grace period 12 s", held)
			})
		})
	}
}

func TestFaultAPIServerAway(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	whole(s)
	const outage = 60 * time.Second
	var pod *corev1.Pod
	var gaps func() []time.Duration
	s.Given("a registered pod with a short heartbeat", func() {
		pod = running(s, "pod", s.Sample(s.Annotations("heartbeat-ttl", "9s")))
		gaps = followStatus(s)
	})
	s.When("the API server is away for a minute", func() {
		s.Must(s.Cluster.APIServer().Kill(s.Ctx))
		select {
		case <-s.Ctx.Done():
		case <-time.After(outage): // wait for the length of the outage, which is what the scenario tests
		}
		s.Must(s.Cluster.APIServer().Start(s.Ctx))
		s.Must(s.Cluster.Restore(s.Ctx))
	})
	s.Then("the instance was always passing, and its gate stayed open", func() {
		if g := gaps(); len(g) > 0 {
			s.Errorf("gaps in passing: %v", g)
		}
		if gate := gateOf(s, "pod"); gate.Status != corev1.ConditionTrue {
			s.Errorf("gate: %+v", gate)
		}
	})
	s.Then("changes reach Consul again", func() {
		s.Must(put(s, pod, "/unready"))
		began := time.Now()
		s.Eventually("critical", func(context.Context) (bool, error) { return len(s.Passing(s.Service())) == 0, nil })
		told(s, "API server away for 60 s", "heartbeats went on, no gap in passing; afterwards unready became critical", time.Since(began))
	})
}

// put sends a PUT request to the sample in a pod.
func put(s *scenario.S, pod *corev1.Pod, path string) error {
	request, err := http.NewRequestWithContext(s.Ctx, http.MethodPut, "http://"+pod.Status.PodIP+":8080"+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func TestFaultAgentletKilled(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, placed)
		var pod *corev1.Pod
		var gaps func() []time.Duration
		var opened metav1.Time
		s.Given("a registered pod", func() {
			pod = running(s, "pod", s.Sample(s.Annotations()))
			opened = scenario.Condition(pod, contract.Condition).LastTransitionTime
			gaps = followStatus(s)
		})
		began := time.Now()
		s.When("its agentlet is killed and has started again", func() {
			s.Must(scenario.Kill("agentlet run", string(pod.UID)))
			s.Eventually("the restart", func(context.Context) (bool, error) {
				status := scenario.AgentletStatus(s.Pod("pod"))
				return status.RestartCount > 0 && status.State.Running != nil, nil
			})
		})
		s.Then("it adopts the instance: always passing, and the gate never changes", func() {
			s.Eventually("a heartbeat of the new one", func(ctx context.Context) (bool, error) {
				metrics, err := s.Kube.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces", s.Namespace, "pods", "pod:19500", "proxy", "metrics").DoRaw(ctx)
				return strings.Contains(string(metrics), `operation="update_heartbeat",outcome="ok"`), err
			})
			if g := gaps(); len(g) > 0 {
				s.Errorf("gaps in passing: %v", g)
			}
			if gate := gateOf(s, "pod"); gate.Status != corev1.ConditionTrue || !gate.LastTransitionTime.Equal(&opened) {
				s.Errorf("gate: %+v, opened before at %s", gate, opened)
			}
			told(s, "agentlet killed", "adopted by the next start, no gap in passing, gate untouched", time.Since(began))
		})
	})
}

func TestFaultForcedDeletion(t *testing.T) {
	s := scenario.New(t)
	var pod *corev1.Pod
	s.Given("a registered pod", func() { pod = running(s, "pod", s.Sample(s.Annotations())) })
	began := time.Now()
	s.When("it is deleted by force", func() {
		none := int64(0)
		s.Must(s.Kube.CoreV1().Pods(s.Namespace).Delete(s.Ctx, "pod", metav1.DeleteOptions{GracePeriodSeconds: &none}))
		s.AwaitGone(pod)
	})
	s.Then("it is removed from the catalog", func() {
		s.AwaitCatalog(s.Service(), 0)
		told(s, "pod deleted by force", "out of the catalog", time.Since(began))
	})
}

func TestFaultApplicationRestartedAlone(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, placed)
		var pod *corev1.Pod
		var id string
		s.Given("a registered pod", func() {
			pod = running(s, "pod", s.Sample(s.Annotations()))
			id = s.Catalog(s.Service())[0].Service.ID
		})
		began := time.Now()
		s.When("only its application is killed, and restarts", func() {
			s.Must(scenario.Kill("/sample", string(pod.UID)))
			s.Eventually("the restart", func(context.Context) (bool, error) {
				now := s.Pod("pod")
				return scenario.ContainerStatus(now, "app").RestartCount > 0 && scenario.IsReady(now), nil
			})
		})
		s.Then("it was never deregistered, and passes again", func() {
			s.AwaitCatalog(s.Service(), 1)
			entry := s.Catalog(s.Service())[0]
			if entry.Service.ID != id || entry.Service.CreateIndex == 0 {
				s.Errorf("the instance is another one: %+v", entry.Service)
			}
			log, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "logs", "pod", "-c", contract.ContainerName)
			s.Must(err)
			if strings.Contains(log, "deregistered") || strings.Contains(log, "terminating") {
				s.Errorf("the agentlet took it for the end:\n%s", log)
			}
			told(s, "application's container restarted alone", "critical meanwhile, neither held nor deregistered, passing again", time.Since(began))
		})
	})
}

func TestFaultMeddlers(t *testing.T) {
	s := scenario.New(t)
	var pod *corev1.Pod
	var id string
	s.Given("a registered pod with a tag", func() {
		pod = running(s, "pod", s.Sample(s.Annotations("service-tags", "v1")))
		id = s.Catalog(s.Service())[0].Service.ID
	})
	s.When("somebody deregisters it at its agent", func() {
		s.Must(agentOf(s, pod).ServiceDeregister(id))
	})
	s.Then("it is registered again within a second", func() {
		began := time.Now()
		s.AwaitCatalog(s.Service(), 1)
		told(s, "somebody deregisters the instance at the agent", "put back, passing", time.Since(began))
	})
	s.When("somebody changes it at its agent", func() {
		service, _, err := agentOf(s, pod).Service(id, nil)
		s.Must(err)
		s.Must(agentOf(s, pod).ServiceRegister(&api.AgentServiceRegistration{ID: id, Name: service.Service, Port: 1, Address: service.Address, Tags: []string{"edited"}}))
	})
	s.Then("the change is reverted", func() {
		began := time.Now()
		s.Eventually("the old definition", func(context.Context) (bool, error) {
			got := s.Catalog(s.Service())
			return len(got) == 1 && got[0].Service.Port == 8080 && slices.Equal(got[0].Service.Tags, []string{"v1"}), nil
		})
		s.AwaitCatalog(s.Service(), 1)
		told(s, "somebody edits the instance at the agent", "put right", time.Since(began))
	})
	s.When("an operator sets maintenance mode, it is kept until the operator ends it", func() {
		s.Must(agentOf(s, pod).EnableServiceMaintenance(id, "being mended"))
		s.Eventually("maintenance", func(context.Context) (bool, error) { return len(s.Passing(s.Service())) == 0, nil })
		s.Must(put(s, pod, "/unready"))
		s.Must(put(s, pod, "/ready"))
		checks := s.Catalog(s.Service())[0].Checks
		if !slices.ContainsFunc(checks, func(c *api.HealthCheck) bool { return c.CheckID == api.ServiceMaintPrefix+id }) {
			s.Errorf("the maintenance check is gone: %v", checks)
		}
		s.Must(agentOf(s, pod).DisableServiceMaintenance(id))
		s.AwaitCatalog(s.Service(), 1)
	})
	s.When("strangers call /drain a thousand times", func() {
		var group sync.WaitGroup
		slots := make(chan struct{}, 50)
		for i := range 1000 {
			group.Go(func() {
				slots <- struct{}{}
				defer func() { <-slots }()
				request, err := http.NewRequestWithContext(s.Ctx, http.MethodGet, "http://"+pod.Status.PodIP+":19500"+contract.DrainPath, nil)
				if err != nil {
					return
				}
				if i%2 == 0 { // half of the calls know the nonce, which is in the pod's spec
					request.Header.Set(contract.NonceHeader, pod.Spec.Containers[0].Lifecycle.PreStop.HTTPGet.HTTPHeaders[0].Value)
				}
				if response, err := http.DefaultClient.Do(request); err == nil {
					response.Body.Close()
				}
			})
		}
		group.Wait()
	})
	s.Then("the registration is unchanged", func() {
		if n := len(s.Passing(s.Service())); n != 1 {
			s.Errorf("%d passing instances, want 1", n)
		}
		memory, err := scenario.AnonymousMemory("agentlet run", string(pod.UID))
		s.Must(err)
		told(s, "/drain called 1,000 times by anybody", fmt.Sprintf("no effect; %d KiB of anonymous memory afterwards", memory>>10), 0)
	})
}

func TestFaultNodeCutOff(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	whole(s)
	node := s.Cluster.Nodes[1]
	s.Given("a pod on each node", func() {
		for _, n := range s.Cluster.Nodes {
			_, err := s.CreatePod(n.Name, pinned(s, n))
			s.Must(err)
		}
		s.AwaitCatalog(s.Service(), 2)
	})
	s.When("a node is cut off", func() { s.Must(node.Cut(s.Ctx)) })
	s.Then("its instance stops passing when serf declares the node failed, and the other is untouched", func() {
		began := time.Now()
		s.Eventually("one passing instance", func(context.Context) (bool, error) {
			passing := s.Passing(s.Service())
			return len(passing) == 1 && passing[0].Service.Meta[contract.MetaNode] != node.Name, fmt.Errorf("%d passing", len(passing))
		})
		told(s, "node cut off", "its instance out of passing when serf declared the node failed; the other untouched", time.Since(began))
	})
	s.When("the node is back, its instance passes again", func() {
		s.Must(node.Heal(s.Ctx))
		began := time.Now()
		s.AwaitCatalog(s.Service(), 2)
		told(s, "node cut off, and back", "passing again", time.Since(began))
	})
}

func TestFaultFlappingReadiness(t *testing.T) {
	s := scenario.New(t)
	var pod *corev1.Pod
	var before uint64
	changes := func() uint64 {
		_, meta, err := s.Consul.Health().Checks(s.Service(), (&api.QueryOptions{}).WithContext(s.Ctx))
		s.Must(err)
		return meta.LastIndex
	}
	s.Given("a registered pod", func() { pod = running(s, "pod", s.Sample(s.Annotations())); before = changes() })
	began := time.Now()
	s.When("its application flaps five times a second for ten seconds", func() {
		ticker := time.NewTicker(100 * time.Millisecond)
		defer ticker.Stop()
		for i := range 100 {
			s.Must(put(s, pod, []string{"/unready", "/ready"}[i%2]))
			<-ticker.C
		}
	})
	s.Then("it is passing at the end, with no more writes to Consul than kubelet probes", func() {
		s.AwaitCatalog(s.Service(), 1)
		writes := changes() - before
		told(s, "application flaps 5 times a second for 10 s", fmt.Sprintf("passing at the end; the service's checks moved Consul's index by %d", writes), time.Since(began))
		if writes > 60 {
			s.Errorf("Consul's index moved by %d", writes)
		}
	})
}

func TestFaultOverlappingNames(t *testing.T) {
	s := scenario.New(t)
	var first *corev1.Pod
	s.Given("a pod that terminates slowly", func() {
		template := s.Sample(s.Annotations("drain-delay", "8s"))
		first = running(s, "db-0", template)
	})
	s.When("it is deleted by force, and another of the same name is created at once", func() {
		none := int64(0)
		s.Must(s.Kube.CoreV1().Pods(s.Namespace).Delete(s.Ctx, "db-0", metav1.DeleteOptions{GracePeriodSeconds: &none}))
		s.AwaitGone(first)
		_, err := s.CreatePod("db-0", s.Sample(s.Annotations()))
		s.Must(err)
		s.AwaitReady("db-0")
	})
	s.Then("the catalog has only the second, and keeps it", func() {
		second := s.Pod("db-0")
		s.AwaitCatalog(s.Service(), 1)
		if got := s.Catalog(s.Service())[0].Service.Meta[contract.MetaPodUID]; got != string(second.UID) {
			s.Errorf("the catalog has UID %s, want the second's %s", got, second.UID)
		}
		if gate := gateOf(s, "db-0"); gate.Status != corev1.ConditionTrue {
			s.Errorf("the second's gate: %+v", gate)
		}
		told(s, "two pods of one name overlap", "neither touched the other's instance", 0)
	})
}

// TestFaultDeadline ends a pod without a deletionTimestamp, by activeDeadlineSeconds.
func TestFaultDeadline(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Parallel(), placed)
		timeline := observe.NewTimeline(nil)
		s.Given("a pod with an activeDeadlineSeconds of 8", func() {
			collector, err := timeline.Collect(s.Ctx, cluster.HostIP)
			s.Must(err)
			template := s.Sample(s.Annotations("drain-delay", "1s"))
			scenario.SetEnv(&template, "COLLECTOR", collector)
			deadline := int64(8)
			template.Spec.ActiveDeadlineSeconds = &deadline
			_, err = timeline.Pods(s.Ctx, s.Kube, s.Namespace, "app=sample")
			s.Must(err)
			timeline.Catalog(s.Ctx, s.Consul, s.Service())
			running(s, "pod", template)
		})
		s.When("the deadline is over", func() {
			s.Eventually("the end", func(context.Context) (bool, error) {
				return s.Pod("pod").Status.Phase == corev1.PodFailed && len(observe.Spans(timeline.Lives(), observe.OutOfCatalog, observe.Terminated)) == 1, nil
			})
		})
		s.Then("it was drained before SIGTERM", func() {
			held, _ := timeline.Lives()[0].Between(observe.OutOfCatalog, observe.Terminated)
			if held <= 0 {
				s.Errorf("SIGTERM came %s before the catalog had dropped it", -held)
			}
			told(s, "activeDeadlineSeconds", "out of the catalog before SIGTERM, without a deletionTimestamp", held)
		})
	})
}
