package scenarios_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/e2e/scenario"
)

// These scenarios test the Consul of examples/consul, and the procedures of docs/consul-on-kubernetes.md.

// servers is a scenario that breaks the three servers, and restores them afterwards.
type servers struct{ *scenario.S }

// mark is a key whose value proves that Consul's data is that of the scenario's start.
const mark = "consul-on-kubernetes"

// onServers starts a scenario with three healthy servers, a marked datacenter, and a registered pod.
func onServers(t *testing.T) (s servers, pod *corev1.Pod) {
	t.Helper()
	s = servers{scenario.New(t, scenario.ConsulInPods())}
	s.Given("three servers that are well, data, and a pod that is registered", func() {
		s.awaitVoters(3)
		s.mark()
		pod = running(s.S, "first", s.Sample(s.Annotations()))
	})
	return s, pod
}

func (s servers) mark() {
	s.Helper()
	_, err := s.Consul.KV().Put(&api.KVPair{Key: mark, Value: []byte(s.Namespace)}, nil)
	s.Must(err)
}

// keeps checks that the data is there, that the pod is unchanged, and that another pod becomes Ready.
func (s servers) keeps(first *corev1.Pod) {
	s.Helper()
	pair, _, err := s.Consul.KV().Get(mark, nil)
	s.Must(err)
	if pair == nil || string(pair.Value) != s.Namespace {
		s.Errorf("the data is gone: %+v", pair)
	}
	if now := s.Pod(first.Name); now.UID != first.UID || !scenario.IsReady(now) || now.Status.ContainerStatuses[0].RestartCount > 0 {
		s.Errorf("the pod is no longer as it was: %+v", now.Status)
	}
	_, err = s.CreatePod("second", s.Sample(s.Annotations()))
	s.Must(err)
	s.AwaitReady("second")
	s.AwaitCatalog(s.Service(), 2)
}

func (s servers) pods(ctx context.Context) ([]corev1.Pod, error) {
	list, err := s.Kube.CoreV1().Pods(scenario.ConsulNamespace).List(ctx, metav1.ListOptions{LabelSelector: "component=server"})
	if err != nil {
		return nil, err
	}
	return list.Items, nil
}

func (s servers) pod(name string) *corev1.Pod {
	s.Helper()
	pod, err := s.Kube.CoreV1().Pods(scenario.ConsulNamespace).Get(s.Ctx, name, metav1.GetOptions{})
	s.Must(err)
	return pod
}

// raft returns the Raft peers.
func (s servers) raft(ctx context.Context) ([]*api.RaftServer, error) {
	configuration, err := s.Consul.Operator().RaftGetConfiguration((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, err
	}
	return configuration.Servers, nil
}

// awaitVoters waits until there are n healthy servers, each with a pod, a vote and its pod's address.
func (s servers) awaitVoters(n int) {
	s.Helper()
	s.Within(4*time.Minute, fmt.Sprintf("%d voters", n), func(ctx context.Context) (bool, error) {
		voters, err := s.raft(ctx)
		if err != nil {
			return false, err
		}
		pods, err := s.pods(ctx)
		if err != nil || len(voters) != n || len(pods) != n {
			return false, errors.Join(err, fmt.Errorf("%d servers in %d pods", len(voters), len(pods)))
		}
		for _, pod := range pods {
			if !slices.ContainsFunc(voters, func(v *api.RaftServer) bool {
				return v.Node == pod.Name && v.Voter && v.Address == pod.Status.PodIP+":8300"
			}) {
				return false, fmt.Errorf("%s has no vote at %s", pod.Name, pod.Status.PodIP)
			}
		}
		health, err := s.Consul.Operator().AutopilotServerHealth((&api.QueryOptions{}).WithContext(ctx))
		return err == nil && health.Healthy, err
	})
}

// leader returns the name of the leader's pod.
func (s servers) leader() string {
	s.Helper()
	voters, err := s.raft(s.Ctx)
	s.Must(err)
	i := slices.IndexFunc(voters, func(v *api.RaftServer) bool { return v.Leader })
	if i < 0 {
		s.Fatalf("there is no leader among %v", voters)
	}
	return voters[i].Node
}

// followers returns the names of the other servers' pods.
func (s servers) followers() (names []string) {
	s.Helper()
	voters, err := s.raft(s.Ctx)
	s.Must(err)
	for _, voter := range voters {
		if !voter.Leader {
			names = append(names, voter.Node)
		}
	}
	return names
}

// lose removes pods of Consul as the loss of their machines does, with their volumes if requested, and waits until they are gone.
func (s servers) lose(names []string, volumes bool) {
	s.Helper()
	var gone []*corev1.Pod
	now := int64(0)
	for _, name := range names {
		gone = append(gone, s.pod(name))
		if volumes {
			s.Must(s.Kube.CoreV1().PersistentVolumeClaims(scenario.ConsulNamespace).Delete(s.Ctx, "data-"+name, metav1.DeleteOptions{}))
		}
		s.Must(s.Kube.CoreV1().Pods(scenario.ConsulNamespace).Delete(s.Ctx, name, metav1.DeleteOptions{GracePeriodSeconds: &now}))
	}
	s.awaitReplaced(gone)
}

// awaitReplaced waits until each of these pods has a successor, which has a volume.
func (s servers) awaitReplaced(old []*corev1.Pod) {
	s.Helper()
	s.Eventually("successors", func(ctx context.Context) (bool, error) {
		if err := s.ReplaceVolumes(ctx); err != nil {
			return false, err
		}
		for _, pod := range old {
			next, err := s.Kube.CoreV1().Pods(scenario.ConsulNamespace).Get(ctx, pod.Name, metav1.GetOptions{})
			if err != nil || next.UID == pod.UID || next.Status.PodIP == "" {
				return false, err
			}
		}
		return true, nil
	})
}

// hasLeader reports whether the servers have a leader.
func (s servers) hasLeader(ctx context.Context) (bool, error) {
	leader, err := s.Consul.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
	return err == nil && leader != "", err
}

func TestConsulOnKubernetes(t *testing.T) {
	s := scenario.New(t, scenario.ConsulInPods())
	const replicas = 6
	var f followed
	s.Given("six replicas that a client follows through Consul", func() {
		servers{s}.awaitVoters(3)
		f = follow(s, replicas)
	})
	before := uids(f.timeline.Lives())
	s.When("they are restarted under load", func() { f.restart(100) })
	s.Then("no request failed, and each pod started and ended in the right order", func() {
		f.judge(livesAfter(f.timeline, before))
		requests, failed := f.client.Counts()
		s.Logf("%d of %d requests failed", failed, requests)
	})
}

func TestConsulOnKubernetesServerLost(t *testing.T) {
	s, pod := onServers(t)
	leader := s.leader()
	gaps := followStatus(s.S)
	began := time.Now()
	s.When("the leader's pod is lost", func() { s.lose([]string{leader}, false) })
	s.Then("another one leads, and it comes back with its data, at its new address", func() {
		s.Eventually("a leader", s.hasLeader)
		s.Logf("another leader after %s", time.Since(began))
		s.awaitVoters(3)
		s.Logf("three voters after %s", time.Since(began))
	})
	lost := s.followers()[0]
	began = time.Now()
	s.When("another one is lost with its volume", func() { s.lose([]string{lost}, true) })
	s.Then("a server without data takes its place", func() {
		s.awaitVoters(3)
		s.Logf("three voters after %s", time.Since(began))
		if gone := gaps(); len(gone) > 0 {
			s.Errorf("nothing passed for %v", gone)
		}
	})
	s.Then("Consul is as it was", func() { s.keeps(pod) })
}

func TestConsulOnKubernetesServersRestarted(t *testing.T) {
	const election = 45 * time.Second
	s, pod := onServers(t)
	gaps := followStatus(s.S)
	s.When("the servers are restarted as documented, under continuous writes", func() {
		runDocs(s.S, s.TempDir(), "kubernetes-restart.sh", nil)
		began := time.Now()
		written, longest := began, time.Duration(0)
		s.Within(10*time.Minute, "the restart", func(ctx context.Context) (bool, error) {
			ctx, cancel := context.WithTimeout(ctx, election)
			defer cancel()
			if _, err := s.Consul.KV().Put(&api.KVPair{Key: mark + "-writes"}, (&api.WriteOptions{}).WithContext(ctx)); err == nil {
				longest, written = max(longest, time.Since(written)), time.Now()
			}
			set, err := s.Kube.AppsV1().StatefulSets(scenario.ConsulNamespace).Get(ctx, "consul-server", metav1.GetOptions{})
			if err != nil {
				return false, err
			}
			if away := *set.Spec.Replicas - set.Status.ReadyReplicas; away > 1 {
				s.Errorf("%d servers are away at once", away)
			}
			return set.Status.ObservedGeneration == set.Generation && set.Status.CurrentRevision == set.Status.UpdateRevision, nil
		})
		longest = max(longest, time.Since(written))
		s.Logf("three servers restarted in %s; nothing could be written for %s at the most", time.Since(began), longest)
		if longest > election {
			s.Errorf("nothing could be written for %s: an election takes seconds", longest)
		}
	})
	s.Then("the three are healthy, the pod was always in the catalog, and Consul is as before", func() {
		s.awaitVoters(3)
		if gone := gaps(); len(gone) > 0 {
			s.Errorf("nothing passed for %v", gone)
		}
		s.keeps(pod)
	})
}

func TestConsulOnKubernetesRestartedWhole(t *testing.T) {
	s, pod := onServers(t)
	began := time.Now()
	s.When("all servers and all agents are restarted at once", func() {
		list, err := s.Kube.CoreV1().Pods(scenario.ConsulNamespace).List(s.Ctx, metav1.ListOptions{})
		s.Must(err)
		s.Must(s.Kube.CoreV1().Pods(scenario.ConsulNamespace).DeleteCollection(s.Ctx, metav1.DeleteOptions{}, metav1.ListOptions{}))
		var old []*corev1.Pod
		for i := range list.Items {
			if list.Items[i].Labels["component"] == "server" {
				old = append(old, &list.Items[i])
			}
		}
		s.awaitReplaced(old)
	})
	s.Then("the three form a datacenter again, with their data", func() {
		s.awaitVoters(3)
		s.Must(s.AwaitConsul(s.Ctx))
		s.Logf("three voters after %s", time.Since(began))
		s.keeps(pod)
	})
}

func TestConsulOnKubernetesQuorumLost(t *testing.T) {
	s, pod := onServers(t)
	lost := s.followers()
	survivor := s.leader()
	s.When("two servers are lost with their volumes", func() { s.lose(lost, true) })
	s.Then("there is no leader, also when their empty successors run, and the open gate stays open", func() {
		s.Eventually("the successors to be Ready", func(ctx context.Context) (bool, error) {
			pods, err := s.pods(ctx)
			return err == nil && len(pods) == 3 && !slices.ContainsFunc(pods, func(p corev1.Pod) bool { return !scenario.IsReady(&p) }), err
		})
		s.Pause(20 * time.Second)
		if led, _ := s.hasLeader(s.Ctx); led {
			s.Error("there is a leader: nothing is to be repaired")
		}
		if gate := gateOf(s.S, pod.Name); gate.Status != corev1.ConditionTrue {
			s.Errorf("gate: %+v", gate)
		}
	})
	began := time.Now()
	s.When("the remaining server is repaired as documented", func() {
		runDocs(s.S, s.TempDir(), "kubernetes-repair.sh", nil, "consul-server-0", survivor)
	})
	s.Then("it leads, the empty servers vote, and the data is there", func() {
		s.awaitVoters(3)
		s.Logf("three voters after %s", time.Since(began))
		s.keeps(pod)
	})
}

func TestConsulOnKubernetesAllLost(t *testing.T) {
	s, pod := onServers(t)
	began := time.Now()
	var snapshot bytes.Buffer
	s.When("all servers are lost with their volumes, and there is a snapshot", func() {
		reader, _, err := s.Consul.Snapshot().Save(nil)
		s.Must(err)
		_, err = snapshot.ReadFrom(reader)
		s.Must(errors.Join(err, reader.Close()))
		s.lose(append(s.followers(), s.leader()), true)
	})
	s.When("the agents are restarted as documented", func() {
		_, err := s.Kubectl(s.Ctx, "-n", scenario.ConsulNamespace, "rollout", "restart", "daemonset/consul-client")
		s.Must(err)
		s.Must(s.AwaitConsul(s.Ctx))
	})
	s.Then("the empty servers form a datacenter, and the agents' services are there", func() {
		s.awaitVoters(3)
		s.AwaitCatalog(s.Service(), 1)
	})
	s.Then("the snapshot has the data", func() {
		s.Must(s.Consul.Snapshot().Restore(nil, &snapshot))
		s.Logf("all of it after %s", time.Since(began))
		s.keeps(pod)
	})
}

// scale sets the number of servers.
func (s servers) scale(n int) {
	s.Helper()
	_, err := s.Kubectl(s.Ctx, "-n", scenario.ConsulNamespace, "scale", "statefulset/consul-server", fmt.Sprintf("--replicas=%d", n))
	s.Must(err)
}

func TestConsulOnKubernetesScaled(t *testing.T) {
	s, pod := onServers(t)
	s.When("a server's pod is deleted, which restarts it", func() {
		old := s.pod("consul-server-2")
		s.Must(s.Kube.CoreV1().Pods(scenario.ConsulNamespace).Delete(s.Ctx, old.Name, metav1.DeleteOptions{}))
		s.Eventually("its successor", func(ctx context.Context) (bool, error) {
			if voters, err := s.raft(ctx); err == nil && len(voters) != 3 {
				return false, fmt.Errorf("%d voters: it has left", len(voters))
			}
			now, err := s.Kube.CoreV1().Pods(scenario.ConsulNamespace).Get(ctx, old.Name, metav1.GetOptions{})
			return err == nil && now.UID != old.UID, err
		})
	})
	began := time.Now()
	s.Then("it keeps its vote, and comes back", func() {
		s.awaitVoters(3)
		s.Logf("three voters after %s", time.Since(began))
	})
	s.When("it is scaled away", func() { s.scale(2) })
	s.Then("it leaves", func() {
		s.awaitVoters(2)
		members, err := s.Consul.Agent().Members(false)
		s.Must(err)
		i := slices.IndexFunc(members, func(m *api.AgentMember) bool { return m.Name == "consul-server-2" })
		if i < 0 || members[i].Status != left {
			s.Errorf("members: %+v", members)
		}
	})
	s.When("the StatefulSet is scaled up again", func() { s.scale(3) })
	s.Then("it is there again", func() { s.awaitVoters(3) })
	s.When("all are stopped by scaling to none, and started again", func() {
		s.scale(0)
		s.Eventually("the end of all", func(ctx context.Context) (bool, error) {
			pods, err := s.pods(ctx)
			return err == nil && len(pods) == 0, err
		})
		s.scale(3)
	})
	s.Then("no server has left the cluster", func() { s.awaitVoters(3); s.keeps(pod) })
}

// left is serf's number for a member that has left.
const left = 3

// secured is the address of a Consul with TLS and ACLs, its CA file, and its management token.
type secured struct{ address, authority, management string }

// securedIn returns the access to the Consul whose CA is in the folder.
func (s servers) securedIn(folder string) secured {
	s.Helper()
	secret, err := s.Kube.CoreV1().Secrets(scenario.ConsulNamespace).Get(s.Ctx, "consul-server-tokens", metav1.GetOptions{})
	s.Must(err)
	var config struct {
		ACL struct {
			Tokens struct {
				Management string `json:"initial_management"`
			} `json:"tokens"`
		} `json:"acl"`
	}
	s.Must(json.Unmarshal(secret.Data["tokens.json"], &config))
	return secured{"https://" + s.Cluster.Nodes[0].IP + ":8501", filepath.Join(folder, "consul-agent-ca.pem"), config.ACL.Tokens.Management}
}

func (c secured) client(token string) (*api.Client, error) {
	return api.NewClient(&api.Config{Address: c.address, Token: token, TLSConfig: api.TLSConfig{CAFile: c.authority, Address: "localhost"}})
}

// use has the scenario ask that Consul, with the management token. The scenario's Env is another one afterwards.
func (s servers) use(consul secured) {
	s.Helper()
	env := *s.Env
	var err error
	env.Consul, err = consul.client(consul.management)
	s.Must(err)
	s.Env = &env
}

func (c secured) environment() []string {
	return []string{
		"CONSUL_HTTP_ADDR=" + c.address, "CONSUL_HTTP_TOKEN=" + c.management,
		"CONSUL_CACERT=" + c.authority, "CONSUL_TLS_SERVER_NAME=localhost",
	}
}

func TestConsulOnKubernetesSecured(t *testing.T) {
	s := servers{scenario.New(t, scenario.ConsulInPods())}
	folder := s.TempDir()
	open := *s.Env
	s.Given("no Consul", func() {
		s.Afterwards(10*time.Minute, func(ctx context.Context) {
			_, err := s.Kubectl(ctx, "-n", s.Namespace, "delete", "pods", "--all", "--timeout=90s")
			err = errors.Join(err, open.RemoveConsul(ctx), open.InstallConsul(ctx, "base"), open.Install(ctx))
			if err != nil {
				s.Errorf("go back to a Consul without ACLs: %v", err)
			}
		})
		s.Must(s.RemoveConsul(s.Ctx))
	})
	s.When("one with gossip encryption, TLS and ACLs is installed as documented", func() {
		overlay, err := s.PrepareConsul(s.Ctx, "acl")
		s.Must(err)
		for _, script := range []string{"kubernetes-gossip.sh", "kubernetes-tls.sh", "kubernetes-acl.sh"} {
			runDocs(s.S, folder, script, nil, "examples/consul/acl", overlay)
		}
	})
	consul := s.securedIn(folder)
	s.use(consul)
	s.Then("its three servers are well, gossip is encrypted, and neither plain HTTP nor a request without a token is answered", func() {
		s.awaitVoters(3)
		self, err := s.Consul.Agent().Self()
		s.Must(err)
		if self["Stats"]["serf_lan"].(map[string]any)["encrypted"] != "true" {
			s.Errorf("serf: %v", self["Stats"]["serf_lan"])
		}
		if leader, err := open.Consul.Status().Leader(); err == nil {
			s.Errorf("plain HTTP is answered: %s", leader)
		}
		anonymous, err := consul.client("")
		s.Must(err)
		if _, err := anonymous.KV().Put(&api.KVPair{Key: mark}, nil); err == nil || !strings.Contains(err.Error(), "Permission denied") {
			s.Errorf("a request without a token is answered: %v", err)
		}
	})
	s.When("Agentlet is configured for it, and a pod starts", func() {
		authority, err := os.ReadFile(consul.authority)
		s.Must(err)
		runDocs(s.S, folder, "token.sh", consul.environment())
		s.Must(s.Install(s.Ctx, "consul.port=8501", "consul.scheme=https", "consul.tls.ca="+string(authority),
			"consul.acl.mode=token", "consul.acl.secretName=consul-token"))
		running(s.S, "web", s.Sample(s.Annotations()))
	})
	s.Then("it leaves the catalog at its end", func() {
		pod := s.Pod("web")
		s.Delete("web")
		s.AwaitGone(pod)
		s.AwaitCatalog(s.Service(), 0)
	})
}
