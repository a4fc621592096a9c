package scenarios_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/programs/logind"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// conditions records the states of a pod as its watch shows them, with the address in the gate's message.
func conditions(s *scenario.S, pod string) (stop func() []string) {
	s.Helper()
	watcher, err := s.Kube.CoreV1().Pods(s.Namespace).Watch(s.Ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + pod})
	s.Must(err)
	done := make(chan []string)
	go func() {
		var states []string
		for event := range watcher.ResultChan() {
			now, ok := event.Object.(*corev1.Pod)
			if !ok || event.Type != watch.Added && event.Type != watch.Modified {
				continue
			}
			gate := scenario.Condition(now, contract.Condition)
			state := fmt.Sprintf("%s: gate %s %s, Ready %v, %s", now.Status.PodIP, gate.Status, gate.Reason, scenario.IsReady(now), gate.Message)
			if len(states) == 0 || states[len(states)-1] != state {
				states = append(states, state)
			}
		}
		done <- states
	}()
	return func() []string { watcher.Stop(); return <-done }
}

func TestFaultNodeReboot(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Long(), placed)
		whole(s)
		node := s.Cluster.Nodes[1]
		var before *corev1.Pod
		var states func() []string
		s.Given("a registered pod", func() {
			before = running(s, "pod", pinned(s, node))
			states = conditions(s, "pod")
		})
		began := time.Now()
		s.When("its node loses power and boots again", func() {
			s.Must(node.PowerOff(s.Ctx))
			s.Must(node.PowerOn(s.Ctx))
			s.Eventually("a new address", func(context.Context) (bool, error) {
				ip := s.Pod("pod").Status.PodIP
				return ip != "" && ip != before.Status.PodIP, nil
			})
			s.Eventually("the gate to speak of it", func(context.Context) (bool, error) {
				now := s.Pod("pod")
				return scenario.IsReady(now) && strings.HasSuffix(gateOf(s, "pod").Message, now.Status.PodIP), fmt.Errorf("gate: %+v", gateOf(s, "pod"))
			})
		})
		took := time.Since(began)
		s.Then("the catalog has the same pod at its new address, and it was Ready with no other address", func() {
			s.AwaitCatalog(s.Service(), 1)
			now := s.Pod("pod")
			if now.UID != before.UID {
				s.Errorf("another pod: UID %s, before %s", now.UID, before.UID)
			}
			if got := s.Catalog(s.Service())[0].Service.Address; got != now.Status.PodIP {
				s.Errorf("the catalog has %s, want %s", got, now.Status.PodIP)
			}
			closed := false
			for _, state := range states() {
				s.Log(state)
				// As the last container, an agentlet starts after the application, and first closes the gate, which is still open
				// from before; the kubelet sees that when it next looks.
				early := s.Placement == contract.PlacementContainer && (!closed || strings.Contains(state, "gate False"))
				closed = closed || strings.Contains(state, "gate False")
				if strings.HasPrefix(state, now.Status.PodIP) && strings.Contains(state, "Ready true") && !strings.HasSuffix(state, now.Status.PodIP) && !early {
					s.Errorf("Ready with the old address in the catalog: %s", state)
				}
			}
			if !closed {
				s.Error("the gate never closed")
			}
			told(s, "node rebooted, the pod has a new IP", "the gate closed until the catalog had the new address; the time is from the loss of power", took)
		})
	})
}

func TestFaultNodeGone(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	whole(s)
	node, other := s.Cluster.Nodes[1], s.Cluster.Nodes[0]
	var first *corev1.Pod
	s.Given("a registered pod", func() { first = running(s, "db-0", pinned(s, node, "deregister-after", "1m")) })
	s.When("its node is gone for good, and its instance no longer passes", func() {
		began := time.Now()
		s.Must(node.PowerOff(s.Ctx))
		s.Eventually("no passing instance", func(context.Context) (bool, error) { return len(s.Passing(s.Service())) == 0, nil })
		told(s, "node gone", "its instance out of passing when serf declared the node failed", time.Since(began))
	})
	s.When("a successor of the same name starts on another node", func() {
		none := int64(0)
		s.Must(s.Kube.CoreV1().Pods(s.Namespace).Delete(s.Ctx, "db-0", metav1.DeleteOptions{GracePeriodSeconds: &none}))
		s.AwaitGone(first)
		began := time.Now()
		// Retry, because the node may have had a replica of the webhook: the API server calls it until its endpoint is removed.
		s.Eventually("its creation", func(context.Context) (bool, error) {
			_, err := s.CreatePod("db-0", pinned(s, other))
			return err == nil, err
		})
		s.AwaitReady("db-0")
		told(s, "node gone, a successor of the same name elsewhere", "Ready, and the one passing instance", time.Since(began))
	})
	uid := string(s.Pod("db-0").UID)
	passing := func() {
		entries := s.Passing(s.Service())
		if len(entries) != 1 || entries[0].Service.Meta[contract.MetaPodUID] != uid {
			s.Errorf("%d passing instances, want the successor's alone", len(entries))
		}
	}
	s.Then("the old entry remains beside it, not passing, until force-leave -prune takes it", func() {
		passing()
		if n := len(s.Catalog(s.Service())); n != 2 {
			s.Errorf("%d entries, want the old one and the successor's", n)
		}
		began := time.Now()
		s.Must(s.Consul.Agent().ForceLeavePrune(node.Name))
		s.AwaitCatalog(s.Service(), 1)
		told(s, "node gone: consul force-leave", "its entries out of the catalog, the successor's stay", time.Since(began))
	})
	s.When("the node comes back after all, with the old instance on its agent's disk", func() {
		s.Must(node.PowerOn(s.Ctx))
		began := time.Now()
		s.Eventually("the old entry", func(context.Context) (bool, error) { return len(s.Catalog(s.Service())) == 2, nil })
		s.Eventually("the successor alone in passing", func(context.Context) (bool, error) { return len(s.Passing(s.Service())) == 1, nil })
		passing()
		told(s, "node gone, and back without its pod", "the successor is untouched; the old instance, which the node's Consul agent had kept, is out of passing when its heartbeat-ttl is over", time.Since(began))
		s.AwaitCatalog(s.Service(), 1)
		passing()
		told(s, "node gone, and back without its pod: the old entry", "reaped by the node's Consul agent, after deregister-after=1m and up to 30 s", time.Since(began))
	})
}

// ending watches the end of a pod that no deletionTimestamp announces.
type ending struct {
	timeline *observe.Timeline
	pod      *corev1.Pod
}

func (e *ending) begin(s *scenario.S, node *cluster.Node) {
	e.timeline = observe.NewTimeline(nil)
	collector, err := e.timeline.Collect(s.Ctx, cluster.HostIP)
	s.Must(err)
	template := pinned(s, node, "drain-delay", "3s")
	scenario.SetEnv(&template, "COLLECTOR", collector)
	e.timeline.Catalog(s.Ctx, s.Consul, s.Service())
	e.pod = running(s, "pod", template)
}

// await waits for SIGTERM, and returns how long before it the catalog had removed the instance.
func (e *ending) await(s *scenario.S) (held time.Duration) {
	s.Helper()
	s.Eventually("SIGTERM", func(context.Context) (ended bool, err error) {
		held, ended = e.timeline.Lives()[0].Between(observe.OutOfCatalog, observe.Terminated)
		_, terminated := e.timeline.Lives()[0].At[observe.Terminated]
		if terminated && !ended {
			return true, nil // before the instance was removed
		}
		return ended, fmt.Errorf("seen: %v", e.timeline.Lives()[0].At)
	})
	if held <= 0 {
		s.Errorf("SIGTERM came %s before the catalog had dropped it", -held)
	}
	return held
}

// pressure are kubelet configurations that cause memory pressure on the node.
var pressure = map[string]map[string]any{
	"soft": {
		"evictionSoft": map[string]string{"memory.available": "95%"}, "evictionSoftGracePeriod": map[string]string{"memory.available": "1s"},
		"evictionMaxPodGracePeriod": 30, "evictionPressureTransitionPeriod": "1s",
	},
	"hard": {"evictionHard": map[string]string{"memory.available": "95%"}, "evictionPressureTransitionPeriod": "1s"},
}

// TestFaultNodePressure makes the kubelet require 95% of the memory to be free. A soft threshold leaves a pod its grace period, a
// hard threshold one second.
func TestFaultNodePressure(t *testing.T) {
	for name, fields := range pressure {
		t.Run(name, func(t *testing.T) {
			inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
				s := scenario.New(t, scenario.Long(), placed)
				whole(s)
				node := s.Cluster.Nodes[1]
				var e ending
				s.Given("a registered pod", func() { e.begin(s, node) })
				s.When("its node is short of memory", func() { s.Must(node.ConfigureKubelet(s.Ctx, fields)) })
				s.Then("it is evicted, and drained before SIGTERM", func() {
					held := e.await(s)
					s.Eventually("the end", func(context.Context) (bool, error) { return s.Pod("pod").Status.Phase != corev1.PodRunning, nil })
					s.Must(node.ConfigureKubelet(s.Ctx, nil))
					pod := s.Pod("pod")
					if pod.DeletionTimestamp != nil || scenario.Condition(pod, corev1.DisruptionTarget).Status != corev1.ConditionTrue {
						s.Errorf("deletionTimestamp %v, conditions %+v, want none and DisruptionTarget", pod.DeletionTimestamp, pod.Status.Conditions)
					}
					s.AwaitCatalog(s.Service(), 0)
					told(s, "node-pressure eviction, "+name+" threshold", "out of the catalog before SIGTERM, by the time given, without a deletionTimestamp", held)
				})
			})
		})
	}
}

// TestFaultEvictionForgotten restarts the kubelet during an eviction. The kubelet forgets the eviction, and restarts the
// application beside an agentlet that has drained the pod.
func TestFaultEvictionForgotten(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Long(), placed)
		whole(s)
		node := s.Cluster.Nodes[1]
		var pod *corev1.Pod
		s.Given("a registered pod with a grace period of 15 s", func() {
			template := pinned(s, node, "drain-delay", "8s")
			template.Spec.TerminationGracePeriodSeconds = new(int64(15))
			pod = running(s, "pod", template)
		})
		began := time.Now()
		s.When("its eviction begins, and the kubelet restarts before it is over", func() {
			s.Must(node.ConfigureKubelet(s.Ctx, pressure["soft"]))
			s.Eventually("the gate to close", func(context.Context) (bool, error) { return gateOf(s, "pod").Reason == string(contract.Draining), nil })
			s.Must(node.Process(cluster.Kubelet).Kill(s.Ctx))
			s.AwaitCatalog(s.Service(), 0)
			s.Must(node.ConfigureKubelet(s.Ctx, nil))
		})
		s.Then("the pod gets traffic again, because the announced end did not come", func() {
			now := s.AwaitReady("pod")
			if now.UID != pod.UID || now.DeletionTimestamp != nil {
				s.Errorf("it is another pod, or one that ends: %+v", now.ObjectMeta)
			}
			s.AwaitCatalog(s.Service(), 1)
			told(s, "kubelet restarted in the middle of an eviction, which it forgets", "registered again after the grace period of 15 s and 30 s more, by a new start of the agentlet", time.Since(began))
		})
	})
}

// TestFaultNodeShutdown triggers a graceful node shutdown through the test's own logind.
func TestFaultNodeShutdown(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Long(), placed)
		whole(s)
		node := s.Cluster.Nodes[1]
		var e ending
		var machine *logind.Logind
		s.Given("a kubelet that waits for its pods at a shutdown, and a registered pod", func() {
			var err error
			machine, err = logind.Start(s.Ctx, s.TempDir())
			s.Must(err)
			s.Must(node.ConfigureKubelet(s.Ctx, map[string]any{"shutdownGracePeriod": "60s", "shutdownGracePeriodCriticalPods": "10s"},
				"DBUS_SYSTEM_BUS_ADDRESS="+machine.Address))
			s.Must(s.Cluster.WaitHealthy(s.Ctx))
			e.begin(s, node)
		})
		s.When("logind announces a shutdown", func() { s.Must(machine.Shutdown(s.Ctx)) })
		s.Then("the pod was drained before SIGTERM, without a deletionTimestamp", func() {
			held := e.await(s)
			if pod := s.Pod("pod"); pod.DeletionTimestamp != nil {
				s.Errorf("deletionTimestamp %v", pod.DeletionTimestamp)
			}
			s.AwaitCatalog(s.Service(), 0)
			told(s, "graceful node shutdown", "out of the catalog before SIGTERM, by the time given, without a deletionTimestamp", held)
		})
	})
}
