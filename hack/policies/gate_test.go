package policies

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/authentication/user"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// bigPod returns a pod with as much of everything as is realistic.
func bigPod() *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
		Namespace: "shop", Name: "web", UID: "uid-of-web", Labels: map[string]string{}, Annotations: map[string]string{}, Finalizers: []string{"a.b/c"},
	}}
	for i := range 100 {
		pod.Labels[fmt.Sprintf("example.com/label-%d", i)] = strings.Repeat("x", 63)
		pod.Annotations[fmt.Sprintf("example.com/annotation-%d", i)] = strings.Repeat("x", 2000)
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: fmt.Sprintf("container-%d", i), Image: strings.Repeat("i", 200), ImageID: strings.Repeat("d", 200),
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: strings.Repeat("m", 4096)}},
		})
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{
			Type: corev1.PodConditionType(fmt.Sprintf("example.com/condition-%d", i)), Status: "True", Message: strings.Repeat("m", 1024),
		})
	}
	pod.Status.PodIP, pod.Status.Phase = "10.1.2.3", corev1.PodRunning
	return pod
}

// token returns the user info of a service account's token, as the API server provides it.
func token(name string, extra map[string]string) user.Info {
	info := &user.DefaultInfo{Name: name, Groups: []string{"system:serviceaccounts"}, Extra: map[string][]string{}}
	for key, value := range extra {
		info.Extra["authentication.kubernetes.io/"+key] = []string{value}
	}
	return info
}

func setCondition(pod *corev1.Pod, kind string) {
	pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodConditionType(kind), Status: "True"})
}

func TestOwnPodGate(t *testing.T) {
	const account = "system:serviceaccount:shop:web"
	own := token(account, map[string]string{"pod-name": "web", "pod-uid": "uid-of-web", "node-name": "node1"})
	role := map[string]bool{"open gates": true, "patch pods/status": true}
	with := func(more string) map[string]bool {
		all := maps.Clone(role)
		all[more] = true
		return all
	}
	opens := func(pod *corev1.Pod) { setCondition(pod, contract.Condition) }
	const (
		notOwn  = "a pod may patch only its own status"
		meta    = "metadata may not change through pods/status, neither labels, annotations, finalizers, owners nor generateName"
		applied = "a pod may not become a new manager of fields by server-side apply"
		once    = "a pod has one condition of each type"
		status  = "a condition's status is True, False or Unknown"
		reason  = "a condition's reason is CamelCase and has at most 64 letters and digits"
		message = "a condition's message has at most 4096 bytes, and no control characters"
		nothing = ""
	)
	only := "only these conditions may change: ['agentlet.dev/registered', 'example.com/ours']"
	type attempt struct {
		user       user.Info
		authorizes map[string]bool
		change     func(*corev1.Pod)
		denial     string
	}
	cases := map[string]attempt{
		"the own gate":              {own, role, opens, nothing},
		"the gate that is allowed":  {own, role, func(pod *corev1.Pod) { setCondition(pod, "example.com/ours") }, nothing},
		"nothing":                   {own, role, func(*corev1.Pod) {}, nothing},
		"another pod":               {token(account, map[string]string{"pod-name": "other", "pod-uid": "other"}), role, opens, notOwn},
		"a predecessor of the name": {token(account, map[string]string{"pod-name": "web", "pod-uid": "other"}), role, opens, notOwn},
		"another of the same UID":   {token(account, map[string]string{"pod-name": "other", "pod-uid": "uid-of-web"}), role, opens, notOwn},
		"no pod":                    {token(account, nil), role, opens, notOwn},
		"a node's token":            {token(account, map[string]string{"node-name": "node1"}), role, opens, notOwn},
		"a user who is bound":       {&user.DefaultInfo{Name: "mallory"}, role, opens, notOwn},
		"another namespace's":       {token("system:serviceaccount:other:web", nil), role, opens, notOwn},
		"without our role":          {token(account, nil), map[string]bool{"patch pods/status": true}, func(pod *corev1.Pod) { pod.Status.Phase = "Failed" }, nothing},
		"who may update":            {token(account, nil), with("update pods/status"), func(pod *corev1.Pod) { pod.Status.Phase = "Failed" }, nothing},
		"a kubelet":                 {&user.DefaultInfo{Name: "system:node:node1"}, with("update pods/status"), func(pod *corev1.Pod) { pod.Status.Phase = "Failed" }, nothing},
	}
	for name, change := range map[string]func(*corev1.Pod){
		"a label": func(pod *corev1.Pod) { pod.Labels["a"] = "b" }, "no labels": func(pod *corev1.Pod) { pod.Labels = nil },
		"an annotation": func(pod *corev1.Pod) { pod.Annotations["a"] = "b" }, "a finalizer": func(pod *corev1.Pod) { pod.Finalizers = nil },
		"an owner":       func(pod *corev1.Pod) { pod.OwnerReferences = []metav1.OwnerReference{{UID: types.UID("x")}} },
		"a generateName": func(pod *corev1.Pod) { pod.GenerateName = strings.Repeat("x", 1400<<10) },
	} {
		cases["own pod: "+name] = attempt{own, role, change, meta}
	}
	manages := func(operation metav1.ManagedFieldsOperationType) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			pod.ManagedFields = append(pod.ManagedFields, metav1.ManagedFieldsEntry{
				Manager: "agentlet", Operation: operation, Subresource: "status", FieldsV1: metav1.NewFieldsV1(`{"f:status":{}}`),
			})
		}
	}
	cases["own pod: a manager that updates"] = attempt{own, role, manages(metav1.ManagedFieldsOperationUpdate), nothing}
	cases["own pod: a manager that applies"] = attempt{own, role, manages(metav1.ManagedFieldsOperationApply), applied}
	writes := func(conditions ...corev1.PodCondition) func(*corev1.Pod) {
		return func(pod *corev1.Pod) {
			for _, c := range conditions {
				if c.Type == "" {
					c.Type = contract.Condition
				}
				if c.Status == "" {
					c.Status = "True"
				}
				pod.Status.Conditions = append(pod.Status.Conditions, c)
			}
		}
	}
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		denial string
	}{
		"twice":                          {writes(corev1.PodCondition{}, corev1.PodCondition{Status: "False"}), once},
		"twice the same":                 {writes(corev1.PodCondition{}, corev1.PodCondition{}), once},
		"thrice another":                 {writes(corev1.PodCondition{Type: "example.com/ours"}, corev1.PodCondition{Type: "example.com/ours", Status: "False"}), once},
		"both":                           {writes(corev1.PodCondition{}, corev1.PodCondition{Type: "example.com/ours"}), nothing},
		"unknown":                        {writes(corev1.PodCondition{Status: "Unknown"}), nothing},
		"a status that does not exist":   {writes(corev1.PodCondition{Status: "Perhaps"}), status},
		"a long status":                  {writes(corev1.PodCondition{Status: corev1.ConditionStatus(strings.Repeat("T", 1<<20))}), status},
		"a reason with a space":          {writes(corev1.PodCondition{Reason: "Not ready"}), reason},
		"a reason with an escape":        {writes(corev1.PodCondition{Reason: "Ready\x1b[2J"}), reason},
		"a reason with a line break":     {writes(corev1.PodCondition{Reason: "Ready\n"}), reason},
		"a long reason":                  {writes(corev1.PodCondition{Reason: "R" + strings.Repeat("r", 64)}), reason},
		"a reason as long as it may be":  {writes(corev1.PodCondition{Reason: "R" + strings.Repeat("r", 63)}), nothing},
		"a message with an escape":       {writes(corev1.PodCondition{Message: "\x1b[2J"}), message},
		"a message with a C1 control":    {writes(corev1.PodCondition{Message: "\u009b2J"}), message},
		"a message of two lines":         {writes(corev1.PodCondition{Message: "a\n\tb"}), nothing},
		"a message as long as it may be": {writes(corev1.PodCondition{Message: strings.Repeat("ü", contract.MaxConditionMessage/2)}), nothing},
		"a longer message":               {writes(corev1.PodCondition{Message: strings.Repeat("ü", contract.MaxConditionMessage/2) + "m"}), message},
		"a message of 1.4 MiB":           {writes(corev1.PodCondition{Message: strings.Repeat("m", 1400<<10)}), message},
		"a message of another's":         {writes(corev1.PodCondition{Type: "example.com/ours", Message: strings.Repeat("m", 1400<<10)}), message},
	} {
		cases["own pod: "+name] = attempt{own, role, test.change, test.denial}
	}
	for name, change := range map[string]func(*corev1.Pod){
		"Ready": func(pod *corev1.Pod) { setCondition(pod, "Ready") }, "another gate": func(pod *corev1.Pod) { setCondition(pod, "example.com/theirs") },
		"the phase": func(pod *corev1.Pod) { pod.Status.Phase = "Failed" }, "no podIP": func(pod *corev1.Pod) { pod.Status.PodIP = "" },
		"a container": func(pod *corev1.Pod) { pod.Status.ContainerStatuses[99].Ready = true }, "a message": func(pod *corev1.Pod) { pod.Status.Message = "well" },
		"a condition less": func(pod *corev1.Pod) { pod.Status.Conditions = pod.Status.Conditions[1:] },
	} {
		cases["own pod: "+name] = attempt{own, role, change, only}
	}
	each(t, "own-pod-gate", func(t *testing.T, c compiled) {
		for name, test := range cases {
			now, asked := bigPod(), 0
			test.change(now)
			denials, cost := c.judge(t, request{
				operation: admission.Update, kind: corev1.SchemeGroupVersion.WithKind("Pod"), resource: "pods/status",
				old: bigPod(), now: now, user: test.user, authorizes: test.authorizes, namespace: &corev1.Namespace{}, asked: &asked,
			})
			// Kubelets make most of the writes, and an authorizer may be a remote webhook. So limit the authorizer calls.
			if most, known := map[string]int{"a kubelet": 0, "who may update": 1}[name]; known && asked > most {
				t.Errorf("%s: the authorizers were asked %d times, want at most %d", name, asked, most)
			}
			if len(denials) == 0 != (test.denial == nothing) || len(denials) > 0 && denials[0] != test.denial {
				t.Errorf("%s: denied by %q, want %q", name, denials, test.denial)
			}
			if name == "the own gate" {
				t.Logf("%s costs %d", name, cost)
			}
		}
	})
}

// TestOwnPodGateIsNotAskedOfWhatStays checks that unchanged conditions of others don't affect the agentlet's own write.
func TestOwnPodGateIsNotAskedOfWhatStays(t *testing.T) {
	before := bigPod()
	for range 2 {
		before.Status.Conditions = append(before.Status.Conditions, corev1.PodCondition{
			Type: "example.com/ours", Status: "Maybe", Reason: "not a reason", Message: strings.Repeat("\x00", 8192),
		})
	}
	now := before.DeepCopy()
	setCondition(now, contract.Condition)
	each(t, "own-pod-gate", func(t *testing.T, c compiled) {
		denials, _ := c.judge(t, request{
			operation: admission.Update, kind: corev1.SchemeGroupVersion.WithKind("Pod"), resource: "pods/status", old: before, now: now,
			user:       token("system:serviceaccount:shop:web", map[string]string{"pod-name": "web", "pod-uid": "uid-of-web"}),
			authorizes: map[string]bool{"open gates": true}, namespace: &corev1.Namespace{},
		})
		if len(denials) > 0 {
			t.Errorf("denied by %q", denials)
		}
	})
}
