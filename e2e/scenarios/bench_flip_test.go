package scenarios_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os/exec"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/figures"
)

// The client's request rate, and its duration. In the middle, one of the two pods begins to answer 500.
const (
	flipRate    = 1000
	flipTime    = 20 * time.Second
	flipRepeats = 10
)

func TestBenchFlip(t *testing.T) {
	failed := map[string][]float64{}
	var last *scenario.S
	for _, variant := range slices.Sorted(maps.Keys(flipVariants)) {
		t.Run(variant, func(t *testing.T) {
			s := scenario.New(t, scenario.Bench())
			last = s
			failed[variant] = flips(s, variant)
			record(s, "flip_failed_"+variant, observe.Quantile(failed[variant], 0.5), len(failed[variant]))
			s.Logf("failed: %.0f", failed[variant])
		})
	}
	if last == nil || len(failed["probe"]) == 0 || len(failed[viaClusterIP]) == 0 {
		return // the scenario was skipped, or it failed
	}
	ratio, err := observe.Ratio(failed["probe"], failed[viaClusterIP], 0.5)
	if err != nil {
		t.Fatal(err)
	}
	if err := figures.Merge(last.BenchFile(), map[string]float64{"flip_ratio_probe": ratio, "flip_ratio_probe_n": flipRepeats}); err != nil {
		t.Error(err)
	}
}

// viaClusterIP is the variant whose requests go through a ClusterIP Service. All others go through Consul.
const viaClusterIP = "clusterip"

// flipVariants are annotations by the figure's name. The variant "default" has none.
var flipVariants = map[string][]string{
	viaClusterIP: {"readiness", "kubelet"},
	"default":    nil,
	"kubelet":    {"readiness", "kubelet"},
	"probe":      {"readiness", "probe"},
}

// flips returns the number of failed requests of each repetition.
func flips(s *scenario.S, variant string) (failed []float64) {
	virtual := variant == viaClusterIP
	address := ""
	s.Given("two pods", func() {
		s.Deployment(2, s.Sample(s.Annotations(flipVariants[variant]...)))
		s.Rollout()
		s.AwaitCatalog(s.Service(), 2)
		if virtual {
			address = net.JoinHostPort(virtualIP(s), "80")
		}
	})
	s.When("one of them breaks under load, again and again", func() {
		pods := s.Pods(s.Ctx)
		for range flipRepeats {
			client := load.New(s.Consul, s.Service())
			if virtual {
				client = load.Fixed(address)
			}
			failed = append(failed, flip(s, client, &pods[0], !virtual))
			s.Must(put(s, &pods[0], "/ready"))
			s.AwaitCatalog(s.Service(), 2)
			if virtual {
				awaitEndpoints(s)
			}
		}
	})
	return failed
}

// flip returns how many requests failed when the pod broke under load.
func flip(s *scenario.S, client *load.Client, pod *corev1.Pod, follow bool) float64 {
	s.Helper()
	following, stop := context.WithCancel(s.Ctx)
	defer stop()
	if follow {
		s.Must(client.Follow(following))
	}
	loading, enough := context.WithTimeout(s.Ctx, flipTime)
	defer enough()
	done := make(chan struct{})
	go func() { defer close(done); client.Run(loading, flipRate) }()
	s.Pause(flipTime / 2)
	s.Must(put(s, pod, "/broken"))
	<-done
	requests, failed := client.Counts()
	s.Logf("%d of %d requests failed: %v", failed, requests, client.Errors())
	return float64(failed)
}

// virtualIP creates a ClusterIP Service of the pods, once, and a route to it through a node's kube-proxy, like that of a load
// balancer outside the cluster.
func virtualIP(s *scenario.S) string {
	s.Helper()
	services := s.Kube.CoreV1().Services(s.Namespace)
	service, err := services.Get(s.Ctx, "sample", metav1.GetOptions{})
	if err == nil {
		awaitEndpoints(s)
		return service.Spec.ClusterIP
	}
	service, err = services.Create(s.Ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "sample"},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{"app": "sample"},
			Ports:    []corev1.ServicePort{{Port: 80, TargetPort: intstr.FromInt32(8080)}},
		},
	}, metav1.CreateOptions{})
	s.Must(err)
	route := func(ctx context.Context, verb string) error {
		out, err := exec.CommandContext(ctx, "ip", "route", verb, service.Spec.ClusterIP+"/32", "via", s.Cluster.Nodes[0].IP).CombinedOutput()
		if err != nil {
			return fmt.Errorf("ip route %s: %w: %s", verb, err, out)
		}
		return nil
	}
	s.Must(route(s.Ctx, "replace"))
	s.Cleanup(func() {
		if err := route(context.Background(), "del"); err != nil {
			s.Error(err)
		}
	})
	awaitEndpoints(s)
	return service.Spec.ClusterIP
}

// awaitEndpoints waits until exactly the two pods answer at the virtual IP.
func awaitEndpoints(s *scenario.S) {
	s.Helper()
	pods := s.Pods(s.Ctx)
	s.Eventually("both pods to be endpoints", func(ctx context.Context) (bool, error) {
		slicesOf, err := s.Kube.DiscoveryV1().EndpointSlices(s.Namespace).List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=sample"})
		if err != nil {
			return false, err
		}
		ready := map[string]bool{}
		for _, slice := range slicesOf.Items {
			for _, endpoint := range slice.Endpoints {
				if endpoint.Conditions.Ready != nil && *endpoint.Conditions.Ready && endpoint.TargetRef != nil {
					ready[endpoint.TargetRef.Name] = true
				}
			}
		}
		for _, pod := range pods {
			if !ready[pod.Name] {
				return false, fmt.Errorf("%s is no endpoint yet", pod.Name)
			}
		}
		return len(ready) == len(pods), fmt.Errorf("%d endpoints", len(ready))
	})
	s.Pause(3 * time.Second) // kube-proxy writes its rules at most once a second
}
