package scenarios_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/e2e/scenario"
)

func resources(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// quota limits the namespace's requests and limits, and waits until the controller has counted them for the first time.
func quota(s *scenario.S) {
	s.Helper()
	limit(s, "all", corev1.ResourceList{
		"requests.cpu": resource.MustParse("1"), "requests.memory": resource.MustParse("1Gi"),
		"limits.cpu": resource.MustParse("2"), "limits.memory": resource.MustParse("2Gi"),
	})
}

// limit creates a ResourceQuota for the pods in these scopes, and waits for its first count.
func limit(s *scenario.S, name string, hard corev1.ResourceList, scopes ...corev1.ResourceQuotaScope) {
	s.Helper()
	quotas := s.Kube.CoreV1().ResourceQuotas(s.Namespace)
	_, err := quotas.Create(s.Ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.ResourceQuotaSpec{Hard: hard, Scopes: scopes},
	}, metav1.CreateOptions{})
	s.Must(err)
	s.Eventually("the quota's first count", func(ctx context.Context) (bool, error) {
		now, err := quotas.Get(ctx, name, metav1.GetOptions{})
		return err == nil && len(now.Status.Hard) > 0, err
	})
}

func TestInjectWithinALimitRangeAndAQuota(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Parallel(), placed)
		s.Given("a namespace with a LimitRange and a ResourceQuota", func() {
			_, err := s.Kube.CoreV1().LimitRanges(s.Namespace).Create(s.Ctx, &corev1.LimitRange{
				ObjectMeta: metav1.ObjectMeta{Name: "all"},
				Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
					Type: corev1.LimitTypeContainer, Min: resources("1m", "4Mi"), Max: resources("500m", "256Mi"),
					Default: resources("200m", "128Mi"), DefaultRequest: resources("20m", "32Mi"),
				}}},
			}, metav1.CreateOptions{})
			s.Must(err)
			quota(s)
		})
		var pod *corev1.Pod
		s.When("a pod without resource settings is created", func() {
			_, err := s.CreatePod("web", s.Sample(s.Annotations()))
			s.Must(err)
		})
		s.Then("it is Ready, and the agentlet has its own requests and the range's limit", func() {
			pod = s.AwaitReady("web")
			for name, container := range map[string]corev1.Container{"app": pod.Spec.Containers[0], "agentlet": *registration.Agentlet(pod)} {
				s.Logf("%s: requests %v, limits %v", name, container.Resources.Requests, container.Resources.Limits)
			}
			r := registration.Agentlet(pod).Resources
			if r.Requests.Cpu().String() != "5m" || r.Limits.Cpu().String() != "200m" || r.Limits.Memory().String() != "64Mi" {
				s.Errorf("%+v", r)
			}
		})
		s.Then("the quota counts both containers", func() {
			used, err := s.Kube.CoreV1().ResourceQuotas(s.Namespace).Get(s.Ctx, "all", metav1.GetOptions{})
			s.Must(err)
			if got := used.Status.Used["requests.cpu"]; got.String() != "25m" {
				s.Errorf("%s of CPU requested", got.String())
			}
		})
	})
}

// TestInjectWithinALimitRangesRatio tests that what the API server says of an agentlet leads to it: its own message names no
// container.
func TestInjectWithinALimitRangesRatio(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	p := newPlugin(s)
	s.Given("a namespace with a LimitRange with a ratio", func() {
		_, err := s.Kube.CoreV1().LimitRanges(s.Namespace).Create(s.Ctx, &corev1.LimitRange{
			ObjectMeta: metav1.ObjectMeta{Name: "all"},
			Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
				Type: corev1.LimitTypeContainer, MaxLimitRequestRatio: resources("2", "2"),
				Default: resources("100m", "64Mi"), DefaultRequest: resources("50m", "32Mi"),
			}}},
		}, metav1.CreateOptions{})
		s.Must(err)
	})
	reasons := map[string]string{ // and what to set
		"cpu max limit to request ratio per Container is 2, but provided ratio is 20.000000":   "set agentlet.dev/cpu-request: 50m and agentlet.dev/cpu-limit: 50m",
		"memory max limit to request ratio per Container is 2, but provided ratio is 4.000000": "set agentlet.dev/memory-request: 64Mi and agentlet.dev/memory-limit: 64Mi",
	}
	s.Then("a pod with an agentlet is refused, and without one it isn't", func() {
		var refusal error
		// The API server learns of LimitRanges through a watch.
		s.Eventually("the refusal", func(context.Context) (bool, error) {
			refusal = admit(s, s.Sample(s.Annotations()))
			return refusal != nil, nil
		})
		for reason := range reasons {
			mentions(s, refusal.Error(), reason)
		}
		s.Must(admit(s, s.Sample(s.Annotations("inject", "false"))))
	})
	s.Then("explain and check say the same of the agentlet, and what to set", func() {
		out, _ := p.run(p.manifest(s.Sample(s.Annotations())), "explain", "-f", "-", "--from-cluster")
		findings, _ := p.check()
		for reason, remedy := range reasons {
			mentions(s, out, "LimitRange all of namespace "+s.Namespace+": it refuses the agentlet", reason, remedy)
			if !slices.ContainsFunc(findings, func(f finding) bool {
				return f.Check == "limits" && f.Level == "warn" && strings.Contains(f.Message, reason) && strings.Contains(f.Remedy, remedy)
			}) {
				s.Errorf("no finding says %s: %+v", reason, findings)
			}
		}
	})
	s.When("a pod sets it", func() {
		_, err := s.CreatePod("web", s.Sample(s.Annotations(
			"cpu-request", "50m", "cpu-limit", "50m", "memory-request", "64Mi", "memory-limit", "64Mi")))
		s.Must(err)
	})
	s.Then("the pod is Ready", func() { s.AwaitReady("web") })
}

func TestInjectWithinAQuotaOnLimits(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	s.Given("a namespace with a ResourceQuota on limits, and no LimitRange", func() { quota(s) })
	template := func(pairs ...string) corev1.PodTemplateSpec {
		template := s.Sample(s.Annotations(pairs...))
		template.Spec.Containers[0].Resources = corev1.ResourceRequirements{Requests: resources("10m", "16Mi"), Limits: resources("100m", "64Mi")}
		return template
	}
	s.Then("a pod whose agentlet has no CPU limit is rejected by the quota, whose message names it", func() {
		pod := &corev1.Pod{ObjectMeta: template().ObjectMeta, Spec: template().Spec}
		pod.Name = "none"
		// The API server learns of the count through a watch.
		s.Eventually("the refusal", func(ctx context.Context) (bool, error) {
			_, err := s.Kube.CoreV1().Pods(s.Namespace).Create(ctx, pod, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			return err != nil && strings.Contains(err.Error(), "limits.cpu for: agentlet"), err
		})
	})
	s.When("the pod's annotation sets one", func() {
		_, err := s.CreatePod("web", template("cpu-limit", "100m"))
		s.Must(err)
	})
	s.Then("the pod is Ready", func() { s.AwaitReady("web") })
}

// TestInjectIntoABestEffortPod tests scoped quotas: the agentlet's requests make a BestEffort pod Burstable.
func TestInjectIntoABestEffortPod(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	template := func(pairs ...string) corev1.PodTemplateSpec {
		template := s.Sample(s.Annotations(pairs...))
		template.Spec.Containers[0].Resources = corev1.ResourceRequirements{}
		return template
	}
	none := []string{"cpu-request", "0", "memory-request", "0", "memory-limit", "0"}
	refused := func(quota, says string) {
		s.Helper()
		// The API server learns of quotas through a watch.
		s.Eventually("the refusal", func(context.Context) (bool, error) {
			err := admit(s, template())
			return err != nil && strings.Contains(err.Error(), "quota: "+quota) && strings.Contains(err.Error(), says), err
		})
		s.Must(admit(s, template(append(none, "inject", "false")...)))
		s.Must(admit(s, template(none...)))
	}
	s.Given("a namespace for BestEffort pods only", func() {
		limit(s, "no-others", corev1.ResourceList{corev1.ResourcePods: resource.MustParse("0")}, corev1.ResourceQuotaScopeNotBestEffort)
	})
	s.Then("a pod with an agentlet is rejected, unless the agentlet has no requests", func() {
		refused("no-others", "requested: pods=1, used: pods=0, limited: pods=0")
	})
	s.When("a quota on requests applies to all other pods", func() {
		s.Must(s.Kube.CoreV1().ResourceQuotas(s.Namespace).Delete(s.Ctx, "no-others", metav1.DeleteOptions{}))
		limit(s, "others", corev1.ResourceList{"requests.cpu": resource.MustParse("1")}, corev1.ResourceQuotaScopeNotBestEffort)
	})
	s.Then("a pod is rejected because the application has no requests", func() {
		refused("others", "must specify requests.cpu for: app")
	})
	s.When("a pod whose agentlet has no requests is created", func() {
		_, err := s.CreatePod("web", template(none...))
		s.Must(err)
	})
	s.Then("it is Ready, and still BestEffort", func() {
		if pod := s.AwaitReady("web"); pod.Status.QOSClass != corev1.PodQOSBestEffort {
			s.Errorf("it is %s", pod.Status.QOSClass)
		}
	})
}
