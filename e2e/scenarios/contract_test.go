package scenarios_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// promise is one part of the contract: a pod, and its expected effect. says is called repeatedly until it returns "".
type promise struct {
	annotations []string
	change      func(*corev1.PodTemplateSpec)
	says        func(s *scenario.S, pod *corev1.Pod, entries []*api.ServiceEntry) string
}

// gateSays returns a promise about the gate and the instance's health.
func gateSays(status corev1.ConditionStatus, reason contract.Reason, health string) func(*scenario.S, *corev1.Pod, []*api.ServiceEntry) string {
	return func(_ *scenario.S, pod *corev1.Pod, entries []*api.ServiceEntry) string {
		gate := scenario.Condition(pod, contract.Condition)
		if gate.Status != status || gate.Reason != string(reason) {
			return fmt.Sprintf("the gate is %+v", gate)
		}
		if len(entries) != 1 || entries[0].Checks.AggregatedStatus() != health {
			return fmt.Sprintf("%d instances, want one that is %s", len(entries), health)
		}
		return ""
	}
}

func neverReady(template *corev1.PodTemplateSpec) { scenario.SetEnv(template, "READY_AFTER", "1h") }

func promises() map[string]promise {
	yes := corev1.ConditionTrue
	return map[string]promise{
		"registered": {[]string{"gate", "registered"}, neverReady, gateSays(yes, contract.Registered, api.HealthCritical)},
		"off": {[]string{"gate", "off"}, nil, func(_ *scenario.S, pod *corev1.Pod, entries []*api.ServiceEntry) string {
			if len(pod.Spec.ReadinessGates) > 0 || !scenario.IsReady(pod) || len(entries) != 1 {
				return fmt.Sprintf("gates %v, ready %v, %d instances", pod.Spec.ReadinessGates, scenario.IsReady(pod), len(entries))
			}
			return ""
		}},
		"timeout": {[]string{
			"service-names", "", "gate-timeout", "3s", "services", "[{name: NAME, port: 8080, checks: [{tcp: ':1', interval: 1s}]}]",
		}, nil, gateSays(yes, contract.TimedOut, api.HealthCritical)},
		"health":  {[]string{"service-health", "critical"}, nil, gateSays(yes, contract.Registered, api.HealthCritical)},
		"warning": {[]string{"service-health", "warning"}, nil, gateSays(yes, contract.Registered, api.HealthWarning)},
		"exclude": {[]string{"container-exclude", "lazy"}, func(template *corev1.PodTemplateSpec) {
			lazy := *template.Spec.Containers[0].DeepCopy()
			lazy.Name, lazy.Ports = "lazy", nil
			lazy.Env = append(lazy.Env, corev1.EnvVar{Name: "READY_AFTER", Value: "1h"}, corev1.EnvVar{Name: "PORT", Value: "8081"})
			lazy.ReadinessProbe.HTTPGet.Port = intstr.FromInt32(8081)
			template.Spec.Containers = append(template.Spec.Containers, lazy)
		}, gateSays(yes, contract.Registered, api.HealthPassing)},
		"definition": {[]string{"service-names", "", "services", `
- name: NAME
  port: http
  address: ${HOST_IP}
  weights: {passing: 7, warning: 2}
  tags: [a]
  meta: {team: core}
  enable_tag_override: true
  tagged_addresses: {wan: {address: "${HOST_IP}", port: 80}, lan: {address: "${POD_IP}", port: 8080}}
  checks:
  - {name: by http, http: /ready, interval: 1s}
  - {name: by tcp, tcp: ":8080", interval: 1s}
  - {name: by grpc, grpc: ":9090", interval: 1s}
`}, func(template *corev1.PodTemplateSpec) {
			scenario.SetEnv(template, "GRPC_PORT", "9090")
			template.Spec.Containers[0].Ports[0].HostPort = hostPort
		}, isAsDefined},
		"settings": {[]string{
			"agentlet-port", "19600", "cpu-request", "20m", "cpu-limit", "20m", "memory-request", "48Mi", "memory-limit", "48Mi", "log-level", "debug",
		}, func(template *corev1.PodTemplateSpec) {
			same := corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("20m"), corev1.ResourceMemory: resource.MustParse("48Mi")}
			template.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: same, Limits: same}
		}, isAsSet},
		"labels": {[]string{"tags-from-labels", "role", "meta-from-labels", "level=tier"}, nil, func(_ *scenario.S, _ *corev1.Pod, entries []*api.ServiceEntry) string {
			if len(entries) != 1 || !slices.Equal(entries[0].Service.Tags, []string{"primary"}) || entries[0].Service.Meta["level"] != "front" {
				return fmt.Sprintf("%d instances; the labels are not there", len(entries))
			}
			return ""
		}},
	}
}

// TestContractDrainChain checks that containers' own preStop hooks run when the pod has left the catalog, and before SIGTERM; and
// without a drain in a container that is restarted alone.
func TestContractDrainChain(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	const (
		delay   = 2 * time.Second // drain-delay
		sleep   = 3 * time.Second
		noticed = 300 * time.Millisecond // the catalog's change is noticed a little later
		most    = 4 * time.Second        // the kubelet's and the machine's own time
	)
	sleeps := corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: int64(sleep / time.Second)}}
	asks := corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/stop", Port: intstr.FromString("http")}}
	const container, sidecar, restarted = string(contract.PlacementContainer), string(contract.PlacementSidecar), "restarted"
	cases := map[string]struct {
		placement string
		own       corev1.LifecycleHandler
		took      time.Duration // of the own hook
	}{
		"sleeps":         {container, sleeps, sleep},
		"sleeps-sidecar": {sidecar, sleeps, sleep},
		"asked":          {container, asks, 0},
		"asked-sidecar":  {sidecar, asks, 0},
		restarted:        {container, asks, 0},
	}
	timeline := observe.NewTimeline(nil)
	uids := map[string]string{}
	s.Given("pods with own preStop hooks, which are chained", func() {
		collector, err := timeline.Collect(s.Ctx, cluster.HostIP)
		s.Must(err)
		_, err = timeline.Pods(s.Ctx, s.Kube, s.Namespace, "app=sample")
		s.Must(err)
		for name, c := range cases {
			service := s.Service() + "-" + name
			template := s.Sample(s.Annotations(
				"service-names", service, "drain-hook", "chain", "drain-delay", delay.String(), "placement", c.placement))
			scenario.SetEnv(&template, "COLLECTOR", collector)
			app := &template.Spec.Containers[0]
			app.Lifecycle = &corev1.Lifecycle{PreStop: &c.own}
			if name == restarted {
				app.LivenessProbe = &corev1.Probe{
					ProbeHandler: app.ReadinessProbe.ProbeHandler, InitialDelaySeconds: 3, PeriodSeconds: 1, FailureThreshold: 1,
				}
			}
			timeline.Catalog(s.Ctx, s.Consul, service)
			_, err := s.CreatePod(name, template)
			s.Must(err)
		}
		for name := range cases {
			uids[name] = string(s.AwaitReady(name).UID)
		}
	})
	s.When("a container fails its liveness probe", func() { s.Must(put(s, s.Pod(restarted), "/unready")) })
	s.Then("its own hook is called before SIGTERM, and the pod stays in the catalog", func() {
		life, err := timeline.Await(s.Ctx, uids[restarted], observe.Hooked, observe.Terminated)
		s.Must(err)
		before, _ := life.Between(observe.Hooked, observe.Terminated)
		s.Logf("SIGTERM %.1f s after the own hook", before.Seconds())
		if before <= 0 || before > most {
			s.Errorf("SIGTERM %s after the own hook", before)
		}
		if at, left := life.At[observe.OutOfCatalog]; left {
			s.Errorf("the pod left the catalog at %s", at)
		}
	})
	s.When("the other pods are deleted", func() {
		for name := range cases {
			if name != restarted {
				s.Delete(name)
			}
		}
	})
	s.Then("their own hooks run after the catalog has dropped them, and before SIGTERM", func() {
		for name, c := range cases {
			if name == restarted {
				continue
			}
			stations := []observe.Station{observe.OutOfCatalog, observe.Terminated}
			if c.own.HTTPGet != nil {
				stations = append(stations, observe.Hooked)
			}
			life, err := timeline.Await(s.Ctx, uids[name], stations...)
			s.Must(err)
			took, _ := life.Between(observe.OutOfCatalog, observe.Terminated)
			s.Logf("%-14s SIGTERM %.1f s after it left the catalog", name, took.Seconds())
			if least := delay + c.took; took < least-noticed || took > least+most {
				s.Errorf("%s: SIGTERM %s after it left the catalog, want %s and the own hook's %s", name, took, delay, c.took)
			}
			if c.own.HTTPGet == nil {
				continue
			}
			called, _ := life.Between(observe.OutOfCatalog, observe.Hooked)
			if before, _ := life.Between(observe.Hooked, observe.Terminated); called < delay-noticed || before <= 0 {
				s.Errorf("%s: the own hook was called %s after it left the catalog, and %s before SIGTERM", name, called, before)
			}
		}
	})
}

// hostPort is where the port of the pod with its node's address is to be had there.
const hostPort = 18080

func isAsDefined(_ *scenario.S, pod *corev1.Pod, entries []*api.ServiceEntry) string {
	if len(entries) != 1 || entries[0].Checks.AggregatedStatus() != api.HealthPassing {
		return fmt.Sprintf("%d instances, want one that passes its own checks", len(entries))
	}
	got, host, own := entries[0].Service, pod.Status.HostIP, 0
	for _, c := range entries[0].Checks {
		if strings.HasPrefix(c.Name, "by ") {
			own++
		}
	}
	if own != 3 || got.Address != host || got.Port != hostPort || got.Weights != (api.AgentWeights{Passing: 7, Warning: 2}) || !got.EnableTagOverride || got.Meta["team"] != "core" ||
		got.TaggedAddresses["wan"] != (api.ServiceAddress{Address: host, Port: 80}) || got.TaggedAddresses["lan"] != (api.ServiceAddress{Address: pod.Status.PodIP, Port: 8080}) {
		return fmt.Sprintf("%d own checks, %+v", own, got)
	}
	return ""
}

func isAsSet(s *scenario.S, pod *corev1.Pod, entries []*api.ServiceEntry) string {
	agentlet := registration.Agentlet(pod)
	if agentlet == nil || !scenario.IsReady(pod) || len(entries) != 1 {
		return "not injected, not Ready, or not registered"
	}
	if limits := agentlet.Resources.Limits; pod.Status.QOSClass != corev1.PodQOSGuaranteed || limits.Cpu().String() != "20m" || limits.Memory().String() != "48Mi" {
		return fmt.Sprintf("%s with %+v", pod.Status.QOSClass, agentlet.Resources)
	}
	if hook := pod.Spec.Containers[0].Lifecycle.PreStop.HTTPGet; hook.Port.IntValue() != 19600 || agentlet.Ports[0].ContainerPort != 19600 {
		return fmt.Sprintf("the drain hook goes to %s, the agentlet declares %v", hook.Port.String(), agentlet.Ports)
	}
	status, err := s.Kubectl(s.Ctx, "get", "--raw", "/api/v1/namespaces/"+s.Namespace+"/pods/"+pod.Name+":19600/proxy"+contract.LivezPath)
	if err != nil || !strings.Contains(status, "ok") || !slices.ContainsFunc(agentlet.Args, func(arg string) bool { return strings.HasSuffix(arg, "debug") }) {
		return fmt.Sprintf("%s says %q, %v; arguments %q", contract.LivezPath, status, err, agentlet.Args)
	}
	return ""
}

func TestContract(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	all := promises()
	name := func(key string) string { return s.Service() + "-" + key }
	s.When("a pod for each part of the contract is created", func() {
		for key, p := range all {
			annotations := s.Annotations(append([]string{"service-names", name(key), "drain-delay", "0s"}, p.annotations...)...)
			for k, v := range annotations {
				annotations[k] = strings.ReplaceAll(v, "NAME", name(key))
			}
			template := s.Sample(annotations)
			if p.change != nil {
				p.change(&template)
			}
			_, err := s.CreatePod(key, template)
			s.Must(err)
		}
		_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "label", "pod/labels", "role=primary", "tier=front")
		s.Must(err)
	})
	for _, key := range slices.Sorted(maps.Keys(all)) {
		s.Then(key+" is as promised", func() {
			s.Eventually(key, func(context.Context) (bool, error) {
				why := all[key].says(s, s.Pod(key), s.Catalog(name(key)))
				return why == "", fmt.Errorf("%s", why)
			})
		})
	}
	s.Then("addresses that are neither the pod's nor the node's are denied", func() {
		_, err := s.CreatePod("elsewhere", s.Sample(s.Annotations("service-names", "", "services", "[{name: x, port: 80, address: 10.9.9.9}]")))
		if err == nil || !strings.Contains(err.Error(), "10.9.9.9") {
			s.Errorf("the admission says %v", err)
		}
	})
}

func TestContractGatePolicy(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	policies := []string{string(contract.GateOnce), string(contract.GateContinuous)}
	name := func(policy string) string { return s.Service() + "-" + policy }
	s.Given("open gates under both policies", func() {
		for _, policy := range policies {
			_, err := s.CreatePod(policy, s.Sample(s.Annotations("service-names", name(policy), "gate-policy", policy, "drain-delay", "0s")))
			s.Must(err)
		}
		for _, policy := range policies {
			s.AwaitReady(policy)
		}
	})
	s.When("the instances are deregistered in the catalog, without the agents", func() {
		for _, policy := range policies {
			entry := s.Catalog(name(policy))[0]
			_, err := s.Consul.Catalog().Deregister(&api.CatalogDeregistration{Node: entry.Node.Node, ServiceID: entry.Service.ID}, nil)
			s.Must(err)
		}
	})
	s.Then("the continuous gate closes with a reason, the other stays open", func() {
		s.Eventually("the gate to close", func(context.Context) (bool, error) {
			gate := gateOf(s, string(contract.GateContinuous))
			return gate.Status == corev1.ConditionFalse && gate.Reason == string(contract.CatalogLost), fmt.Errorf("%+v", gate)
		})
		if gate := gateOf(s, string(contract.GateOnce)); gate.Status != corev1.ConditionTrue {
			s.Errorf("once: %+v", gate)
		}
	})
}

func TestContractDrain(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	cases := map[string]struct {
		annotations []string
		least, most time.Duration // from the deletion to the application's SIGTERM
	}{
		"at-once": {[]string{"drain-delay", "0s"}, 0, 4 * time.Second},
		"late":    {[]string{"drain-delay", "6s"}, 6 * time.Second, 12 * time.Second},
		"bounded": {[]string{"drain-delay", "1h"}, 9 * time.Second, 16 * time.Second}, // two thirds of the grace period of 15 s
		"no-hook": {[]string{"drain-hook", "false", "drain-delay", "20s"}, 0, 4 * time.Second},
	}
	timeline := observe.NewTimeline(nil)
	asked := map[string]time.Time{} // a watch reports a deletion later than the kubelet may act on it
	s.Given("pods with drain settings", func() {
		collector, err := timeline.Collect(s.Ctx, cluster.HostIP)
		s.Must(err)
		_, err = timeline.Pods(s.Ctx, s.Kube, s.Namespace, "app=sample")
		s.Must(err)
		for name, c := range cases {
			template := s.Sample(s.Annotations(append([]string{"service-names", s.Service() + "-" + name}, c.annotations...)...))
			scenario.SetEnv(&template, "COLLECTOR", collector)
			template.Spec.TerminationGracePeriodSeconds = new(int64(15))
			_, err := s.CreatePod(name, template)
			s.Must(err)
		}
		for name := range cases {
			s.AwaitReady(name)
		}
	})
	s.When("they are deleted", func() {
		pods := s.Pods(s.Ctx)
		for _, pod := range pods {
			asked[pod.Name] = time.Now()
			s.Delete(pod.Name)
		}
		for i := range pods {
			s.AwaitGone(&pods[i])
		}
	})
	s.Then("SIGTERM came at the requested time, and nothing is left in the catalog", func() {
		for _, life := range timeline.Lives() {
			c := cases[life.Pod]
			terminated, ok := life.At[observe.Terminated]
			took := terminated.Sub(asked[life.Pod])
			s.Logf("%-8s SIGTERM %.1f s after the deletion", life.Pod, took.Seconds())
			if !ok || took < c.least || took > c.most {
				s.Errorf("%s: SIGTERM %s after the deletion, want %s to %s", life.Pod, took, c.least, c.most)
			}
			if n := len(s.Catalog(s.Service() + "-" + life.Pod)); n > 0 {
				s.Errorf("%s: %d instances are left", life.Pod, n)
			}
		}
	})
}
