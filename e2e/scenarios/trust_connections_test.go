package scenarios_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/webhook"
)

// strangers is a pod without injection that opens connections. Its program also runs in other network namespaces.
type strangers struct {
	*scenario.S
	process scenario.Process
}

func newStrangers(s *scenario.S) strangers {
	s.Helper()
	template := s.Sample(nil)
	template.Labels = map[string]string{"app": "stranger"}
	template.Spec.NodeName = s.Cluster.Nodes[1].Name
	_, err := s.CreatePod("stranger", template)
	s.Must(err)
	process, err := scenario.FindProcess("/sample", string(s.AwaitReady("stranger").UID))
	s.Must(err)
	return strangers{s, process}
}

// Addresses that a node has meanwhile, as if there were a pod at each. They are in the range reserved for network benchmarks.
const (
	manyAddresses = "198.18.0.0/16"
	firstAddress  = "198.18.0.1"
	manySources   = 1000
)

// onePod returns the pod's network namespace, and no arguments.
func (s strangers) onePod() (netns string, args []string) {
	return filepath.Join("/proc", strconv.Itoa(s.process.PID), "ns", "net"), nil
}

// manyPods returns the network namespace of the node of the target pod, and arguments for many source addresses.
func (s strangers) manyPods(node *cluster.Node) (netns string, args []string) {
	s.Helper()
	route := func(ctx context.Context, verb string) error {
		return s.Command(ctx, "ip", "-n", filepath.Base(node.Netns()), "route", verb, "local", manyAddresses, "dev", "lo")
	}
	s.Must(route(s.Ctx, "replace"))
	s.Afterwards(10*time.Second, func(ctx context.Context) { _ = route(ctx, "delete") })
	return node.Netns(), []string{"-from", firstAddress, "-sources", strconv.Itoa(manySources)}
}

// flood runs the sample's flood in a network namespace until stop is called, which checks that it opened connections.
func (s strangers) flood(netns, to string, args ...string) (stop func()) {
	s.Helper()
	program := filepath.Join("/proc", strconv.Itoa(s.process.PID), "root", "sample")
	command := exec.CommandContext(s.Ctx, "nsenter", append([]string{"--net=" + netns, program, "flood", "-to", to, "-for", "10m"}, args...)...)
	var out, errs bytes.Buffer
	command.Stdout, command.Stderr = &out, &errs
	command.Cancel = func() error { return command.Process.Signal(syscall.SIGTERM) }
	command.WaitDelay = 10 * time.Second
	s.Must(command.Start())
	return func() {
		s.Helper()
		_ = command.Process.Signal(syscall.SIGTERM)
		err := command.Wait()
		var report struct{ Opened, Failed, Most int }
		if err == nil {
			err = json.Unmarshal(out.Bytes(), &report)
		}
		s.Logf("flood of %s %q: %+v", to, args, report)
		if err != nil || report.Opened == 0 {
			s.Errorf("flood of %s: %v %s", to, err, errs.String())
		}
	}
}

// ask returns the answer to a GET request on a new connection.
func ask(s *scenario.S, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(s.Ctx, 5*time.Second)
	defer cancel()
	return scenario.Get(ctx, url)
}

// askWhile requests each URL again and again for this time, and fails if one isn't answered.
func askWhile(s *scenario.S, lasts time.Duration, urls ...string) {
	s.Helper()
	var took []float64
	for began := time.Now(); time.Since(began) < lasts; s.Pause(200 * time.Millisecond) {
		for _, url := range urls {
			asked := time.Now()
			if _, err := ask(s, url); err != nil {
				s.Errorf("%s, %s after the beginning: %v", url, asked.Sub(began).Round(time.Millisecond), err)
			}
			took = append(took, float64(time.Since(asked).Milliseconds()))
		}
	}
	s.Logf("answers after %v ms at the median, %v ms at most, of %d", observe.Quantile(took, 0.5), slices.Max(took), len(took))
}

// metric returns the sum of a metric's series.
func metric(s *scenario.S, url, name string) float64 {
	s.Helper()
	text, err := ask(s, url)
	s.Must(err)
	sum, err := scenario.Sum(text, name, func(map[string]string) bool { return true })
	s.Must(err)
	return sum
}

// TestTrustConnectionFloodOfAnAgentlet opens 10,000 connections to an agentlet, from one pod and from a thousand addresses, and
// closes none.
func TestTrustConnectionFloodOfAnAgentlet(t *testing.T) {
	s := scenario.New(t)
	floodAgentlet(s, 8*time.Second, func(strangers strangers, node *cluster.Node, to string) (stops []func()) {
		netns, args := strangers.onePod()
		stops = append(stops, strangers.flood(netns, to, append(args, "-connections=5000", "-rate=1500", "-send=half")...))
		netns, args = strangers.manyPods(node)
		return append(stops, strangers.flood(netns, to, append(args, "-connections=5000", "-rate=1500", "-send=metrics")...))
	})
}

func TestTrustConnectionFloodOfAnAgentletForAMinute(t *testing.T) {
	for name, flood := range map[string]struct {
		from func(strangers, *cluster.Node) (netns string, args []string)
		send string
	}{
		"from one pod":        {func(s strangers, _ *cluster.Node) (string, []string) { return s.onePod() }, "silent"},
		"from many pods":      {strangers.manyPods, "half"},
		"from the pod's node": {func(_ strangers, node *cluster.Node) (string, []string) { return node.Netns(), nil }, "metrics"},
	} {
		t.Run(name, func(t *testing.T) {
			s := scenario.New(t, scenario.Long())
			floodAgentlet(s, time.Minute, func(strangers strangers, node *cluster.Node, to string) []func() {
				netns, args := flood.from(strangers, node)
				return []func(){strangers.flood(netns, to, append(args, "-connections=10000", "-rate=3000", "-send="+flood.send)...)}
			})
		})
	}
}

// floodAgentlet observes an agentlet under a flood for a while, and then deletes its pod.
func floodAgentlet(s *scenario.S, lasts time.Duration, begin func(strangers strangers, node *cluster.Node, to string) (stops []func())) {
	s.Helper()
	timeline := observe.NewTimeline(nil)
	node := s.Cluster.Nodes[0]
	var pod *corev1.Pod
	var strangers strangers
	var gaps func() []time.Duration
	s.Given("a registered pod with a short heartbeat, and a stranger", func() {
		strangers = newStrangers(s)
		collector, err := timeline.Collect(s.Ctx, cluster.HostIP)
		s.Must(err)
		template := pinned(s, node, "heartbeat-ttl", "6s", "drain-delay", "1s")
		scenario.SetEnv(&template, "COLLECTOR", collector)
		timeline.Catalog(s.Ctx, s.Consul, s.Service())
		pod = running(s, "pod", template)
		awaitBeat(s, "pod")
		gaps = followStatus(s)
	})
	address := net.JoinHostPort(pod.Status.PodIP, "19500")
	url := "http://" + address
	var stops []func()
	s.When("connections are opened to its agentlet, and not closed", func() { stops = begin(strangers, node, address) })
	s.Then("it answers all the same", func() {
		askWhile(s, lasts, url+contract.LivezPath, url+contract.MetricsPath)
	})
	s.Then("it was not restarted, missed no heartbeat, and its instance was always passing", func() {
		if n := scenario.AgentletStatus(s.Pod("pod")).RestartCount; n > 0 {
			s.Errorf("%d restarts", n)
		}
		if n := metric(s, url+contract.MetricsPath, "agentlet_heartbeats_missed_total"); n > 0 {
			s.Errorf("%v missed heartbeats", n)
		}
		if g := gaps(); len(g) > 0 {
			s.Errorf("gaps in passing: %v", g)
		}
		memory, err := scenario.AnonymousMemory("agentlet run", string(pod.UID))
		s.Must(err)
		evicted := metric(s, url+contract.MetricsPath, "agentlet_connections_evicted_total")
		if evicted < 1000 {
			s.Errorf("%v connections were evicted: was there a flood?", evicted)
		}
		s.Logf("%v connections evicted; %d KiB of anonymous memory", evicted, memory>>10)
	})
	s.When("the pod is deleted meanwhile, its drain hook is answered: SIGTERM comes when the catalog has removed it", func() {
		s.Delete("pod")
		s.AwaitGone(pod)
		for _, stop := range stops {
			stop()
		}
		for _, life := range timeline.Lives() {
			if life.UID != string(pod.UID) {
				continue
			}
			held, ok := life.Between(observe.OutOfCatalog, observe.Terminated)
			if !ok || held < time.Second {
				s.Errorf("SIGTERM came %s after the catalog had dropped it (seen: %v), want the drain-delay of 1s", held, life.At)
			}
			s.Logf("SIGTERM came %s after the catalog had dropped it", held.Round(time.Millisecond))
		}
	})
}

// TestTrustConnectionFloodOfTheWebhook opens 10,000 connections to the ports of both replicas, from one pod and from a thousand
// addresses.
func TestTrustConnectionFloodOfTheWebhook(t *testing.T) {
	floodWebhook(scenario.New(t), 8*time.Second, "-connections=2500")
}

func TestTrustConnectionFloodOfTheWebhookForAMinute(t *testing.T) {
	floodWebhook(scenario.New(t, scenario.Long()), time.Minute, "-connections=10000")
}

// floodWebhook checks admission while both replicas are flooded.
func floodWebhook(s *scenario.S, lasts time.Duration, connections string) {
	s.Helper()
	installed(s)
	var strangers strangers
	var before []corev1.Pod
	s.Given("two replicas, and a stranger", func() { strangers, before = newStrangers(s), awaitWebhooks(s) })
	var during *admissions
	s.When("connections are opened to both of their ports, and not closed", func() {
		during = admitWhile(s, 0, func() {
			var stops []func()
			for _, pod := range before {
				begin := func(from func(*cluster.Node) (string, []string), port string, args ...string) {
					netns, more := from(s.Cluster.Node(pod.Spec.NodeName))
					stops = append(stops, strangers.flood(netns, net.JoinHostPort(pod.Status.PodIP, port), append(append(more, connections), args...)...))
				}
				one := func(*cluster.Node) (string, []string) { return strangers.onePod() }
				begin(one, "9443", "-send=silent", "-rate=400")
				begin(strangers.manyPods, "9443", "-send=half", "-tls", "-rate=100")
				begin(one, "8080", "-send=metrics", "-rate=100")
				begin(strangers.manyPods, "8080", "-send=half", "-rate=400")
			}
			var urls []string
			for _, pod := range before {
				for _, path := range []string{webhook.LivezPath, webhook.ReadyzPath, webhook.MetricsPath} {
					urls = append(urls, "http://"+net.JoinHostPort(pod.Status.PodIP, "8080")+path)
				}
			}
			askWhile(s, lasts, urls...)
			for _, pod := range before {
				url := "http://" + net.JoinHostPort(pod.Status.PodIP, "8080") + webhook.MetricsPath
				s.Logf("%s: %v connections evicted, %v MiB resident", pod.Name, metric(s, url, "agentlet_webhook_connections_evicted_total"),
					metric(s, url, "process_resident_memory_bytes")/(1<<20))
			}
			for _, stop := range stops {
				stop()
			}
		})
	})
	s.Then("every pod is admitted at once, with its agentlet", func() { during.judge(s, "flood") })
	s.Then("no replica was restarted or unready", func() {
		for i, pod := range awaitWebhooks(s) {
			was, is := scenario.Condition(&before[i], corev1.PodReady), scenario.Condition(&pod, corev1.PodReady)
			if pod.UID != before[i].UID || pod.Status.ContainerStatuses[0].RestartCount != before[i].Status.ContainerStatuses[0].RestartCount {
				s.Errorf("%s: %+v", pod.Name, pod.Status.ContainerStatuses[0])
			}
			if !is.LastTransitionTime.Equal(&was.LastTransitionTime) {
				s.Errorf("%s: Ready was %+v, is %+v", pod.Name, was, is)
			}
		}
	})
}
