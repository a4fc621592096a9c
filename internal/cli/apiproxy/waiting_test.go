package apiproxy

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

var now = time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)

func ago(d time.Duration) metav1.Time { return metav1.Time{Time: now.Add(-d)} }

func TestAgentletWaits(t *testing.T) {
	waiting := func(reason, message string) corev1.ContainerState {
		return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
	}
	running := func(since time.Duration) corev1.ContainerState {
		return corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: ago(since)}}
	}
	ended := func(code int32, reason string) corev1.ContainerState {
		return corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: code, Reason: reason}}
	}
	for name, test := range map[string]struct {
		state, last, first corev1.ContainerState // of the agentlet, and of the container before it
		change             func(pod *corev1.Pod)
		why                string
		stuck              bool
		remedy             string
	}{
		"runs":                         {state: running(time.Hour)},
		"has started":                  {state: running(time.Second), why: "the agentlet has just started", remedy: "describe pod web"},
		"runs again":                   {state: running(time.Second), last: ended(2, "Error")},
		"nobody knows when it started": {state: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}},
		"no image":                     {state: waiting("ErrImagePull", "not found"), why: "the container agentlet waits: ErrImagePull: not found", stuck: true, remedy: "describe pod web"},
		"no Secret":                    {state: waiting("CreateContainerConfigError", ""), why: "the container agentlet waits: CreateContainerConfigError", stuck: true, remedy: "describe pod web"},
		"crashes":                      {state: waiting("CrashLoopBackOff", "back-off 10s"), last: ended(137, "OOMKilled"), why: "the container agentlet waits: CrashLoopBackOff: back-off 10s; before that it ended: OOMKilled, exit code 137", stuck: true, remedy: "logs web -c agentlet --previous"},
		"has ended":                    {state: ended(2, "Error"), why: "the container agentlet has ended: exit code 2", stuck: true, remedy: "logs web -c agentlet"},
		"is created":                   {state: waiting("ContainerCreating", ""), why: "the container agentlet waits: ContainerCreating", remedy: "describe pod web"},
		"waits its turn":               {state: waiting("PodInitializing", ""), first: running(time.Hour), why: "the container agentlet waits: PodInitializing", remedy: "describe pod web"},
		"another is stuck":             {state: waiting("PodInitializing", ""), first: waiting("ImagePullBackOff", ""), why: "the container first waits: ImagePullBackOff, and the agentlet starts after it", stuck: true, remedy: "describe pod web"},
		"another is done":              {state: running(time.Hour), first: ended(0, "Completed")},
		"no node": {change: func(p *corev1.Pod) {
			p.Spec.NodeName, p.Status.Phase, p.Status.InitContainerStatuses = "", corev1.PodPending, nil
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Message: "0/3 nodes"}}
		}, why: "the pod is not scheduled: 0/3 nodes", remedy: "describe pod web"},
		"nothing said yet": {change: func(p *corev1.Pod) { p.Status.Phase, p.Status.InitContainerStatuses = corev1.PodPending, nil }, why: "its containers are being created", remedy: "describe pod web"},
		"nothing said":     {change: func(p *corev1.Pod) { p.Status.InitContainerStatuses = nil }},
		"no agentlet":      {change: func(p *corev1.Pod) { p.Spec.InitContainers = nil }},
		"crashes, among the containers": {
			change: amongContainers, state: waiting("CrashLoopBackOff", "back-off 10s"),
			why: "the container agentlet waits: CrashLoopBackOff: back-off 10s", stuck: true, remedy: "describe pod web",
		},
		"an init container is stuck before the containers": {
			change: amongContainers, first: waiting("ImagePullBackOff", ""), state: waiting("PodInitializing", ""),
			why: "the container first waits: ImagePullBackOff, and the agentlet starts after it", stuck: true, remedy: "describe pod web",
		},
	} {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
			Spec:       corev1.PodSpec{NodeName: "node1", InitContainers: []corev1.Container{{Name: "first"}, {Name: contract.ContainerName, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}},
			Status: corev1.PodStatus{Phase: corev1.PodRunning, InitContainerStatuses: []corev1.ContainerStatus{
				{Name: "first", State: test.first}, {Name: contract.ContainerName, State: test.state, LastTerminationState: test.last},
			}},
		}
		if test.change != nil {
			test.change(pod)
		}
		got := AgentletWaits(pod, now)
		switch {
		case test.why == "" && got != nil:
			t.Errorf("%s: %+v, want none", name, got)
		case test.why != "" && (got == nil || got.Why != test.why || got.Stuck != test.stuck):
			t.Errorf("%s: %+v, want %q, stuck %v", name, got, test.why, test.stuck)
		case got != nil && got.Remedy(pod) != "kubectl -n shop "+test.remedy:
			t.Errorf("%s: %s", name, got.Remedy(pod))
		}
	}
}

func TestContainerWaits(t *testing.T) {
	status := func(name string, state corev1.ContainerState) corev1.ContainerStatus {
		return corev1.ContainerStatus{Name: name, State: state}
	}
	creating := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}}
	stuck := corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull"}}
	done := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{}}
	for name, test := range map[string]struct {
		inits, containers []corev1.ContainerStatus
		want              string
	}{
		"none":             {},
		"all run":          {containers: []corev1.ContainerStatus{status("web", corev1.ContainerState{})}},
		"is created":       {containers: []corev1.ContainerStatus{status("web", creating)}, want: "the container web waits: ContainerCreating"},
		"one is stuck":     {containers: []corev1.ContainerStatus{status("web", creating), status("log", stuck)}, want: "the container log waits: ErrImagePull"},
		"not the agentlet": {inits: []corev1.ContainerStatus{status(contract.ContainerName, stuck), status("first", done)}},
	} {
		got := ""
		if w := ContainerWaits(&corev1.Pod{Status: corev1.PodStatus{InitContainerStatuses: test.inits, ContainerStatuses: test.containers}}); w != nil {
			got = w.Why
		}
		if got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestSince(t *testing.T) {
	started, created := ago(time.Hour), ago(2*time.Hour)
	for name, test := range map[string]struct {
		at, created metav1.Time
		started     *metav1.Time
		want        time.Duration
		unknown     bool
	}{
		"a time":             {at: ago(time.Minute), created: created, started: &started, want: time.Minute},
		"no time":            {created: created, started: &started, want: time.Hour},
		"no start":           {created: created, want: 2 * time.Hour},
		"a zero start":       {created: created, started: &metav1.Time{}, want: 2 * time.Hour},
		"nothing at all":     {unknown: true},
		"a time alone":       {at: ago(time.Minute), want: time.Minute},
		"before the pod":     {at: ago(9 * time.Hour), created: created, started: &started, want: time.Hour},
		"a clock ahead":      {at: ago(-time.Second), created: created, started: &started, want: 0},
		"in the far future":  {at: ago(-time.Hour), created: created, started: &started, want: time.Hour},
		"a pod of to-morrow": {created: ago(-time.Hour), want: 0},
	} {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{CreationTimestamp: test.created}, Status: corev1.PodStatus{StartTime: test.started}}
		if got, known := Since(test.at, pod, now); got != test.want || known == test.unknown {
			t.Errorf("%s: %s, %v, want %s", name, got, known, test.want)
		}
	}
}

// amongContainers moves the agentlet to the pod's containers.
func amongContainers(pod *corev1.Pod) {
	pod.Spec.InitContainers, pod.Spec.Containers = pod.Spec.InitContainers[:1], pod.Spec.InitContainers[1:]
	pod.Spec.Containers[0].RestartPolicy = nil
	statuses := pod.Status.InitContainerStatuses
	pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses = statuses[:1], statuses[1:]
}
