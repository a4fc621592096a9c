package scenarios_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// Idle pods on one node, and how long they have been so when they are measured.
const (
	idlePods = 20
	idleTime = 5 * time.Minute
)

func TestBenchIdle(t *testing.T) {
	s := scenario.New(t, scenario.Bench())
	node := s.Cluster.Nodes[0]
	var processes []scenario.Process
	s.Given("twenty pods on one node", func() {
		s.Deployment(idlePods, pinned(s, node))
		s.Rollout()
		s.AwaitCatalog(s.Service(), idlePods)
		for _, pod := range s.Pods(s.Ctx) {
			process, err := scenario.FindProcess("agentlet run", string(pod.UID))
			s.Must(err)
			processes = append(processes, process)
		}
		s.Pause(30 * time.Second) // the kubelet's last words on the pods, and the registrars' first looks, are over
	})
	var before, after quiet
	s.When("they are idle for five minutes", func() {
		before = lookQuietly(s, node, processes)
		s.Pause(idleTime)
		after = lookQuietly(s, node, processes)
	})
	s.Then("what they cost is known", func() {
		after.judge(s, before)
		var anonymous, cgroup, starts []float64
		for _, process := range processes {
			bytes, err := process.AnonymousMemory()
			s.Must(err)
			anonymous = append(anonymous, float64(bytes)/(1<<20))
			bytes, err = process.CgroupMemory()
			s.Must(err)
			cgroup = append(cgroup, float64(bytes)/(1<<20))
		}
		s.Logf("cgroups in MiB: %.1f", cgroup)
		// The first on the node pays for the page cache; it is the largest.
		slices.Sort(cgroup)
		rest := cgroup[:len(cgroup)-1]
		record(s, "agentlet_anon_mib", observe.Quantile(anonymous, 0.5), len(anonymous))
		record(s, "agentlet_cgroup_mib", observe.Quantile(rest, 0.5), len(rest))
		for _, pod := range s.Pods(s.Ctx) {
			starts = append(starts, startTime(s, &pod))
		}
		record(s, "agentlet_start_ms", observe.Quantile(starts, 0.5), len(starts))
		binary, err := os.Stat(s.Out + "/bin/agentlet")
		s.Must(err)
		record(s, "agentlet_binary_mb", float64(binary.Size())/1e6, 1)
	})
}

// quiet is what a moment of an idle namespace looks like from outside.
type quiet struct {
	at              time.Time
	processor       time.Duration
	catalog         uint64            // index of the service in Consul's catalog
	versions        map[string]string // resource versions of the pods
	events          int
	agentRequests   float64 // of the node's Consul agent, by anyone
	clusterRequests float64 // for pods of a namespace or a single pod, by anyone
}

func lookQuietly(s *scenario.S, node *cluster.Node, processes []scenario.Process) quiet {
	s.Helper()
	q := quiet{at: time.Now(), versions: map[string]string{}}
	for _, process := range processes {
		used, err := process.ProcessorTime()
		s.Must(err)
		q.processor += used
	}
	_, meta, err := s.Consul.Health().Service(s.Service(), "", false, (&api.QueryOptions{}).WithContext(s.Ctx))
	s.Must(err)
	q.catalog = meta.LastIndex
	for _, pod := range s.Pods(s.Ctx) {
		q.versions[pod.Name] = pod.ResourceVersion
	}
	events, err := s.Kube.CoreV1().Events(s.Namespace).List(s.Ctx, metav1.ListOptions{})
	s.Must(err)
	q.events = len(events.Items)
	q.agentRequests = agentRequests(s, node)
	q.clusterRequests = clusterRequests(s)
	return q
}

// judge records what happened since before.
func (q quiet) judge(s *scenario.S, before quiet) {
	s.Helper()
	window := q.at.Sub(before.at)
	podMinutes := window.Minutes() * idlePods
	record(s, "agentlet_millicores", (q.processor-before.processor).Seconds()/window.Seconds()/idlePods*1000, idlePods)
	record(s, "quiet_consul_writes", float64(q.catalog-before.catalog)/(podMinutes/60), idlePods)
	writes := q.events - before.events
	for name, version := range q.versions {
		if before.versions[name] != version {
			writes++
		}
	}
	record(s, "quiet_kube_writes", float64(writes)/(podMinutes/60), idlePods)
	record(s, "quiet_agent_rpm", (q.agentRequests-before.agentRequests)/podMinutes, idlePods)
	record(s, "quiet_kube_rpm", (q.clusterRequests-before.clusterRequests)/podMinutes, idlePods)
}

// agentRequests are the requests that the node's Consul agent has answered. Nobody but agentlets asks it for anything
// but this count.
func agentRequests(s *scenario.S, node *cluster.Node) float64 {
	s.Helper()
	request, err := http.NewRequestWithContext(s.Ctx, http.MethodGet, "http://"+node.ConsulAddr()+"/v1/agent/metrics?format=prometheus", nil)
	s.Must(err)
	response, err := http.DefaultClient.Do(request)
	s.Must(err)
	defer response.Body.Close()
	text, err := io.ReadAll(response.Body)
	s.Must(err)
	sum, err := scenario.Sum(text, "consul_api_http", func(labels map[string]string) bool { return labels["path"] != "v1_agent_metrics" })
	s.Must(err)
	if sum == 0 {
		s.Fatal("the Consul agent counts no requests: was the cluster started by an older version?")
	}
	return sum
}

// clusterRequests are the requests for pods of one namespace or for one pod that the API server has answered: the
// agentlets', and the webhook's watch of the namespace. The kubelets ask for those of their node.
func clusterRequests(s *scenario.S) float64 {
	s.Helper()
	text, err := s.Kube.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(s.Ctx)
	s.Must(err)
	sum, err := scenario.Sum(text, "apiserver_request_total", func(labels map[string]string) bool {
		return labels["resource"] == "pods" && labels["scope"] != "cluster"
	})
	s.Must(err)
	return sum
}

// startTime is the time in milliseconds from the start of the agentlet's process, after the old one was killed, until it
// answers.
func startTime(s *scenario.S, pod *corev1.Pod) float64 {
	s.Helper()
	s.Must(scenario.Kill("agentlet run", string(pod.UID)))
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	url := "http://" + net.JoinHostPort(pod.Status.PodIP, "19500") + "/livez"
	var answered time.Time
	s.Must(wait.PollUntilContextTimeout(s.Ctx, time.Millisecond, time.Minute, false, func(ctx context.Context) (bool, error) {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false, err
		}
		response, err := client.Do(request)
		if err != nil {
			return false, nil //nolint:nilerr // it has not started yet
		}
		response.Body.Close()
		answered = time.Now()
		return response.StatusCode == http.StatusOK, nil
	}))
	process, err := scenario.FindProcess("agentlet run", string(pod.UID))
	s.Must(err)
	started, err := process.Started()
	s.Must(err)
	return float64(answered.Sub(started)) / float64(time.Millisecond)
}
