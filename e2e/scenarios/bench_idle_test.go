package scenarios_test

import (
	"context"
	"net"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

func TestBenchIdle(t *testing.T) {
	s := scenario.New(t, scenario.Bench())
	node := s.Cluster.Nodes[0]
	var processes []scenario.Process
	s.Given("twenty pods on one node", func() { processes = idle(s, node) })
	var before, after quiet
	s.When("they are idle for five minutes", func() {
		before = lookQuietly(s, node, processes)
		s.Pause(idleTime)
		after = lookQuietly(s, node, processes)
	})
	s.Then("what they cost is known", func() {
		after.since(before).record(s)
		var cgroup, starts []float64
		for _, process := range processes {
			bytes, err := process.CgroupMemory()
			s.Must(err)
			cgroup = append(cgroup, float64(bytes)/(1<<20))
		}
		s.Logf("cgroups in MiB: %.1f", cgroup)
		// The first on the node pays for the page cache; it is the largest.
		slices.Sort(cgroup)
		rest := cgroup[:len(cgroup)-1]
		record(s, "agentlet_anon_mib", anonymousMiB(s, processes), len(processes))
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
