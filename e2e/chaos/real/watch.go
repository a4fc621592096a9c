package real

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// watcher watches pods, so that it also sees pods that exist only between two checks.
type watcher struct {
	began time.Time
	end   context.CancelFunc

	mu      sync.Mutex
	known   map[types.UID]*corev1.Pod
	holders map[string]string // by address, the last pod that had it
	killed  map[string]bool   // containers that were OOM-killed
}

// watchPods watches the pods of namespaces until stop is called.
func watchPods(ctx context.Context, client kubernetes.Interface, namespaces ...string) *watcher {
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	w := &watcher{
		began:   time.Now(),
		end:     end,
		known:   map[types.UID]*corev1.Pod{},
		holders: map[string]string{},
		killed:  map[string]bool{},
	}
	for _, namespace := range namespaces {
		factory := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithNamespace(namespace))
		informer := factory.Core().V1().Pods().Informer()
		_, _ = informer.AddEventHandler(cache.ResourceEventHandlerFuncs{ // fails only on a stopped informer
			AddFunc:    func(object any) { w.see(object, false) },
			UpdateFunc: func(_, object any) { w.see(object, false) },
			DeleteFunc: func(object any) { w.see(object, true) },
		})
		factory.Start(ctx.Done())
		factory.WaitForCacheSync(ctx.Done())
	}
	return w
}

func (w *watcher) stop() { w.end() }

func (w *watcher) see(object any, deleted bool) {
	if unknown, ok := object.(cache.DeletedFinalStateUnknown); ok {
		object = unknown.Obj
	}
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if pod.Status.PodIP != "" && !deleted {
		w.holders[pod.Status.PodIP] = pod.Name + " of " + pod.Spec.NodeName
	}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		for _, state := range []corev1.ContainerState{status.State, status.LastTerminationState} {
			if ended := state.Terminated; ended != nil && ended.Reason == "OOMKilled" && ended.FinishedAt.After(w.began) {
				w.killed[fmt.Sprintf("%s of %s/%s on %s at %s", status.Name, pod.Namespace, pod.Name, pod.Spec.NodeName,
					ended.FinishedAt.UTC().Format(time.TimeOnly))] = true
			}
		}
	}
	if deleted {
		delete(w.known, pod.UID)
	} else {
		w.known[pod.UID] = pod
	}
}

// pods returns the pods of a namespace, by name.
func (w *watcher) pods(namespace string) (pods []*corev1.Pod) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, pod := range w.known {
		if pod.Namespace == namespace {
			pods = append(pods, pod)
		}
	}
	slices.SortFunc(pods, func(a, b *corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods
}

func (w *watcher) pod(uid types.UID) *corev1.Pod {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[uid]
}

// holder returns the pod that has an address, or had it last.
func (w *watcher) holder(ip string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.holders[ip]
}

// lives reports whether a pod that is not terminating has an address.
func (w *watcher) lives(ip string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, pod := range w.known {
		ended := pod.DeletionTimestamp != nil || pod.Status.Phase == corev1.PodFailed || pod.Status.Phase == corev1.PodSucceeded
		if pod.Status.PodIP == ip && !ended {
			return true
		}
	}
	return false
}

// outOfMemory returns the containers that were OOM-killed since the watch began.
func (w *watcher) outOfMemory() (killed []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for container := range w.killed {
		killed = append(killed, container)
	}
	slices.Sort(killed)
	return killed
}
