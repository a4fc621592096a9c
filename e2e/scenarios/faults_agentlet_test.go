package scenarios_test

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

func TestFaultAgentletOutOfMemory(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, placed)
		var pod *corev1.Pod
		var gaps func() []time.Duration
		node := s.Cluster.Nodes[0]
		var strangers strangers
		s.Given("a registered pod, and a stranger", func() {
			strangers = newStrangers(s)
			pod = running(s, "pod", pinned(s, node))
			gaps = followStatus(s)
		})
		began := time.Now()
		s.When("strangers use more than the 2 MiB of memory that its agentlet has left", func() {
			process, err := scenario.FindProcess("agentlet run", string(pod.UID))
			s.Must(err)
			held, err := process.AnonymousMemory()
			s.Must(err)
			s.Must(process.LimitMemory(held + 2<<20))
			netns, args := strangers.manyPods(node)
			defer strangers.flood(netns, net.JoinHostPort(pod.Status.PodIP, "19500"), append(args, "-connections=1000", "-rate=1000", "-send=half")...)()
			s.Eventually("the kill", func(context.Context) (bool, error) {
				status := scenario.AgentletStatus(s.Pod("pod"))
				for _, state := range []corev1.ContainerState{status.LastTerminationState, status.State} {
					if state.Terminated != nil {
						return state.Terminated.Reason == "OOMKilled", fmt.Errorf("terminated: %+v", state.Terminated)
					}
				}
				return false, nil
			})
		})
		s.Then("its successor adopts the instance: it is always passing, and the gate never changes", func() {
			s.Eventually("the restart", func(context.Context) (bool, error) {
				status := scenario.AgentletStatus(s.Pod("pod"))
				return status.RestartCount > 0 && status.State.Running != nil, nil
			})
			took := time.Since(began)
			awaitBeat(s, "pod")
			if g := gaps(); len(g) > 0 {
				s.Errorf("gaps in passing: %v", g)
			}
			before, now := scenario.Condition(pod, contract.Condition), gateOf(s, "pod")
			if now.Status != corev1.ConditionTrue || !now.LastTransitionTime.Equal(&before.LastTransitionTime) {
				s.Errorf("gate: %+v, before %+v", now, before)
			}
			told(s, "agentlet OOM-killed", "adopted by the next start, no gap in passing, gate untouched", took)
		})
	})
}

// awaitBeat waits until a pod's agentlet has sent a heartbeat, even if it has just started.
func awaitBeat(s *scenario.S, pod string) {
	s.Helper()
	s.Eventually("a heartbeat", func(ctx context.Context) (bool, error) {
		metrics, err := s.Kube.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces", s.Namespace, "pods", pod+":19500", "proxy", "metrics").DoRaw(ctx)
		return strings.Contains(string(metrics), `operation="update_heartbeat",outcome="ok"`), err
	})
}

func TestFaultAgentletCrashLoop(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Long(), placed)
		var pod *corev1.Pod
		s.Given("a registered pod with a heartbeat of 6 s", func() {
			pod = running(s, "pod", s.Sample(s.Annotations("heartbeat-ttl", "6s")))
		})
		s.When("its agentlet is killed until the kubelet's back-off is longer than that", func() {
			s.Eventually("an instance that is not passing", func(context.Context) (bool, error) {
				_ = scenario.Kill("agentlet run", string(pod.UID)) // no process runs during the kubelet's restart back-off
				return len(s.Passing(s.Service())) == 0, nil
			})
		})
		began := time.Now()
		s.Then("the instance is critical, and stays registered with its gate open", func() {
			waiting := scenario.AgentletStatus(s.Pod("pod")).State.Waiting
			if waiting == nil || waiting.Reason != "CrashLoopBackOff" {
				s.Logf("the agentlet's state: %+v", scenario.AgentletStatus(s.Pod("pod")).State)
			}
			if n := len(s.Catalog(s.Service())); n != 1 {
				s.Errorf("%d entries in the catalog, want the critical one", n)
			}
			if gate := gateOf(s, "pod"); gate.Status != corev1.ConditionTrue {
				s.Errorf("gate: %+v", gate)
			}
		})
		s.Then("it passes again when the agentlet is back", func() {
			s.AwaitCatalog(s.Service(), 1)
			took := time.Since(began)
			restarts := scenario.AgentletStatus(s.Pod("pod")).RestartCount
			before, now := scenario.Condition(pod, contract.Condition), gateOf(s, "pod")
			if now.Status != corev1.ConditionTrue || !now.LastTransitionTime.Equal(&before.LastTransitionTime) {
				s.Errorf("gate: %+v, before %+v", now, before)
			}
			told(s, "agentlet in a crash loop, the kubelet's wait longer than heartbeat-ttl", fmt.Sprintf("critical when the TTL was over, passing again with the next start (restart %d); the time is between; gate untouched", restarts), took)
		})
	})
}

func TestFaultUnreadyForLong(t *testing.T) {
	const unready = 110 * time.Second // longer than deregister-after plus Consul's reap interval of 30 s
	s := scenario.New(t, scenario.Long())
	var pod *corev1.Pod
	var id string
	s.Given("a registered pod that is reaped after a minute without heartbeat", func() {
		pod = running(s, "pod", s.Sample(s.Annotations("deregister-after", "1m")))
		id = s.Catalog(s.Service())[0].Service.ID
	})
	s.When("it is not ready for almost two minutes", func() {
		s.Must(put(s, pod, "/unready"))
		began := time.Now()
		s.Eventually("critical", func(context.Context) (bool, error) { return len(s.Passing(s.Service())) == 0, nil })
		told(s, "application turns unready", "critical; the time is from its own turn, the kubelet's probe each second included", time.Since(began))
		created := s.Catalog(s.Service())[0].Service.CreateIndex
		for began := time.Now(); time.Since(began) < unready; s.Pause(time.Second) {
			entries := s.Catalog(s.Service())
			if len(entries) != 1 || entries[0].Service.ID != id || entries[0].Service.CreateIndex != created {
				s.Fatalf("after %s the catalog has %d entries, or another one", time.Since(began), len(entries))
			}
		}
	})
	s.Then("it is never reaped, and passes at once when it is ready", func() {
		s.Must(put(s, pod, "/ready"))
		began := time.Now()
		s.AwaitCatalog(s.Service(), 1)
		told(s, "application unready for 110 s, deregister-after 1m", "never reaped; the time is until passing again", time.Since(began))
	})
}

func TestFaultAnnotationsChanged(t *testing.T) {
	s := scenario.New(t)
	var pod *corev1.Pod
	added := s.Service() + "-added"
	annotate := func(pairs ...string) time.Time {
		s.Helper()
		patch := `{"metadata":{"annotations":{`
		for i := 0; i+1 < len(pairs); i += 2 {
			if i > 0 {
				patch += ","
			}
			patch += fmt.Sprintf("%q:%q", contract.Prefix+pairs[i], pairs[i+1])
		}
		began := time.Now()
		_, err := s.Kube.CoreV1().Pods(s.Namespace).Patch(s.Ctx, "pod", types.MergePatchType, []byte(patch+"}}}"), metav1.PatchOptions{})
		s.Must(err)
		return began
	}
	s.Given("a registered pod", func() { pod = running(s, "pod", s.Sample(s.Annotations("service-tags", "v1"))) })
	var slowest time.Duration
	changes := []struct {
		what  string
		pairs []string
		there func() bool
	}{
		{"tags", []string{"service-tags", "v2,canary"}, func() bool {
			return slices.Equal(s.Catalog(s.Service())[0].Service.Tags, []string{"v2", "canary"})
		}},
		{"meta", []string{"service-meta", "team:core"}, func() bool { return s.Catalog(s.Service())[0].Service.Meta["team"] == "core" }},
		{"port", []string{"service-port", "9090"}, func() bool { return s.Catalog(s.Service())[0].Service.Port == 9090 }},
		{"a service added", []string{"service-names", s.Service() + "," + added}, func() bool { return len(s.Passing(added)) == 1 }},
		{"a service removed", []string{"service-names", s.Service()}, func() bool { return len(s.Catalog(added)) == 0 }},
	}
	s.When("its annotations change one after the other, the catalog follows", func() {
		for _, change := range changes {
			began := annotate(change.pairs...)
			s.Eventually("the new "+change.what, func(context.Context) (bool, error) { return change.there(), nil })
			took := time.Since(began)
			slowest = max(slowest, took)
			s.Logf("%s after %s", change.what, took.Round(time.Millisecond))
		}
		s.AwaitCatalog(s.Service(), 1)
		told(s, "annotations of a running pod changed", "tags, meta, port, a service added, a service removed: each in the catalog; the time is the slowest's", slowest)
		if slowest > 5*time.Second { // usually about a second
			s.Errorf("the slowest change took %s", slowest)
		}
	})
	s.When("one becomes invalid, the last valid registration stays, and condition and event say so", func() {
		before := s.Catalog(s.Service())[0].Service
		began := annotate("service-tags", "v3", "service-port", "no-such-port")
		s.Eventually("the reason", func(context.Context) (bool, error) {
			gate := gateOf(s, "pod")
			return gate.Status == corev1.ConditionTrue && gate.Reason == string(contract.InvalidConfiguration) && strings.Contains(gate.Message, "no-such-port"), fmt.Errorf("gate: %+v", gate)
		})
		took := time.Since(began)
		awaitEvents(s, pod, "Normal Registered", "Warning InvalidConfiguration")
		if now := s.Catalog(s.Service())[0].Service; now.ModifyIndex != before.ModifyIndex || len(s.Passing(s.Service())) != 1 {
			s.Errorf("the registration did not stay: %+v, before %+v", now, before)
		}
		told(s, "annotations of a running pod made invalid", "the last valid registration stays, passing; condition and event say why; gate open", took)
	})
	s.When("the agentlet starts anew meanwhile, what is registered stays passing", func() {
		gaps := followStatus(s)
		s.Must(scenario.Kill("agentlet run", string(pod.UID)))
		s.Eventually("the restart", func(context.Context) (bool, error) {
			status := scenario.AgentletStatus(s.Pod("pod"))
			return status.RestartCount > 0 && status.State.Running != nil, nil
		})
		awaitBeat(s, "pod")
		if g := gaps(); len(g) > 0 {
			s.Errorf("gaps in passing: %v", g)
		}
	})
	s.When("they are valid again, the catalog follows", func() {
		annotate("service-port", "8080")
		s.Eventually("the new definition", func(context.Context) (bool, error) {
			now := s.Catalog(s.Service())[0].Service
			return now.Port == 8080 && slices.Equal(now.Tags, []string{"v3"}) && gateOf(s, "pod").Reason == string(contract.Registered), fmt.Errorf("gate: %+v", gateOf(s, "pod"))
		})
		s.AwaitCatalog(s.Service(), 1)
	})
}
