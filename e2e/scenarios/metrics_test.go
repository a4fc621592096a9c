package scenarios_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/programs/prometheus"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// scraped is a scenario with a Prometheus that scrapes its pods and the webhook.
type scraped struct {
	*scenario.S
	server *prometheus.Server
	dir    string
}

const metricsReplicas = 3

func TestMetricsAreScrapedByPrometheus(t *testing.T) {
	s := scraped{S: scenario.New(t, scenario.Long()), dir: t.TempDir()}
	in := fmt.Sprintf("{namespace=%q}", s.Namespace)
	s.Given("a Prometheus with the docs' configuration and the chart's alerts", s.start)
	s.Given("a Deployment in the catalog", func() {
		s.Deployment(metricsReplicas, s.Sample(s.Annotations("drain-delay", "2s")))
		s.Rollout()
		s.becomes("sum(agentlet_gate_open"+in+")", metricsReplicas)
	})
	s.When("it is restarted", func() {
		s.Restart()
		s.Rollout()
		s.AwaitCatalog(s.Service(), metricsReplicas)
	})
	s.Then("the agentlets' series show it", func() {
		s.becomes("count(agentlet_gate_open"+in+")", metricsReplicas) // the old pods' series are gone
		s.becomes("sum(agentlet_gate_open"+in+")", metricsReplicas)
		s.becomes(`sum(agentlet_gate_reason{namespace="`+s.Namespace+`",reason="Registered"})`, metricsReplicas)
		s.becomes("sum(agentlet_consul_reachable"+in+")", metricsReplicas)
		s.becomes("max(agentlet_heartbeats_missed_total"+in+")", 0)
		s.becomes(`count(agentlet_gate_last_transition_timestamp_seconds{namespace="`+s.Namespace+`",node!=""} > time() - 600)`, metricsReplicas)
		s.becomes(fmt.Sprintf("count(agentlet_service_info{namespace=%q,service=%q,node!=%q})", s.Namespace, s.Service(), ""), metricsReplicas)
		s.becomes("count(agentlet_time_to_gate_seconds"+in+" > 0)", metricsReplicas)
		s.becomes(`sum(last_over_time(agentlet_registrations_total{namespace="`+s.Namespace+`",cause="first"}[10m]))`, 2*metricsReplicas)
		s.becomes(`count(last_over_time(agentlet_time_to_drain_seconds{namespace="`+s.Namespace+`",outcome="dropped"}[10m]) < 5)`, metricsReplicas)
		s.Logf("series of an agentlet: %v", s.value(`max(count by (pod) ({job="agentlet",namespace="`+s.Namespace+`"}))`))
	})
	s.Then("the webhook's series show it, too", func() {
		s.becomes("sum(agentlet_webhook_ready)", 2)
		s.becomes("min(agentlet_webhook_ca_bundle_in_sync)", 1)
		if n := s.value(`sum(agentlet_webhook_admissions_total{type="mutating",outcome="injected"})`); n < 2*metricsReplicas {
			s.Errorf("%v injections, want %d or more", n, 2*metricsReplicas)
		}
	})
	s.Then("each metric that the docs list is there", func() {
		for _, name := range s.listed() {
			s.Eventually(name, func(ctx context.Context) (bool, error) {
				samples, err := s.server.Query(ctx, "count(last_over_time("+name+"[10m]))")
				return len(samples) == 1, err
			})
		}
	})
	s.Then("the alerts are loaded, and none fires", func() {
		s.Eventually("the alerts", func(ctx context.Context) (bool, error) {
			rules, err := s.server.Rules(ctx)
			for _, r := range rules {
				if r.Health != "ok" || r.State == "firing" {
					err = errors.Join(err, fmt.Errorf("%+v", r))
				}
			}
			return err == nil && len(rules) > 10, err
		})
	})
	s.When("somebody deregisters an instance again and again", func() {
		pods := slices.DeleteFunc(s.Pods(s.Ctx), func(p corev1.Pod) bool { return p.DeletionTimestamp != nil })
		pod := pods[0]
		id := contract.ServiceID(s.Namespace, pod.Name, string(pod.UID), s.Service())
		lost := fmt.Sprintf(`agentlet_registrations_total{namespace=%q,pod=%q,cause="lost"}`, s.Namespace, pod.Name)
		for i := range 5 {
			s.Must(agentOf(s.S, &pod).ServiceDeregister(id))
			s.becomes(lost, float64(i+1))
		}
	})
	s.Then("an alert fires", func() {
		s.becomes(`ALERTS{alertname="AgentletInstancesLost",alertstate="firing",namespace="`+s.Namespace+`"}`, 1)
	})
}

// start starts Prometheus, and stops it with the scenario.
func (s *scraped) start() {
	programs, err := toolchain.FindPrometheus(s.Ctx)
	s.Must(err)
	s.Must(s.target(s.Ctx))
	s.server, err = prometheus.Start(s.Ctx, programs.Server, s.dir, s.config())
	s.Must(err)
	ended := make(chan struct{})
	ctx, cancel := context.WithCancel(s.Ctx)
	go func() {
		defer close(ended)
		for ctx.Err() == nil {
			_ = s.target(ctx) // a failure is retried in a moment
			select {
			case <-ctx.Done():
			case <-time.After(500 * time.Millisecond):
			}
		}
	}()
	s.Cleanup(func() {
		cancel()
		<-ended
		if err := s.server.Stop(); err != nil {
			s.Error(err)
		}
	})
}

// config returns examples/prometheus.yml, with the cluster's pods in a file, because Debian's Prometheus has no
// Kubernetes service discovery. The file contains the meta labels that it would add, so that the example's relabelling is tested.
func (s *scraped) config() []byte {
	example, err := os.ReadFile(filepath.Join(s.Root, "examples", "prometheus.yml"))
	s.Must(err)
	var config map[string]any
	s.Must(yaml.Unmarshal(example, &config))
	config["global"] = map[string]any{"scrape_interval": "500ms", "scrape_timeout": "400ms", "evaluation_interval": "1s"}
	config["rule_files"] = []string{filepath.Join(s.Root, "charts", "agentlet", "files", "alerts.yaml")}
	jobs, _ := config["scrape_configs"].([]any)
	jobs = slices.DeleteFunc(jobs, func(job any) bool { // that of the API servers has the files of a pod
		fields, _ := job.(map[string]any)
		return fields["authorization"] != nil
	})
	config["scrape_configs"] = jobs
	for _, job := range jobs {
		job, _ := job.(map[string]any)
		delete(job, "kubernetes_sd_configs")
		job["file_sd_configs"] = []any{map[string]any{"files": []string{s.targets()}, "refresh_interval": "1s"}}
	}
	content, err := yaml.Marshal(config)
	s.Must(err)
	return content
}

func (s *scraped) targets() string { return filepath.Join(s.dir, "targets.json") }

// target writes the targets that Kubernetes service discovery would find: each port of each container.
func (s *scraped) target(ctx context.Context) error {
	type target struct {
		Targets []string          `json:"targets"`
		Labels  map[string]string `json:"labels"`
	}
	all := []target{}
	for _, namespace := range []string{s.Namespace, scenario.SystemNamespace} {
		pods, err := s.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			if pod.Status.PodIP == "" {
				continue
			}
			for _, c := range append(append([]corev1.Container{}, pod.Spec.InitContainers...), pod.Spec.Containers...) {
				for _, port := range c.Ports {
					all = append(all, target{
						Targets: []string{net.JoinHostPort(pod.Status.PodIP, strconv.Itoa(int(port.ContainerPort)))},
						Labels: map[string]string{
							"__meta_kubernetes_namespace": namespace, "__meta_kubernetes_pod_name": pod.Name,
							"__meta_kubernetes_pod_node_name":      pod.Spec.NodeName,
							"__meta_kubernetes_pod_container_name": c.Name, "__meta_kubernetes_pod_container_port_name": port.Name,
						},
					})
				}
			}
		}
	}
	content, err := json.Marshal(all)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.targets()+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(s.targets()+".new", s.targets())
}

// summed matches the row of a metric that has a series with its name and _count, and none with its name alone.
var summed = regexp.MustCompile(`A (?:histogram|summary)\. \|`)

// listed returns the names of the series in docs/metrics.md.
func (s *scraped) listed() (names []string) {
	page, err := os.ReadFile(filepath.Join(s.Root, "docs", "metrics.md"))
	s.Must(err)
	for _, row := range regexp.MustCompile("(?m)^\\| `(agentlet_[a-z_]+)(?:\\{[a-z,]+\\})?` \\| .*").FindAllStringSubmatch(string(page), -1) {
		name := row[1]
		if summed.MatchString(row[0]) {
			name += "_count"
		}
		names = append(names, name)
	}
	if len(names) < 20 {
		s.Fatalf("docs/metrics.md lists only %q", names)
	}
	return names
}

// becomes waits until the expression has exactly one value, and that is want.
func (s *scraped) becomes(expression string, want float64) {
	s.Helper()
	s.Eventually(expression, func(ctx context.Context) (bool, error) {
		samples, err := s.server.Query(ctx, expression)
		if err != nil || len(samples) != 1 {
			return false, errors.Join(err, fmt.Errorf("%d series, want one", len(samples)))
		}
		return samples[0].Value == want, fmt.Errorf("%v, want %v", samples[0].Value, want)
	})
}

// value evaluates an expression; the scenario fails unless it has exactly one value.
func (s *scraped) value(expression string) float64 {
	s.Helper()
	samples, err := s.server.Query(s.Ctx, expression)
	s.Must(err)
	if len(samples) != 1 {
		s.Fatalf("%s has %d values", expression, len(samples))
	}
	return samples[0].Value
}
