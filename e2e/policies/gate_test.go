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

// bigPod has as much of everything as a pod may well have.
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

// token is what the API server says of a service account's token.
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
		meta    = "labels, annotations, finalizers and owners may not change through pods/status"
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
		"an owner": func(pod *corev1.Pod) { pod.OwnerReferences = []metav1.OwnerReference{{UID: types.UID("x")}} },
	} {
		cases["own pod: "+name] = attempt{own, role, change, meta}
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
			// Kubelets write most of what is written, and an authorizer may be a webhook far away.
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
