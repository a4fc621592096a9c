package scenarios_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

func TestBenchIdle(t *testing.T) {
	s := scenario.New(t, scenario.Bench(), scenario.Long())
	node := s.Cluster.Nodes[0]
	var processes []scenario.Process
	s.Given("twenty pods on one node", func() { processes = idle(s, node) })
	// Read the index of all of Consul's services and checks, whoever writes them; exclude network coordinates.
	index := func() uint64 {
		_, meta, err := s.Consul.Health().State(api.HealthAny, (&api.QueryOptions{}).WithContext(s.Ctx))
		s.Must(err)
		return meta.LastIndex
	}
	length := idleTime(s)
	var before, after quiet
	var memoryBefore, memoryAfter float64
	var indexBefore, indexAfter uint64
	s.When("nothing happens for a while", func() {
		before, memoryBefore, indexBefore = lookQuietly(s, node, processes), anonymousMiB(s, processes), index()
		s.Pause(length)
		after, memoryAfter, indexAfter = lookQuietly(s, node, processes), anonymousMiB(s, processes), index()
	})
	cost := after.since(before)
	s.Then("nothing was written, and the cost is minimal", func() {
		if indexAfter != indexBefore || cost.catalogWrites > 0 {
			s.Errorf("Consul was written: its checks' index went from %d to %d", indexBefore, indexAfter)
		}
		if cost.kubeWrites > 0 {
			s.Errorf("%d writes to pods and events", cost.kubeWrites)
		}
		if most := targetOf(s, "quiet_agent_rpm"); cost.agentRPM > most {
			s.Errorf("%.1f requests per pod and minute to the agent, want %g at the most", cost.agentRPM, most)
		}
		if most := 4 * targetOf(s, "agentlet_millicores"); cost.millicores > most { // allow for a busy machine
			s.Errorf("%.2f millicores for each agentlet, want %g at the most", cost.millicores, most)
		}
		if growth := memoryAfter - memoryBefore; growth > 1 {
			s.Errorf("each agentlet grew by %.2f MiB", growth)
		}
		told(s, "nothing happens, twenty pods", fmt.Sprintf("no write to Consul or Kubernetes; %.1f requests to the agent per pod and minute; %.2f millicores each; memory %.2f MiB, then %.2f",
			cost.agentRPM, cost.millicores, memoryBefore, memoryAfter), cost.window)
	})
	s.Then("their memory and start time are known", func() {
		cost.record(s)
		var cgroup, starts []float64
		for _, process := range processes {
			bytes, err := process.CgroupMemory()
			s.Must(err)
			cgroup = append(cgroup, float64(bytes)/(1<<20))
		}
		s.Logf("cgroups in MiB: %.1f", cgroup)
		// Sort, because the first agentlet on a node is charged for the page cache, and so is the largest.
		slices.Sort(cgroup)
		rest := cgroup[:len(cgroup)-1]
		record(s, "agentlet_anon_mib", memoryAfter, len(processes))
		record(s, "agentlet_cgroup_mib", observe.Quantile(rest, 0.5), len(rest))
		for _, pod := range s.Pods(s.Ctx) {
			starts = append(starts, startTime(s, &pod))
		}
		record(s, "agentlet_start_ms", initTime(s)+observe.Quantile(starts, 0.5), len(starts))
		binary, err := os.Stat(s.Out + "/bin/agentlet")
		s.Must(err)
		record(s, "agentlet_binary_mb", float64(binary.Size())/1e6, 1)
	})
}

// idleTime is how long the pods are left alone. AGENTLET_QUIET overrides it.
func idleTime(s *scenario.S) time.Duration {
	s.Helper()
	text := os.Getenv("AGENTLET_QUIET")
	if text == "" {
		return 5 * time.Minute
	}
	d, err := time.ParseDuration(text)
	s.Must(err)
	return d
}

// startTime kills an agentlet and returns the time in milliseconds from the first log line of its successor until that has read
// its own pod. The kernel's start time of the process can't be used: it includes work of the container runtime.
func startTime(s *scenario.S, pod *corev1.Pod) float64 {
	s.Helper()
	s.Must(scenario.Kill("agentlet run", string(pod.UID)))
	client := &http.Client{Timeout: time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	url := "http://" + net.JoinHostPort(pod.Status.PodIP, "19500") + contract.ReadyzPath
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
	logs, err := s.Kubectl(s.Ctx, "-n", pod.Namespace, "logs", pod.Name, "-c", contract.ContainerName)
	s.Must(err)
	var first struct{ Time time.Time }
	s.Must(json.NewDecoder(strings.NewReader(logs)).Decode(&first))
	return float64(answered.Sub(first.Time)) / float64(time.Millisecond)
}

// initTime returns the time in milliseconds that the program takes to initialize and exit.
func initTime(s *scenario.S) float64 {
	s.Helper()
	var took []float64
	for range 20 {
		began := time.Now()
		s.Must(exec.CommandContext(s.Ctx, s.Out+"/bin/agentlet", "version").Run())
		took = append(took, float64(time.Since(began))/float64(time.Millisecond))
	}
	return observe.Quantile(took, 0.5)
}
