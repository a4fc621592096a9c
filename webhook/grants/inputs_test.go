package grants

import (
	"runtime"
	"strconv"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestWeakenedPolicies(t *testing.T) {
	type (
		policyOf  = admissionregistrationv1.ValidatingAdmissionPolicy
		bindingOf = admissionregistrationv1.ValidatingAdmissionPolicyBinding
	)
	ignore, now := admissionregistrationv1.Ignore, metav1.Now()
	for name, test := range map[string]struct {
		edit func(*policyOf, *bindingOf)
		says string
	}{
		"nothing":                  {func(*policyOf, *bindingOf) {}, ""},
		"the default of failing":   {func(p *policyOf, _ *bindingOf) { p.Spec.FailurePolicy = nil }, ""},
		"a policy that fails open": {func(p *policyOf, _ *bindingOf) { p.Spec.FailurePolicy = &ignore }, "fail closed"},
		"an empty policy":          {func(p *policyOf, _ *bindingOf) { p.Spec.Validations = nil }, "validates nothing"},
		"a policy on its way out":  {func(p *policyOf, _ *bindingOf) { p.DeletionTimestamp = &now }, "being deleted"},
		"a binding on its way out": {func(_ *policyOf, b *bindingOf) { b.DeletionTimestamp = &now }, "being deleted"},
		"another policy's binding": {func(_ *policyOf, b *bindingOf) { b.Spec.PolicyName = "other" }, "another policy"},
		"a binding that only audits": {func(_ *policyOf, b *bindingOf) {
			b.Spec.ValidationActions = []admissionregistrationv1.ValidationAction{admissionregistrationv1.Audit}
		}, "does not deny"},
		"a binding for some namespaces": {func(_ *policyOf, b *bindingOf) {
			b.Spec.MatchResources = &admissionregistrationv1.MatchResources{}
		}, "matchResources"},
	} {
		t.Run(name, func(t *testing.T) {
			policy, binding := policyObjects("p")
			test.edit(policy, binding)
			err := inForce("p", policy, binding)
			if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
				t.Errorf("want %q, got %v", test.says, err)
			}
		})
	}
	policy, _ := policyObjects("p")
	for name, err := range map[string]error{
		"no policy": inForce("p", nil, nil), "no binding": inForce("p", policy, nil),
	} {
		if err == nil || !strings.Contains(err.Error(), "does not exist") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestPodsThatNeedTheGrant(t *testing.T) {
	with := func(edit func(*corev1.Pod)) *corev1.Pod {
		pod := injectedPod(shop, "p", "web")
		edit(pod)
		return pod
	}
	deleted := metav1.Now()
	for name, test := range map[string]struct {
		pod  *corev1.Pod
		want string
	}{
		"injected":            {injectedPod(shop, "p", "web"), "web"},
		"the default account": {injectedPod(shop, "p", ""), "default"},
		"not injected":        {plainPod(shop, "p", "web"), ""},
		"being deleted":       {with(func(p *corev1.Pod) { p.DeletionTimestamp = &deleted }), "web"},
		"running":             {with(func(p *corev1.Pod) { p.Status.Phase = corev1.PodRunning }), "web"},
		"succeeded":           {with(func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }), ""},
		"failed":              {with(func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }), ""},
		"another init":        {with(func(p *corev1.Pod) { p.Spec.InitContainers[0].Name = "migrate" }), ""},
		"an init that ends":   {with(func(p *corev1.Pod) { p.Spec.InitContainers[0].RestartPolicy = nil }), ""},
		"among containers":    {with(func(p *corev1.Pod) { p.Spec.Containers, p.Spec.InitContainers = p.Spec.InitContainers, nil }), "web"},
		"not of an injector":  {with(func(p *corev1.Pod) { p.Spec.InitContainers[0].Env = nil }), ""},
		"another container": {with(func(p *corev1.Pod) {
			p.Spec.Containers, p.Spec.InitContainers = []corev1.Container{{Name: "web"}}, nil
		}), ""},
		"behind another init": {with(func(p *corev1.Pod) {
			p.Spec.InitContainers = append([]corev1.Container{{Name: "a"}}, p.Spec.InitContainers...)
		}), "web"},
		"with the opt-out set": {with(func(p *corev1.Pod) { p.Labels = map[string]string{contract.InjectLabel: contract.InjectDisabled} }), "web"},
	} {
		// A list keeps the same of the pod.
		small, err := newPodSet(nil).Transformer()(test.pod)
		if err != nil {
			t.Fatal(err)
		}
		for _, pod := range []*corev1.Pod{test.pod, small.(*corev1.Pod)} {
			if got, _ := accountOf(pod); got != test.want {
				t.Errorf("%s: %q, want %q", name, got, test.want)
			}
		}
	}
}

// The memory for a pod doesn't depend on its content.
func TestMemoryPerPodIsSmall(t *testing.T) {
	const pods = 20000
	set := newPodSet(func() {})
	heap := func() uint64 {
		runtime.GC()
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		return stats.HeapAlloc
	}
	before := heap()
	for i := range pods {
		pod := injectedPod(shop, "web-5d8f7c9b6d-"+strconv.Itoa(i), "web")
		pod.Annotations = map[string]string{"notes": strings.Repeat("x", 4096)}
		if err := set.Add(pod); err != nil {
			t.Fatal(err)
		}
	}
	if per := int64(heap()-before) / pods; per > 300 {
		t.Errorf("%d bytes per pod", per)
	}
	if needed, _ := set.accounts(); len(needed) != 1 {
		t.Errorf("accounts: %v", needed)
	}
	runtime.KeepAlive(set)
}
