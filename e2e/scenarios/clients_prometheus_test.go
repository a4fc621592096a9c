package scenarios_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/programs/clients"
	"github.com/agentlet/agentlet/e2e/programs/prometheus"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/toolchain"
)

func TestClientsPrometheus(t *testing.T) {
	s := scraped{S: scenario.New(t, scenario.Long(), scenario.Parallel()), dir: t.TempDir()}
	s.Given("a Prometheus with the docs' discovery by Consul", func() {
		config, err := clients.Example("prometheus.yml", "127.0.0.1:8500", s.Cluster.ConsulAddr(), "services: [web]", "services: ["+s.Service()+"]")
		s.Must(err)
		tools, err := toolchain.Ensure(s.Ctx, os.Stderr, toolchain.Prometheus)
		s.Must(err)
		s.server, err = prometheus.Start(s.Ctx, tools.Program(toolchain.Prometheus, "prometheus"), s.dir, []byte("global: {scrape_interval: 1s}\n"+config))
		s.Must(err)
		s.Cleanup(func() {
			if err := s.server.Stop(); err != nil {
				s.Error(err)
			}
		})
	})
	s.Given("an instance of the service that is not Agentlet's", func() {
		agent := s.Cluster.Nodes[0]
		client, err := cluster.ConsulClient(agent.ConsulAddr())
		s.Must(err)
		foreign := &api.AgentServiceRegistration{ID: s.Service() + "-foreign", Name: s.Service(), Address: agent.IP, Port: 8500}
		s.Must(client.Agent().ServiceRegister(foreign))
		s.Cleanup(func() {
			if err := client.Agent().ServiceDeregister(foreign.ID); err != nil {
				s.Error(err)
			}
		})
	})
	var pod *corev1.Pod
	turns := readinessTurns(s.S, "scraped")
	s.When("a pod starts whose metrics are its agentlet's", func() {
		_, err := s.CreatePod("scraped", s.Sample(s.Annotations("service-port", "19500", "drain-delay", "0s")))
		s.Must(err)
	})
	s.Then("it is scraped, and the labels say which it is", func() {
		began := await(s.S, turns, true)
		s.awaitTarget(began, "found", func(health string) bool { return health == api.HealthPassing })
		pod = s.AwaitReady("scraped")
		s.becomes(fmt.Sprintf("up{job=%q,namespace=%q,pod=%q,node=%q,instance=%q}", "web", s.Namespace, pod.Name, pod.Spec.NodeName,
			net.JoinHostPort(pod.Status.PodIP, "19500")), 1)
	})
	s.When("it turns unready", func() { s.Must(put(s.S, pod, "/unready")) })
	s.Then("it is still scraped, with critical health", func() {
		began := await(s.S, turns, false)
		s.awaitTarget(began, "critical", func(health string) bool { return health == api.HealthCritical })
		s.becomes(fmt.Sprintf("up{pod=%q}", pod.Name), 1)
	})
	began := time.Now()
	s.When("it is deleted", func() { s.Delete(pod.Name) })
	s.Then("it is no longer a target", func() {
		s.awaitTarget(began, "dropped", func(health string) bool { return health == "" })
	})
	s.Then("the other instance never was one", func() {
		s.becomes(`count(last_over_time(up{job="web"}[10m]))`, 1)
	})
}

// awaitTarget waits until the only target has the wanted health, as Consul reports it; the health is empty without a target.
func (s *scraped) awaitTarget(began time.Time, what string, good func(health string) bool) {
	s.Helper()
	s.Eventually("the target to be "+what, func(ctx context.Context) (bool, error) {
		targets, err := s.server.Targets(ctx)
		if err != nil || len(targets) > 1 {
			return false, fmt.Errorf("%d targets, %w", len(targets), err)
		}
		health := ""
		for _, t := range targets {
			health = t["__meta_consul_health"]
		}
		return good(health), fmt.Errorf("its health is %q", health)
	})
	s.Logf("%s after %.1f s", what, time.Since(began).Seconds())
}
