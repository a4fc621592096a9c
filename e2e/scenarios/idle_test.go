package scenarios_test

import (
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/bench"
)

// idlePods is the number of pods, all on one node.
const idlePods = 20

// idle creates that many pods and waits until nothing changes any more.
func idle(s *scenario.S, node *cluster.Node) []scenario.Process {
	s.Helper()
	s.Deployment(idlePods, pinned(s, node))
	s.Rollout()
	s.AwaitCatalog(s.Service(), idlePods)
	processes := agentletsOf(s, s.Pods(s.Ctx))
	s.Pause(30 * time.Second) // until the kubelet's last status updates and the registrars' first catalog reads are over
	return processes
}

// agentletsOf returns the processes of these pods' agentlets.
func agentletsOf(s *scenario.S, pods []corev1.Pod) (processes []scenario.Process) {
	s.Helper()
	for i := range pods {
		process, err := scenario.FindProcess("agentlet run", string(pods[i].UID))
		s.Must(err)
		processes = append(processes, process)
	}
	return processes
}

// anonymousMiB returns the median of their anonymous memory.
func anonymousMiB(s *scenario.S, processes []scenario.Process) float64 {
	s.Helper()
	var all []float64
	for _, process := range processes {
		bytes, err := process.AnonymousMemory()
		s.Must(err)
		all = append(all, float64(bytes)/(1<<20))
	}
	return observe.Quantile(all, 0.5)
}

// targetOf returns the target of the benchmark's figure of that name.
func targetOf(s *scenario.S, name string) float64 {
	s.Helper()
	i := slices.IndexFunc(bench.Rows(), func(row bench.Row) bool { return row.Name == name })
	if i < 0 {
		s.Fatalf("no figure %s", name)
	}
	return bench.Rows()[i].Target
}

// quiet is a snapshot of an idle namespace, taken from outside.
type quiet struct {
	at              time.Time
	processor       time.Duration
	catalog         uint64            // index of the service in Consul's catalog
	versions        map[string]string // resource versions of the pods
	events          int
	agentRequests   float64 // of the node's Consul agent, from all clients
	clusterRequests float64 // for pods of a namespace or for a single pod, from all clients
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

// costs are the costs of the idle pods between two snapshots.
type costs struct {
	window        time.Duration
	catalogWrites uint64  // changes of the service's index
	kubeWrites    int     // changes of a pod's resource version, and events
	millicores    float64 // per agentlet
	agentRPM      float64 // requests per pod and minute to the Consul agent
	kubeRPM       float64 // requests per pod and minute to the API server
}

func (q quiet) since(before quiet) costs {
	c := costs{window: q.at.Sub(before.at), catalogWrites: q.catalog - before.catalog, kubeWrites: q.events - before.events}
	for name, version := range q.versions {
		if before.versions[name] != version {
			c.kubeWrites++
		}
	}
	podMinutes := c.window.Minutes() * idlePods
	c.millicores = (q.processor - before.processor).Seconds() / c.window.Seconds() / idlePods * 1000
	c.agentRPM, c.kubeRPM = (q.agentRequests-before.agentRequests)/podMinutes, (q.clusterRequests-before.clusterRequests)/podMinutes
	return c
}

func (c costs) record(s *scenario.S) {
	s.Helper()
	podHours := c.window.Hours() * idlePods
	record(s, "agentlet_millicores", c.millicores, idlePods)
	record(s, "quiet_consul_writes", float64(c.catalogWrites)/podHours, idlePods)
	record(s, "quiet_kube_writes", float64(c.kubeWrites)/podHours, idlePods)
	record(s, "quiet_agent_rpm", c.agentRPM, idlePods)
	record(s, "quiet_kube_rpm", c.kubeRPM, idlePods)
}

// agentRequests returns how many requests the node's Consul agent has answered. Only agentlets call it, apart from the reads of
// this count.
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

// clusterRequests returns how many requests for pods of one namespace, or for one pod, the API server has answered. They are the
// agentlets' and the webhook's watch of the namespace; kubelets list the pods of their node.
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
