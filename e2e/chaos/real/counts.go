package real

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"slices"
	"strings"

	"github.com/agentlet/agentlet/e2e/scenario"
)

// counts are numbers that a leak would increase, by kind. Each is the maximum over all processes of that kind.
type counts map[string]int

// Kinds of counts.
const (
	webhookGoroutines = "goroutines of a webhook replica"
	agentletFiles     = "open files of an agentlet"
	agentletThreads   = "threads of an agentlet"
	agentGoroutines   = "goroutines of a Consul agent"
)

// spare is how far a count may exceed its first value, because connections and watches come and go.
var spare = counts{webhookGoroutines: 60, agentletFiles: 12, agentletThreads: 12, agentGoroutines: 80}

func (c counts) note(what string, n int) { c[what] = max(c[what], n) }

func (c counts) String() string {
	var texts []string
	for _, what := range slices.Sorted(maps.Keys(c)) {
		texts = append(texts, fmt.Sprintf("%d %s", c[what], what))
	}
	return strings.Join(texts, ", ")
}

// leaks returns an error that names the counts that have grown too much.
func (c counts) leaks(before counts) error {
	var errs []error
	for _, what := range slices.Sorted(maps.Keys(c)) {
		if c[what] > before[what]+spare[what] {
			errs = append(errs, fmt.Errorf("%d %s, before the first fault %d", c[what], what, before[what]))
		}
	}
	return errors.Join(errs...)
}

func (w *World) count(ctx context.Context) (counts, error) {
	c := counts{}
	for _, pod := range w.webhooks() {
		text, err := scenario.Get(ctx, "http://"+net.JoinHostPort(pod.Status.PodIP, "8080")+"/metrics")
		if err != nil {
			return nil, err
		}
		n, err := scenario.Sum(text, "go_goroutines", func(map[string]string) bool { return true })
		if err != nil {
			return nil, err
		}
		c.note(webhookGoroutines, int(n))
	}
	for _, pod := range w.watch.pods(w.Namespace) {
		process, err := scenario.FindProcess(agentletWords, string(pod.UID))
		if err != nil {
			return nil, fmt.Errorf("agentlet of %s: %w", pod.Name, err)
		}
		files, threads, err := process.Opened()
		if err != nil {
			return nil, err
		}
		c.note(agentletFiles, files)
		c.note(agentletThreads, threads)
	}
	for i, node := range w.Cluster.Nodes {
		metrics, err := w.consul.nodes[i].Agent().Metrics()
		if err != nil {
			return nil, fmt.Errorf("metrics of the Consul agent of %s: %w", node.Name, err)
		}
		for _, gauge := range metrics.Gauges {
			if strings.HasSuffix(gauge.Name, "runtime.num_goroutines") {
				c.note(agentGoroutines, int(gauge.Value))
			}
		}
	}
	return c, nil
}
