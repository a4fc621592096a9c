package scenarios_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// away is how long an agent is away: long enough for serf to declare the node failed.
const away = 8 * time.Second

// serving is a pod on a node whose agent fails, and a pod on another node that must not be affected.
type serving struct {
	*scenario.S

	node   *cluster.Node
	pod    *corev1.Pod
	other  string // the other's service
	gaps   func() []time.Duration
	others func() []time.Duration
}

func serve(s *scenario.S) *serving {
	whole(s)
	v := &serving{S: s, node: s.Cluster.Nodes[0], other: s.Service() + "-other"}
	_, err := s.CreatePod("other", pinned(s, s.Cluster.Nodes[1], "service-names", v.other))
	s.Must(err)
	v.pod = running(s, "pod", pinned(s, v.node))
	s.AwaitCatalog(v.other, 1)
	v.gaps, v.others = followStatus(s), followService(s, v.other)
	return v
}

// back waits until the node's agent has a leader, and then until the instance passes. It returns the time between the two.
func (v *serving) back() time.Duration {
	client, err := cluster.ConsulClient(v.node.ConsulAddr())
	v.Must(err)
	v.Eventually("the agent to reach a leader", func(ctx context.Context) (bool, error) {
		leader, err := client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
		return leader != "", err
	})
	began := time.Now()
	v.AwaitCatalog(v.Service(), 1)
	return time.Since(began)
}

// judge writes the fault's row, and fails if the gate has changed or the other instance was affected.
func (v *serving) judge(fault string, took, most time.Duration) {
	gaps := v.gaps()
	if others := v.others(); len(others) > 0 {
		v.Errorf("the other node's instance had gaps in passing: %v", others)
	}
	now, before := gateOf(v.S, "pod"), scenario.Condition(v.pod, contract.Condition)
	if now.Status != corev1.ConditionTrue || !now.LastTransitionTime.Equal(&before.LastTransitionTime) {
		v.Errorf("the gate moved: %+v, before %+v", now, before)
	}
	if took > most {
		v.Errorf("passing again %s after the agent reached a leader, want %s at the most", took, most)
	}
	gap := "no gap in passing"
	if len(gaps) > 0 {
		gap = fmt.Sprintf("not passing for %s", slices.Max(gaps).Round(100*time.Millisecond))
	}
	told(v.S, fault, "gate open, other node untouched; "+gap+"; the time is from the agent's reaching a leader to passing", took)
}

func TestFaultConsulAgentRestart(t *testing.T) {
	for name, stop := range map[string]func(context.Context, *cluster.Node) error{
		"with its data kept": func(ctx context.Context, n *cluster.Node) error { return n.Process(cluster.ConsulAgent).Stop(ctx) },
		"with its data lost": func(ctx context.Context, n *cluster.Node) error {
			if err := n.Process(cluster.ConsulAgent).Stop(ctx); err != nil {
				return err
			}
			return n.WipeConsulData()
		},
		// With leave_on_terminate an agent leaves the cluster in this way on SIGTERM.
		"having left": func(ctx context.Context, n *cluster.Node) error {
			client, err := cluster.ConsulClient(n.ConsulAddr())
			if err != nil {
				return err
			}
			if err := client.Agent().Leave(); err != nil {
				return err
			}
			return n.Process(cluster.ConsulAgent).Stop(ctx)
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := scenario.New(t, scenario.Long())
			var v *serving
			s.Given("a registered pod on each node", func() { v = serve(s) })
			s.When("one node's Consul agent is away for a while and comes back "+name, func() {
				s.Must(stop(s.Ctx, v.node))
				s.Pause(away)
				s.Must(v.node.Process(cluster.ConsulAgent).Start(s.Ctx))
			})
			// Allow twice the usual five seconds, because this machine may be busy.
			s.Then("the pod is passing again, and nothing else has changed", func() {
				v.judge("Consul agent restarted "+name, v.back(), 10*time.Second)
			})
		})
	}
}

func TestFaultConsulAgentHangs(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	var v *serving
	s.Given("a registered pod on each node", func() { v = serve(s) })
	s.When("one node's Consul agent is frozen until the agentlet reports it, and then continues", func() {
		agent := v.node.Process(cluster.ConsulAgent)
		s.Must(agent.Pause())
		awaitEvents(s, v.pod, "Normal Registered", "Warning ConsulUnreachable")
		s.Must(agent.Resume())
	})
	// Allow the pause between two late heartbeats, and as much again for a busy machine.
	s.Then("the pod is passing again, and nothing else has changed", func() {
		took := v.back()
		// The updates that are queued in the agent pass even without the agentlet; wait until the agentlet itself gets an answer.
		v.Eventually("the agentlet to reach it", func(ctx context.Context) (bool, error) {
			metrics, err := v.Kube.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces", v.Namespace, "pods", "pod:19500", "proxy", "metrics").DoRaw(ctx)
			return strings.Contains(string(metrics), "\nagentlet_consul_reachable 1\n"), err
		})
		v.judge("Consul agent hangs until two heartbeats in a row are late", took, 20*time.Second)
	})
}

func TestFaultConsulAgentRestartWithoutServers(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	var v *serving
	s.Given("a registered pod on each node", func() { v = serve(s) })
	s.When("one node's Consul agent restarts with its data lost, and finds no server for its full sync", func() {
		agent, server := v.node.Process(cluster.ConsulAgent), s.Cluster.ConsulServers()[0]
		s.Must(agent.Stop(s.Ctx))
		s.Must(v.node.WipeConsulData())
		s.Pause(away)
		s.Must(server.Stop(s.Ctx))
		s.Must(agent.Start(s.Ctx))
		s.Pause(away)
		s.Must(server.Start(s.Ctx))
	})
	s.Then("the pod is passing again when the agent has tried its full sync again", func() {
		v.judge("Consul agent restarted, its first full sync failed", v.back(), 45*time.Second)
	})
}

// requestsOf returns the number of requests of a pod's agentlet, to Consul and to the API server: of all, or of these operations.
func requestsOf(s *scenario.S, pod string, operations ...string) float64 {
	s.Helper()
	metrics, err := s.Kube.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces", s.Namespace, "pods", pod+":19500", "proxy", "metrics").DoRaw(s.Ctx)
	s.Must(err)
	sum, err := scenario.Sum(metrics, "agentlet_requests_total", func(labels map[string]string) bool {
		return len(operations) == 0 || slices.Contains(operations, labels["operation"])
	})
	s.Must(err)
	return sum
}

func TestFaultConsulServersLost(t *testing.T) {
	const outage, rate = 60 * time.Second, 50
	s := scenario.New(t, scenario.Long())
	whole(s)
	node, ending := s.Cluster.Nodes[0], s.Service()+"-ending"
	agent, err := cluster.ConsulClient(node.ConsulAddr())
	s.Must(err)
	leader := func(ctx context.Context) (string, error) {
		return agent.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
	}
	var servers []*cluster.Process
	var client *load.Client
	var opened corev1.PodCondition
	s.Given("three Consul servers, and three pods that a client of the node's agent follows", func() {
		added, remove, err := s.Cluster.AddConsulServers(s.Ctx)
		s.Afterwards(4*time.Minute, func(ctx context.Context) {
			if err := remove(ctx); err != nil {
				s.Errorf("remove the added Consul servers: %v", err)
			}
		})
		s.Must(err)
		servers = slices.Concat(s.Cluster.ConsulServers(), added)
		for name, service := range map[string]string{"steady": s.Service(), "unready": s.Service(), "ending": ending} {
			_, err := s.CreatePod(name, pinned(s, node, "service-names", service, "gate-policy", "continuous"))
			s.Must(err)
			s.AwaitReady(name)
		}
		s.AwaitCatalog(s.Service(), 2)
		s.AwaitCatalog(ending, 1)
		opened = gateOf(s, "steady")
		client = load.New(agent, s.Service())
		s.Must(client.Follow(s.Ctx))
	})
	loading, enough := context.WithCancel(s.Ctx)
	defer enough()
	loaded := make(chan struct{})
	go func() { defer close(loaded); client.Run(loading, rate) }()

	s.When("the leader is killed, and a pod starts meanwhile", func() {
		address, err := leader(s.Ctx)
		s.Must(err)
		lost := servers[0]
		for i, ip := range []string{cluster.HostIP, "10.99.0.3", "10.99.0.4"} {
			if strings.HasPrefix(address, ip+":") {
				lost = servers[i]
			}
		}
		s.Must(lost.Kill(s.Ctx))
		began := time.Now()
		_, err = s.CreatePod("early", pinned(s, node))
		s.Must(err)
		s.Eventually("another leader", func(ctx context.Context) (bool, error) {
			now, err := leader(ctx)
			return now != "" && now != address, err
		})
		elected := time.Since(began)
		s.AwaitReady("early")
		told(s, "Consul's leader killed, three servers", "a new leader after "+elected.Round(10*time.Millisecond).String()+"; a pod that was created at once got Ready", time.Since(began))
		s.Must(lost.Start(s.Ctx))
		s.AwaitCatalog(s.Service(), 3)
	})

	var before, middle, after map[string]float64
	var watched time.Duration
	names := []string{"steady", "unready", "late"}
	look := func() map[string]float64 {
		counts := map[string]float64{}
		for _, name := range names {
			counts[name] = requestsOf(s, name)
		}
		return counts
	}
	s.When("the quorum is lost for a minute, in which a pod starts, one becomes unready, and one ends", func() {
		for _, server := range servers[1:] {
			s.Must(server.Kill(s.Ctx))
		}
		began := time.Now()
		_, err := s.CreatePod("late", pinned(s, node))
		s.Must(err)
		s.Must(put(s, s.Pod("unready"), "/unready"))
		pod := s.Pod("ending")
		s.Delete("ending")
		s.AwaitGone(pod)
		s.Eventually("the late pod's reason", func(context.Context) (bool, error) {
			gate := gateOf(s, "late")
			return gate.Reason == string(contract.ConsulUnreachable) && strings.Contains(gate.Message, "leader"), fmt.Errorf("gate: %+v", gate)
		})
		before = look()
		watched = outage - time.Since(began)
		s.Pause(outage/2 - time.Since(began)/2)
		middle = look()
		s.Pause(outage - time.Since(began))
		after = look()
		if scenario.IsReady(s.Pod("late")) || !scenario.IsReady(s.Pod("steady")) {
			s.Errorf("Ready in the outage: steady %v, late %v", scenario.IsReady(s.Pod("steady")), scenario.IsReady(s.Pod("late")))
		}
	})
	s.Then("no agentlet sends more than a request a second", func() {
		worst := 0.0
		for _, name := range names {
			worst = max(worst, (after[name]-before[name])/watched.Seconds())
			s.Logf("%s made %.0f and %.0f requests in the two halves of the outage", name, middle[name]-before[name], after[name]-middle[name])
		}
		if worst > 1 {
			s.Errorf("%.2f requests a second of one agentlet", worst)
		}
	})
	s.When("the servers are back, everything completes", func() {
		for _, server := range servers[1:] {
			s.Must(server.Start(s.Ctx))
		}
		s.Eventually("a leader", func(ctx context.Context) (bool, error) { now, err := leader(ctx); return now != "", err })
		began := time.Now()
		s.AwaitReady("late")
		registered := time.Since(began)
		s.Eventually("the catalog to be right", func(context.Context) (bool, error) {
			var passing []string
			for _, entry := range s.Passing(s.Service()) {
				passing = append(passing, entry.Service.Meta[contract.MetaPod])
			}
			slices.Sort(passing)
			return slices.Equal(passing, []string{"early", "late", "steady"}) && len(s.Catalog(s.Service())) == 4 && len(s.Catalog(ending)) == 0, fmt.Errorf("passing: %v", passing)
		})
		right := time.Since(began)
		enough()
		<-loaded
		requests, failed := client.Counts()
		told(s, "Consul's quorum lost for a minute", fmt.Sprintf("running pods served, %d of %d requests failed; a new pod Ready %s after a leader's return; the time is from that return until the catalog was right of all changes meanwhile",
			failed, requests, registered.Round(10*time.Millisecond)), right)
		// If an agent was blocked on its servers for longer than heartbeat-ttl, its instances are critical for a moment
		// (e2e/faults.md).
		if failed > rate/2 {
			s.Errorf("%d of %d requests failed: %v", failed, requests, client.Errors())
		}
		if now := gateOf(s, "steady"); now.Status != corev1.ConditionTrue || !now.LastTransitionTime.Equal(&opened.LastTransitionTime) {
			s.Errorf("an open gate of the continuous policy was closed by the outage: %+v, before %+v", now, opened)
		}
	})
}
