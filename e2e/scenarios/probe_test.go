package scenarios_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/figures"
)

// grpcPort is the port of the sample's gRPC health service in these scenarios.
const grpcPort = 9090

// slowly returns a sample that is ready 2 s after its start. Its readiness probe has the default period of 10 s, and it registers
// its own service.
func slowly(s *scenario.S, name string, annotations ...string) corev1.PodTemplateSpec {
	template := s.Sample(s.Annotations(append([]string{"service-names", s.Service() + "-" + name, "drain-delay", "0s"}, annotations...)...))
	scenario.SetEnv(&template, "READY_AFTER", "2s")
	template.Spec.Containers[0].ReadinessProbe.PeriodSeconds = 10
	return template
}

func TestProbeKinds(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	const never = "1h"
	kinds := map[string]corev1.ProbeHandler{
		"http":    {HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromString("http")}},
		"tcp":     {TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(8080)}},
		"grpc":    {GRPC: &corev1.GRPCAction{Port: grpcPort}},
		"exec":    {Exec: &corev1.ExecAction{Command: []string{"/sample", "true"}}},
		"broken":  {HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(8080)}},
		"startup": {HTTPGet: &corev1.HTTPGetAction{Path: "/ready", Port: intstr.FromInt32(8080)}},
	}
	s.When("pods with a readiness probe of each kind start, one of them with an application that is never ready", func() {
		for name, handler := range kinds {
			template := slowly(s, name, "readiness", "probe")
			app := &template.Spec.Containers[0]
			app.ReadinessProbe.ProbeHandler = handler
			scenario.SetEnv(&template, "GRPC_PORT", fmt.Sprint(grpcPort))
			switch name {
			case "broken":
				scenario.SetEnv(&template, "READY_AFTER", never)
			case "startup":
				app.StartupProbe = app.ReadinessProbe.DeepCopy()
			}
			warnings := createFromFile(s, name, template)
			if warned := strings.Contains(warnings, "exec probe"); warned != (name == "exec") {
				s.Errorf("%s: kubectl says\n%s", name, warnings)
			}
		}
	})
	s.Then("all but the broken one are in the catalog and their gates open, before the kubelet has looked again where it would be late", func() {
		for name := range kinds {
			if name != "broken" {
				s.AwaitCatalog(s.Service()+"-"+name, 1)
				s.Eventually("the gate of "+name, func(context.Context) (bool, error) {
					return gateOf(s, name).Status == corev1.ConditionTrue, nil
				})
			}
		}
		for _, name := range []string{"http", "grpc", "startup"} {
			for _, c := range s.Pod(name).Status.ContainerStatuses {
				s.Logf("%s: by then the kubelet's word was ready=%v", name, c.Ready)
			}
		}
	})
	s.Then("the broken one is not in the catalog", func() {
		if n := len(s.Passing(s.Service() + "-broken")); n > 0 {
			s.Error("it is passing in the catalog")
		}
		s.Eventually("the reason", func(context.Context) (bool, error) {
			gate := gateOf(s, "broken")
			return gate.Status == corev1.ConditionFalse && gate.Reason == string(contract.ContainersNotReady), fmt.Errorf("%+v", gate)
		})
	})
	s.Then("the agentlet's log says of the exec probe what counts", func() {
		log, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "logs", "exec", "-c", contract.ContainerName)
		s.Must(err)
		if !strings.Contains(log, "not probed by the agentlet") {
			s.Errorf("the log says\n%s", log)
		}
	})
	s.When("applications turn unready, the catalog says critical within moments", func() {
		for _, name := range []string{"http", "grpc"} {
			s.Must(put(s, s.Pod(name), "/unready"))
			began := time.Now()
			s.Eventually(name+" to be critical", func(context.Context) (bool, error) { return len(s.Passing(s.Service()+"-"+name)) == 0, nil })
			s.Logf("%s: critical after %s", name, time.Since(began).Round(time.Millisecond))
			if took := time.Since(began); took > 8*time.Second {
				s.Errorf("%s: critical after %s, and the kubelet needs 20 s at least", name, took)
			}
		}
	})
}

// TestProbeKeepsNobodyOut tests the default, readiness: start, where only the kubelet's probes can succeed. The pod is then ready
// as the kubelet reports.
func TestProbeKeepsNobodyOut(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	kinds := []string{"deaf", "exec"}
	s.When("pods start that the agentlet can't probe: one answers the kubelet alone, one has an exec probe", func() {
		for _, name := range kinds {
			template := slowly(s, name)
			app := &template.Spec.Containers[0]
			app.ReadinessProbe.PeriodSeconds = 1
			scenario.SetEnv(&template, "DEAF_TO_ITSELF", "true")
			if name == "exec" {
				app.ReadinessProbe.ProbeHandler = corev1.ProbeHandler{Exec: &corev1.ExecAction{Command: []string{"/sample", "true"}}}
			}
			if warnings := createFromFile(s, name, template); strings.Contains(warnings, "probe") {
				s.Errorf("%s: kubectl says\n%s", name, warnings)
			}
		}
	})
	probes := func(name string) float64 {
		text, err := s.Kube.CoreV1().RESTClient().Get().AbsPath("/api/v1/namespaces", s.Namespace, "pods", name+":19500", "proxy", "metrics").DoRaw(s.Ctx)
		s.Must(err)
		n, err := scenario.Sum(text, "agentlet_requests_total", func(labels map[string]string) bool { return labels["operation"] == "probe_container" })
		s.Must(err)
		return n
	}
	before := map[string]float64{}
	s.Then("the pods are Ready and passing", func() {
		for _, name := range kinds {
			s.AwaitReady(name)
			s.AwaitCatalog(s.Service()+"-"+name, 1)
			before[name] = probes(name)
		}
	})
	s.Then("they stay so, and the agentlet has stopped probing", func() {
		s.Pause(5 * time.Second)
		for _, name := range kinds {
			if n := probes(name) - before[name]; n > 0 {
				s.Errorf("%s: %.0f probes after the kubelet's first word", name, n)
			}
			if len(s.Passing(s.Service()+"-"+name)) != 1 || !scenario.IsReady(s.Pod(name)) {
				s.Errorf("%s: not passing, or not Ready", name)
			}
		}
		if before["deaf"] == 0 || before["exec"] > 0 {
			s.Errorf("probes before it: %v, want some of deaf and none of exec", before)
		}
	})
}

// createFromFile creates a pod with kubectl, whose output contains the admission warnings.
func createFromFile(s *scenario.S, name string, template corev1.PodTemplateSpec) string {
	s.Helper()
	pod := corev1.Pod{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"}, ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	pod.Name = name
	content, err := json.Marshal(pod)
	s.Must(err)
	file := filepath.Join(s.TempDir(), name+".json")
	s.Must(os.WriteFile(file, content, 0o600))
	out, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "create", "-f", file)
	s.Must(err)
	return out
}

// TestProbeAgainstTheKubelet compares the agentlet's probes with the kubelet's, with the default period of 10 s.
func TestProbeAgainstTheKubelet(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	names := []string{"kubelet", "probe"}
	timelines := map[string]*observe.Timeline{}
	lives := map[string]observe.Life{}
	numbers := map[string]float64{}
	s.When("two pods start, ready after 2 s, probed each 10 s", func() {
		for _, name := range names {
			timeline := observe.NewTimeline(nil)
			timelines[name] = timeline
			_, err := timeline.Pods(s.Ctx, s.Kube, s.Namespace, "app="+name)
			s.Must(err)
			timeline.Catalog(s.Ctx, s.Consul, s.Service()+"-"+name)
			template := slowly(s, name, "readiness", name)
			template.Labels["app"] = name
			template.Spec.NodeName = s.Cluster.Nodes[0].Name
			_, err = s.CreatePod(name, template)
			s.Must(err)
		}
		for _, name := range names {
			s.AwaitReady(name)
		}
	})
	s.Then("the pod that its agentlet probes was in the catalog before the kubelet's probe", func() {
		for _, name := range names {
			s.Eventually("the timeline", func(context.Context) (bool, error) {
				lives[name] = timelines[name].Lives()[0]
				_, ok := lives[name].Between(observe.InCatalog, observe.Ready)
				return ok, nil
			})
			for _, station := range []observe.Station{observe.InCatalog, observe.GateOpen, observe.ContainersReady, observe.Ready} {
				took, _ := lives[name].Between(observe.Admitted, station)
				s.Logf("%-8s %-17s after %5.2f s", name, station, took.Seconds())
				numbers["probe_"+name+"_"+strings.ReplaceAll(string(station), " ", "_")+"_s"] = took.Seconds()
			}
		}
		// The kubelet also probes when the pod's status changes, and so right after the gate has opened.
		if early, ok := lives["probe"].Between(observe.InCatalog, observe.ContainersReady); !ok || early <= 0 {
			s.Errorf("in the catalog %s before the kubelet's word", early)
		}
	})
	s.Then("probing five times a second costs little", func() {
		began := time.Now()
		before := map[string]time.Duration{}
		for _, name := range names {
			before[name], _ = usage(s, name)
		}
		s.Pause(20 * time.Second)
		for _, name := range names {
			used, memory := usage(s, name)
			millicores := 1000 * (used - before[name]).Seconds() / time.Since(began).Seconds()
			s.Logf("%-8s %.2f millicores, %.2f MiB of anonymous memory", name, millicores, memory)
			numbers["probe_"+name+"_millicores"], numbers["probe_"+name+"_anonymous_mib"] = millicores, memory
		}
		if got := numbers["probe_probe_millicores"]; got > 20 {
			s.Errorf("%.1f millicores", got)
		}
	})
	s.When("both applications turn unready", func() {
		began := time.Now()
		for _, name := range names {
			s.Must(put(s, s.Pod(name), "/unready"))
		}
		for _, name := range []string{"probe", "kubelet"} {
			s.Eventually(name+" to be critical", func(context.Context) (bool, error) { return len(s.Passing(s.Service()+"-"+name)) == 0, nil })
			numbers["probe_"+name+"_critical_s"] = time.Since(began).Seconds()
			s.Logf("%-8s critical after %.2f s", name, time.Since(began).Seconds())
		}
		if numbers["probe_probe_critical_s"]*2 > numbers["probe_kubelet_critical_s"] {
			s.Error("the agentlet's own probe was hardly faster")
		}
	})
	s.Must(figures.Merge(s.FiguresFile(), numbers))
}

// usage returns the CPU time of a pod's agentlet, and its memory in MiB.
func usage(s *scenario.S, pod string) (time.Duration, float64) {
	s.Helper()
	process, err := scenario.FindProcess("agentlet run", string(s.Pod(pod).UID))
	s.Must(err)
	used, err := process.ProcessorTime()
	s.Must(err)
	memory, err := process.AnonymousMemory()
	s.Must(err)
	return used, float64(memory) / (1 << 20)
}

// TestProbeRollout compares rolling restarts with either kind of probes.
func TestProbeRollout(t *testing.T) {
	s := scenario.New(t, scenario.Long())
	numbers := map[string]float64{}
	for _, period := range []int32{10, 1} {
		for _, readiness := range []string{"kubelet", "probe"} {
			s.When(fmt.Sprintf("four replicas, probed each %d s, are restarted with readiness: %s", period, readiness), func() {
				template := slowly(s, "rollout", "readiness", readiness)
				template.Spec.Containers[0].ReadinessProbe.PeriodSeconds = period
				s.Deployment(4, template)
				s.Rollout()
				began := time.Now()
				s.Restart()
				s.Rollout()
				took := time.Since(began).Seconds()
				s.Logf("period %2d s, readiness: %-7s %.1f s", period, readiness, took)
				numbers[fmt.Sprintf("probe_rollout_period_%d_%s_s", period, readiness)] = took
				_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "delete", "deployment", "sample", "--cascade=foreground", "--timeout=2m")
				s.Must(err)
			})
		}
	}
	s.Must(figures.Merge(s.FiguresFile(), numbers))
}
