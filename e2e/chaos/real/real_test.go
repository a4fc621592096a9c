package real

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/agentlet/agentlet/e2e/chaos"
	"github.com/agentlet/agentlet/e2e/scenario"
)

func TestEachFaultAndChangeHasItsAdapter(t *testing.T) {
	var want []string
	for _, fault := range chaos.Faults() {
		want = append(want, fault.Name)
	}
	if got := slices.Sorted(maps.Keys(faults())); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("faults %q, want %q", got, want)
	}
	want = nil
	for _, change := range chaos.Changes() {
		want = append(want, change.Name)
	}
	if got := slices.Sorted(maps.Keys(changes())); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("changes %q, want %q", got, want)
	}
}

func TestWatcherKeepsWhoWasKilledForMemory(t *testing.T) {
	pod := func(name, reason string) *corev1.Pod {
		ended := &corev1.ContainerStateTerminated{Reason: reason, FinishedAt: metav1.NewTime(time.Now().Add(time.Minute))}
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: "shop", UID: "uid-" + "1"},
			Status: corev1.PodStatus{PodIP: "10.244.1.7", InitContainerStatuses: []corev1.ContainerStatus{
				{Name: "agentlet", LastTerminationState: corev1.ContainerState{Terminated: ended}},
			}},
		}
	}
	for name, test := range map[string]struct{ reason, want string }{
		"by the kernel": {"OOMKilled", "agentlet of shop/web"},
		"by a test":     {"Error", ""},
	} {
		t.Run(name, func(t *testing.T) {
			client := fake.NewClientset(pod("web", test.reason))
			w := watchPods(t.Context(), client, "shop")
			defer w.stop()
			if err := within(t.Context(), 10*time.Second, "the pod", func(context.Context) error {
				if len(w.pods("shop")) != 1 {
					return errors.New("not yet")
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			if err := client.CoreV1().Pods("shop").Delete(t.Context(), "web", metav1.DeleteOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(w.outOfMemory(), ","); (test.want == "") != (got == "") || !strings.HasPrefix(got, test.want) {
				t.Errorf("killed: %q, want %q", got, test.want)
			}
			if got := w.holder("10.244.1.7"); !strings.HasPrefix(got, "web") {
				t.Errorf("the address was held by %q", got)
			}
		})
	}
}

func TestAddressOfAPodThatLives(t *testing.T) {
	now := metav1.Now()
	for name, test := range map[string]struct {
		change func(*corev1.Pod)
		want   bool
	}{
		"running":   {func(*corev1.Pod) {}, true},
		"ending":    {func(p *corev1.Pod) { p.DeletionTimestamp = &now }, false},
		"evicted":   {func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }, false},
		"completed": {func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }, false},
		"elsewhere": {func(p *corev1.Pod) { p.Status.PodIP = "10.244.1.8" }, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{UID: "1"}, Status: corev1.PodStatus{PodIP: "10.244.1.7", Phase: corev1.PodRunning}}
			test.change(pod)
			w := &watcher{known: map[types.UID]*corev1.Pod{"1": pod}}
			if got := w.lives("10.244.1.7"); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func TestEndedWebhooksAreRemoved(t *testing.T) {
	pod := func(name, component string, phase corev1.PodPhase) *corev1.Pod {
		return &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{
				Name: name, Namespace: scenario.SystemNamespace, UID: types.UID(name), Labels: map[string]string{"app.kubernetes.io/component": component},
			},
			Status: corev1.PodStatus{Phase: phase},
		}
	}
	all := []*corev1.Pod{
		pod("runs", "webhook", corev1.PodRunning), pod("evicted", "webhook", corev1.PodFailed), pod("another", "other", corev1.PodFailed),
	}
	client, known := fake.NewClientset(), map[types.UID]*corev1.Pod{}
	for _, p := range all {
		known[p.UID] = p
		if _, err := client.CoreV1().Pods(p.Namespace).Create(t.Context(), p, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	w := &World{Env: &scenario.Env{Kube: client}, watch: &watcher{known: known}}
	if err := w.removeEndedWebhooks(t.Context()); err == nil || !strings.Contains(err.Error(), "evicted") {
		t.Errorf("%v, want one that names the evicted replica", err)
	}
	left, err := client.CoreV1().Pods(scenario.SystemNamespace).List(t.Context(), metav1.ListOptions{})
	if err != nil || len(left.Items) != 2 {
		t.Errorf("%d pods are left, %v; want two", len(left.Items), err)
	}
	delete(known, "evicted")
	if err := w.removeEndedWebhooks(t.Context()); err != nil {
		t.Errorf("with none: %v", err)
	}
}

func TestCountsThatLeak(t *testing.T) {
	before := counts{agentletFiles: 10}
	if err := (counts{agentletFiles: 10 + spare[agentletFiles]}).leaks(before); err != nil {
		t.Error(err)
	}
	if err := (counts{agentletFiles: 11 + spare[agentletFiles]}).leaks(before); err == nil {
		t.Error("a leak was not found")
	}
}

func TestWithinEnds(t *testing.T) {
	calls := 0
	err := within(t.Context(), time.Minute, "a pod", func(context.Context) error { calls++; return chaos.ErrNothing })
	if !errors.Is(err, chaos.ErrNothing) || calls != 1 {
		t.Errorf("%v after %d calls, want nothing at once", err, calls)
	}
}
