// Package namespaces has the annotations and labels of opted-in namespaces. It watches them, so that an admission needs no
// request. What it knows may lag behind the API server as far as a watch does. Only a namespace that the watch hasn't delivered
// yet is requested from the API server.
package namespaces

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/injector"
)

const (
	// resync is how often a handler of Informer gets every namespace again, in case an event was lost.
	resync = 10 * time.Minute
	// patience bounds the request for one namespace. It is half of the shortest timeout that the chart sets for a call,
	// webhook.workloads.timeoutSeconds.
	patience = time.Second
	// questions are the requests per second, and at once, because a client of the webhook may name any namespaces. For a new
	// namespace the watch is usually faster than a request.
	questions      = 5
	questionsBurst = 10
	// absentFor is how long an absent namespace is remembered, unless the watch delivers it. It is less than patience, so that
	// a caller who asks for a namespace that was just created gets a new answer.
	absentFor = patience / 2
)

// Namespaces holds the opted-in namespaces, as far as an admission needs them. It is safe for concurrent use.
type Namespaces struct {
	client    kubernetes.Interface
	optedIn   labels.Selector
	factory   informers.SharedInformerFactory
	informer  cache.SharedIndexInformer
	lister    listers.NamespaceLister
	questions *rate.Limiter
	// requests has one request at a time for each namespace. Callers who come meanwhile get its answer if it found one.
	requests singleflight.Group

	mu sync.Mutex
	// absent are namespaces that don't exist, and until when that is remembered. Their number is bounded by questions.
	absent map[string]time.Time
	// news is closed when the watch delivers a namespace.
	news chan struct{}
}

// New returns Namespaces that are empty until Run.
func New(client kubernetes.Interface) (*Namespaces, error) {
	optedIn, err := labels.ValidatedSelectorFromSet(labels.Set{contract.InjectLabel: contract.InjectEnabled})
	if err != nil {
		return nil, fmt.Errorf("select opted-in namespaces: %w", err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, resync,
		informers.WithTransform(trim),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = optedIn.String() }))
	namespaces := factory.Core().V1().Namespaces()
	n := &Namespaces{
		client: client, optedIn: optedIn, factory: factory,
		informer: namespaces.Informer(), lister: namespaces.Lister(),
		questions: rate.NewLimiter(questions, questionsBurst), absent: map[string]time.Time{}, news: make(chan struct{}),
	}
	if _, err := n.informer.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: func(any) { n.told() }}); err != nil {
		return nil, fmt.Errorf("follow namespaces: %w", err)
	}
	return n, nil
}

// Informer is the only watch of the opted-in namespaces. Run runs it. It holds the fields that trim keeps.
func (n *Namespaces) Informer() cache.SharedIndexInformer { return n.informer }

// Run watches until the context ends, and returns nil. It retries with backoff.
func (n *Namespaces) Run(ctx context.Context) error {
	n.factory.Start(ctx.Done())
	<-ctx.Done()
	n.factory.Shutdown()
	return nil
}

// Ready is nil once all namespaces have been listed. It stays nil while the API server is away, because the last state still
// holds.
func (n *Namespaces) Ready() error {
	if !n.informer.HasSynced() {
		return errors.New("namespaces are not read yet")
	}
	return nil
}

// Get returns a namespace with the fields that trim keeps, to be read only. known is false for a namespace that the watch hasn't
// delivered; call Ask then.
func (n *Namespaces) Get(namespace string) (found *corev1.Namespace, known bool) {
	if n.Ready() != nil {
		return nil, false
	}
	found, err := n.lister.Get(namespace)
	return found, err == nil
}

// Ask returns the same of a namespace that the watch hasn't delivered, because it was created or opted in a moment ago,
// or the watch is interrupted. It asks the API server, unless the watch is faster, and takes at most a second. It returns an
// error if that fails or if there is no such opted-in namespace, because annotations are never guessed.
func (n *Namespaces) Ask(ctx context.Context, namespace string) (*corev1.Namespace, error) {
	if err := n.Ready(); err != nil {
		return nil, err
	}
	if len(validation.IsDNS1123Label(namespace)) > 0 {
		return nil, fmt.Errorf("%.64q is no name of a namespace", namespace)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	until := fmt.Errorf("namespace %s is not known yet, and the API server does not answer: try again", namespace)
	for ctx.Err() == nil {
		news := n.nextNews()
		if found, known := n.Get(namespace); known {
			return found, nil
		}
		var answer singleflight.Result
		mine := false
		select {
		case <-news:
			continue
		case <-ctx.Done():
			continue
		case answer = <-n.requests.DoChan(namespace, func() (_ any, err error) {
			mine = true
			defer func() { // singleflight would end the process, where the server gives up one review
				if p := recover(); p != nil {
					err = fmt.Errorf("namespace %s is not known yet: panic: %v", namespace, p)
				}
			}()
			return n.request(context.WithoutCancel(ctx), namespace)
		}):
		}
		var later *laterError
		switch {
		case errors.As(answer.Err, &later):
		case answer.Err != nil && !mine: // A request that began before this call may not know a namespace of now.
			until = answer.Err
			continue
		default:
			found, _ := answer.Val.(*corev1.Namespace)
			return found, answer.Err
		}
		until = later.answer
		timer := time.NewTimer(later.wait)
		select {
		case <-news:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil, until
}

// laterError says that a namespace may be requested after wait, and what the answer is until then.
type laterError struct {
	wait   time.Duration
	answer error
}

func (e *laterError) Error() string { return e.answer.Error() }

// request reads a namespace from the API server if it is its turn. Else it returns a laterError. It takes at most patience.
func (n *Namespaces) request(ctx context.Context, namespace string) (*corev1.Namespace, error) {
	if wait := n.absentFor(namespace); wait > 0 {
		return nil, &laterError{wait, absentError(namespace)}
	}
	if !n.questions.Allow() {
		err := fmt.Errorf("namespace %s is not known yet, and too many others are asked for: try again", namespace)
		return nil, &laterError{time.Second / questions, err}
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return n.list(ctx, namespace)
}

// absentFor returns how long the namespace is still remembered as absent.
func (n *Namespaces) absentFor(namespace string) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	return time.Until(n.absent[namespace])
}

// list reads a namespace from the API server. It uses the verb list, which the informer needs anyway, and so needs no get.
func (n *Namespaces) list(ctx context.Context, namespace string) (*corev1.Namespace, error) {
	found, err := n.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{
		LabelSelector: n.optedIn.String(), FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, namespace).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("namespace %s is not known yet: %w", namespace, err)
	}
	for i := range found.Items {
		if found.Items[i].Name == namespace {
			return trimmed(&found.Items[i]), nil
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	maps.DeleteFunc(n.absent, func(_ string, until time.Time) bool { return until.Before(now) })
	n.absent[namespace] = now.Add(absentFor)
	return nil, absentError(namespace)
}

func absentError(namespace string) error {
	return fmt.Errorf("namespace %s does not exist, or has no label %s=%s", namespace, contract.InjectLabel, contract.InjectEnabled)
}

// told wakes the callers that wait for a namespace.
func (n *Namespaces) told() {
	n.mu.Lock()
	defer n.mu.Unlock()
	close(n.news)
	n.news = make(chan struct{})
}

func (n *Namespaces) nextNews() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.news
}

// trim keeps the fields that are read here and by users of Informer, so that the memory for a namespace doesn't depend on what
// others write into it.
func trim(object any) (any, error) {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		return object, nil
	}
	return trimmed(namespace), nil
}

func trimmed(namespace *corev1.Namespace) *corev1.Namespace {
	small := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: namespace.Name, UID: namespace.UID, ResourceVersion: namespace.ResourceVersion,
		Annotations: injector.NamespaceAnnotations(namespace.Annotations), Labels: injector.NamespaceLabels(namespace.Labels),
	}}
	if value, there := namespace.Labels[contract.InjectLabel]; there {
		if small.Labels == nil {
			small.Labels = map[string]string{}
		}
		small.Labels[contract.InjectLabel] = value
	}
	return small
}
