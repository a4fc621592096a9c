package grants

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// watches has the pods of the opted-in namespaces and of those with a binding of ours. Pods of other namespaces are never
// requested.
type watches struct {
	client  kubernetes.Interface
	changed func(namespace string)
	failed  func(err error)

	mu          sync.Mutex
	byNamespace map[string]*watch
	running     sync.WaitGroup
}

// watch is that of one namespace.
type watch struct {
	pods *podSet
	stop context.CancelFunc
}

func newWatches(client kubernetes.Interface, changed func(namespace string), failed func(err error)) *watches {
	return &watches{client: client, changed: changed, failed: failed, byNamespace: map[string]*watch{}}
}

// pods of the namespace. The first call begins the watch, which lasts until stop or the end of the context.
func (w *watches) pods(ctx context.Context, namespace string) *podSet {
	w.mu.Lock()
	defer w.mu.Unlock()
	if existing := w.byNamespace[namespace]; existing != nil {
		return existing.pods
	}
	ctx, stop := context.WithCancel(ctx)
	set := newPodSet(func() { w.changed(namespace) })
	w.byNamespace[namespace] = &watch{pods: set, stop: stop}
	w.running.Go(func() { w.follow(ctx, namespace, set) })
	return set
}

// stop ends the namespace's watch, if there is one.
func (w *watches) stop(namespace string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if existing := w.byNamespace[namespace]; existing != nil {
		existing.stop()
		delete(w.byNamespace, namespace)
	}
}

// wait for the end of all watches, whose context has ended.
func (w *watches) wait() { w.running.Wait() }

// follow lists and watches the pods of a namespace until the context ends. It retries with client-go's backoff.
func (w *watches) follow(ctx context.Context, namespace string, set *podSet) {
	pods := w.client.CoreV1().Pods(namespace)
	source := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			list, err := pods.List(ctx, options)
			w.failed(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (apiwatch.Interface, error) {
			watch, err := pods.Watch(ctx, options)
			w.failed(err)
			return watch, err
		},
	}
	cache.NewReflectorWithOptions(cache.ToListWatcherWithWatchListSemantics(source, w.client), &corev1.Pod{}, set,
		cache.ReflectorOptions{Name: "injected-pods"}).RunWithContext(ctx)
}

// podSet holds the pods of a namespace that need the grant, as two short strings each, so that its size doesn't depend on what
// is in the pods.
type podSet struct {
	changed func()

	mu     sync.Mutex
	listed bool
	pods   map[string]string // name → service account
}

var _ cache.TransformingStore = (*podSet)(nil)

func newPodSet(changed func()) *podSet { return &podSet{changed: changed, pods: map[string]string{}} }

// accounts that pods need. ok is false before the first list.
func (s *podSet) accounts() (needed map[string]bool, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	needed = map[string]bool{}
	for _, account := range s.pods {
		needed[account] = true
	}
	return needed, s.listed
}

// Add takes in a pod from the reflector, as Update does.
func (s *podSet) Add(object any) error { return s.Update(object) }

// Update takes in a pod from the reflector.
func (s *podSet) Update(object any) error {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil
	}
	s.mu.Lock()
	before, had := s.pods[pod.Name]
	account, needs := accountOf(pod)
	if needs {
		s.pods[pod.Name] = account
	} else {
		delete(s.pods, pod.Name)
	}
	s.mu.Unlock()
	if had != needs || before != account {
		s.changed()
	}
	return nil
}

// Delete takes in from the reflector that a pod was deleted.
func (s *podSet) Delete(object any) error {
	pod, ok := object.(*corev1.Pod)
	if !ok {
		return nil
	}
	s.mu.Lock()
	_, had := s.pods[pod.Name]
	delete(s.pods, pod.Name)
	s.mu.Unlock()
	if had {
		s.changed()
	}
	return nil
}

// Replace takes in a new list from the reflector, with all changes since the last one.
func (s *podSet) Replace(list []any, _ string) error {
	pods := map[string]string{}
	for _, object := range list {
		if pod, ok := object.(*corev1.Pod); ok {
			if account, needs := accountOf(pod); needs {
				pods[pod.Name] = account
			}
		}
	}
	s.mu.Lock()
	s.pods, s.listed = pods, true
	s.mu.Unlock()
	s.changed()
	return nil
}

// Resync does nothing, because no other store is filled from this one.
func (s *podSet) Resync() error { return nil }

// Transformer trims pods while a list is read, so that it isn't held as whole pods.
func (s *podSet) Transformer() cache.TransformFunc {
	return func(object any) (any, error) {
		pod, ok := object.(*corev1.Pod)
		if !ok {
			return object, nil
		}
		small := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{
			Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID, ResourceVersion: pod.ResourceVersion,
		}}
		small.Status.Phase = pod.Status.Phase
		if injected(pod) {
			small.Spec.ServiceAccountName = pod.Spec.ServiceAccountName
			small.Spec.Containers = mark
		}
		return small, nil
	}
}

// mark is what is kept of an injected pod's containers.
var mark = []corev1.Container{{Name: contract.ContainerName, Env: []corev1.EnvVar{{Name: contract.EnvNonce, Value: "not kept"}}}}

// injected reports whether a pod has an agentlet that an injector added. Other containers may have its name.
func injected(pod *corev1.Pod) bool {
	agentlet := registration.Agentlet(pod)
	if agentlet == nil {
		return false
	}
	_, there := registration.Environment(agentlet, contract.EnvNonce)
	return there
}

// accountOf returns the service account for which a pod needs the grant. Only a pod with an agentlet needs it, until its
// containers have ended, because a pod that is being deleted still drains.
func accountOf(pod *corev1.Pod) (account string, needs bool) {
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed || !injected(pod) {
		return "", false
	}
	if pod.Spec.ServiceAccountName == "" {
		return "default", true
	}
	return pod.Spec.ServiceAccountName, true
}
