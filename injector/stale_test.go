package injector

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// TestStaleHookIsReplaced has a pod that was exported from a cluster and created again without its agentlet, so that nothing
// would answer its old hook.
func TestStaleHookIsReplaced(t *testing.T) {
	stale := func(port int32, value string) *corev1.LifecycleHandler {
		return &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: contract.DrainPath, Port: intstr.FromInt32(port), Scheme: corev1.URISchemeHTTP,
			HTTPHeaders: []corev1.HTTPHeader{{Name: contract.NonceHeader, Value: value}},
		}}
	}
	for name, c := range map[string]struct {
		hook     *corev1.LifecycleHandler
		replaced bool
	}{
		"another nonce": {stale(19500, "another"), true},
		"another port":  {stale(19600, nonce), true},
		"ours":          {stale(19500, nonce), false},
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{contract.ServiceNames: "web", contract.ServicePort: "80"}},
			Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Lifecycle: &corev1.Lifecycle{PreStop: c.hook}}}},
		}
		decision := testInjector(t).Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce})
		replaced := false
		for _, operation := range decision.Patch {
			if operation.Path == "/spec/containers/0/lifecycle/preStop" {
				replaced = operation.Operation == "add"
			}
		}
		if decision.Outcome != Injected || replaced != c.replaced {
			t.Errorf("%s: %s, hook replaced: %v, want %v", name, decision.Outcome, replaced, c.replaced)
		}
	}
}

// TestOwnHookSurvives holds that a container's own hook is neither lost nor run twice when a pod that was injected comes again,
// without its agentlet or with another setting.
func TestOwnHookSurvives(t *testing.T) {
	sleep := &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}}
	gone := &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{Path: "/stop", Port: intstr.FromString("renamed")}}
	exec := &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/stop"}}}
	drain := func(value string, own *corev1.LifecycleHandler) *corev1.LifecycleHandler {
		c := patchBuilder{nonce: value, pod: &corev1.Pod{}}
		return c.drainHook(19500, own, "web")
	}
	for name, test := range map[string]struct {
		mode  contract.DrainHookMode
		hook  *corev1.LifecycleHandler
		want  *corev1.LifecycleHandler // in the patch; nil: it says nothing of it
		warns bool                     // that the own hook is kept
	}{
		"chained":                             {contract.DrainHookChain, sleep, drain(nonce, sleep), false},
		"chained and stale":                   {contract.DrainHookChain, drain("another", sleep), drain(nonce, sleep), false},
		"chained and answered":                {contract.DrainHookChain, drain(nonce, sleep), nil, false},
		"can't be chained":                    {contract.DrainHookChain, exec, nil, true},
		"can't be chained any more":           {contract.DrainHookChain, drain("another", exec), exec, true},
		"kept":                                {contract.DrainHookOn, sleep, nil, true},
		"chained and stale, now kept":         {contract.DrainHookOn, drain("another", sleep), sleep, true},
		"chained and answered, now kept":      {contract.DrainHookOn, drain(nonce, sleep), sleep, true},
		"chained and answered, without":       {contract.DrainHookOff, drain(nonce, sleep), sleep, false},
		"chained and answered, not runnable":  {contract.DrainHookChain, drain(nonce, gone), gone, true},
		"without drain hooks":                 {contract.DrainHookOff, sleep, nil, false},
		"chained and stale, without":          {contract.DrainHookOff, drain("another", sleep), sleep, false},
		"stale, without an own hook, without": {contract.DrainHookOff, drain("another", nil), nil, false},
		"none, without":                       {contract.DrainHookOff, nil, nil, false},
		"stale, without an own hook":          {contract.DrainHookChain, drain("another", nil), drain(nonce, nil), false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
					contract.ServiceNames: "web", contract.ServicePort: "80", contract.DrainHook: string(test.mode),
				}},
				Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "web", Lifecycle: &corev1.Lifecycle{PreStop: test.hook}}}},
			}
			decision := testInjector(t).Decide(Request{Namespace: "shop", Pod: pod, Nonce: nonce})
			var got *corev1.LifecycleHandler
			for _, operation := range decision.Patch {
				if operation.Path == "/spec/containers/0/lifecycle/preStop" {
					got, _ = operation.Value.(*corev1.LifecycleHandler)
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" || decision.Outcome != Injected {
				t.Errorf("%s with the hook (-want +got):\n%s", decision.Outcome, diff)
			}
			warned := slices.ContainsFunc(decision.Warnings, func(w registration.Warning) bool {
				return w.Field == "spec.containers[0].lifecycle.preStop" && strings.Contains(w.Message, "has a preStop hook of its own")
			})
			if warned != test.warns {
				t.Errorf("warnings: %v", decision.Warnings)
			}
		})
	}
}

// TestOwnHookWithIstio holds that no own hook is chained where Istio's injector would lose it, and that one which is lost is told of.
func TestOwnHookWithIstio(t *testing.T) {
	for name, test := range map[string]struct {
		labels map[string]string
		change func(pod *corev1.Pod) // after the first pass
		want   []string              // warnings of the first and the second pass
		kept   bool                  // the own hook, after both
	}{
		"announced": {
			map[string]string{"istio-injection": "enabled"},
			func(p *corev1.Pod) { injectIstio(p, true, true) },
			[]string{"is replaced by Istio 1.25", "is replaced by Istio 1.25"},
			true,
		},
		"not announced, before 1.25": {
			nil, func(p *corev1.Pod) { injectIstio(p, true, false) }, []string{"", "is replaced by Istio 1.25"}, true,
		},
		"not announced": {
			nil, func(p *corev1.Pod) { injectIstio(p, true, true) },
			[]string{"", `Istio has replaced the preStop hook of container "app"`},
			false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := serving("web")
			pod.Annotations[contract.DrainHook] = string(contract.DrainHookChain)
			pod.Spec.Containers[0].Lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 3}}}
			request := Request{Namespace: "shop", Nonce: nonce, NamespaceLabels: NamespaceLabels(test.labels)}
			for i, want := range test.want {
				var d Decision
				if pod, d = pass(t, pod, request); i == 0 {
					test.change(pod)
				}
				var told []string
				for _, w := range d.Warnings {
					if strings.HasSuffix(w.Field, "preStop") {
						told = append(told, w.Message)
					}
				}
				if all := strings.Join(told, "\n"); want == "" && all != "" || !strings.Contains(all, want) {
					t.Errorf("pass %d: warnings %q, want %q", i+1, all, want)
				}
			}
			if own := registration.OwnHook(&pod.Spec.Containers[0]); (own != nil && own.Sleep != nil) != test.kept {
				t.Errorf("own hook: %+v, kept: %v", own, test.kept)
			}
		})
	}
}

// TestPlainHookStays: the injector takes nothing out.
func TestPlainHookStays(t *testing.T) {
	pod, _ := pass(t, serving("web"), Request{Namespace: "shop", Nonce: nonce})
	pod.Annotations[contract.DrainHook] = string(contract.DrainHookOff)
	_, d := pass(t, pod, Request{Namespace: "shop", Nonce: nonce})
	if d.Outcome != Skipped || len(d.Warnings) != 1 || !strings.Contains(d.Warnings[0].Message, "drain-hook: false doesn't take it out") {
		t.Errorf("%s: %v", d.Outcome, d.Warnings)
	}
}

// TestOwnHookOfALateContainer: a later webhook's container has its own hook chained, too.
func TestOwnHookOfALateContainer(t *testing.T) {
	raw := readPod(t, filepath.Join("testdata", "drain-hook-chain-host-network"))
	first := testInjector(t).Decide(Request{Namespace: "shop", Pod: decode(t, raw), Nonce: nonce})
	pod := whole(t, apply(t, raw, first))
	pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{Name: "mesh", Lifecycle: &corev1.Lifecycle{
		PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 2}},
	}})
	second := testInjector(t).Decide(Request{Namespace: "shop", Pod: decode(t, indent(t, pod)), Nonce: "another"})
	if len(second.Patch) != 1 || second.Patch[0].Path != "/spec/containers/2/lifecycle/preStop" {
		t.Fatalf("the second pass adds %s", indent(t, second.Patch))
	}
	again := whole(t, apply(t, indent(t, pod), second))
	again.Status.PodIP = "10.0.0.7"
	want := map[string]registration.PreStop{
		"web":  {Host: "127.0.0.1", Port: 8080, HTTPGet: whole(t, raw).Spec.Containers[0].Lifecycle.PreStop.HTTPGet},
		"log":  {Sleep: 3 * time.Second},
		"mesh": {Sleep: 2 * time.Second},
	}
	if diff := cmp.Diff(want, registration.Chained(again)); diff != "" {
		t.Errorf("the agentlet finds (-want +got):\n%s", diff)
	}
	if third := testInjector(t).Decide(Request{Namespace: "shop", Pod: again, Nonce: "a third"}); third.Reason != ReasonAlreadyInjected {
		t.Errorf("the third pass: %s, %s", third.Reason, indent(t, third.Patch))
	}
}
