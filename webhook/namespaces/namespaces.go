// Package namespaces is what the webhook knows of opted-in namespaces. It watches them, so that an admission asks nobody and
// waits for nothing: what it is told may be older than the API server's word by the time that a watch takes. Only about a
// namespace that the watch has not told of is the API server asked.
package namespaces

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

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
)

const (
	// resync is how often a handler of Informer is told of every namespace again, in case it lost an event.
	resync = 10 * time.Minute
	// patience bounds the question about one namespace. It is half of the shortest timeout that the chart gives to a call,
	// webhook.workloads.timeoutSeconds.
	patience = time.Second
	// questions a second, and at once: whoever reaches the webhook may name any namespaces. Of a new one the watch tells
	// sooner than it is asked for.
	questions      = 5
	questionsBurst = 10
	// absentFor is how long it is believed that there is no such namespace, unless the watch tells otherwise. It is less than
	// patience: who asks for one that has just been created gets a new answer.
	absentFor = patience / 2
)

// Namespaces holds the opted-in namespaces' annotations. It is safe for concurrent use.
type Namespaces struct {
	client    kubernetes.Interface
	optedIn   labels.Selector
	factory   informers.SharedInformerFactory
	informer  cache.SharedIndexInformer
	lister    listers.NamespaceLister
	questions *rate.Limiter

	mu sync.Mutex
	// absent are namespaces that don't exist, and until when that is believed. There are as many as questions in that time.
	absent map[string]time.Time
	// news is closed when the watch tells of a namespace.
	news chan struct{}
}

// New returns Namespaces that know nothing before Run.
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

// Informer is the one watch of the opted-in namespaces, which Run runs. It holds of each what trim keeps.
func (n *Namespaces) Informer() cache.SharedIndexInformer { return n.informer }

// Run watches until the context ends, and returns nil. What breaks is taken up again with backoff.
func (n *Namespaces) Run(ctx context.Context) error {
	n.factory.Start(ctx.Done())
	<-ctx.Done()
	n.factory.Shutdown()
	return nil
}

// Ready is nil once all namespaces have been read. It does not change back: while the API server is away, what was last
// read holds.
func (n *Namespaces) Ready() error {
	if !n.informer.HasSynced() {
		return errors.New("namespaces are not read yet")
	}
	return nil
}

// Annotations returns those of the namespace's annotations that are the contract's, to be read only. known is false for a
// namespace that the watch has not told of: Ask.
func (n *Namespaces) Annotations(namespace string) (annotations map[string]string, known bool) {
	if n.Ready() != nil {
		return nil, false
	}
	found, err := n.lister.Get(namespace)
	if err != nil {
		return nil, false
	}
	return found.Annotations, true // by trim, no others
}

// Ask returns what Annotations does of a namespace that the watch has not told of, because it was created or opted in a
// moment ago, or the watch is interrupted: it asks the API server, unless the watch tells meanwhile, and takes a second at the
// most. It is an error if that fails, or there is no such opted-in namespace: its word is not guessed.
func (n *Namespaces) Ask(ctx context.Context, namespace string) (map[string]string, error) {
	if err := n.Ready(); err != nil {
		return nil, err
	}
	if len(validation.IsDNS1123Label(namespace)) > 0 {
		return nil, fmt.Errorf("%.64q is no name of a namespace", namespace)
	}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		news := n.nextNews()
		if annotations, known := n.Annotations(namespace); known {
			return annotations, nil
		}
		wait, err := n.turn(namespace)
		if wait == 0 {
			return n.list(ctx, namespace)
		}
		timer := time.NewTimer(wait)
		select {
		case <-news:
		case <-timer.C:
		case <-ctx.Done():
			return nil, err
		}
		timer.Stop()
	}
}

// turn is how long it takes until the namespace may be asked for; 0: now. The error is what is so until then.
func (n *Namespaces) turn(namespace string) (time.Duration, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if wait := time.Until(n.absent[namespace]); wait > 0 {
		return wait, absentError(namespace)
	}
	if n.questions.Allow() {
		return 0, nil
	}
	return time.Second / questions, fmt.Errorf("namespace %s is not known yet, and too many others are asked for: try again",
		namespace)
}

// list reads a namespace from the API server. It lists, which the webhook may do anyway, and so needs no right to get.
func (n *Namespaces) list(ctx context.Context, namespace string) (map[string]string, error) {
	found, err := n.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{
		LabelSelector: n.optedIn.String(), FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, namespace).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("namespace %s is not known yet: %w", namespace, err)
	}
	for i := range found.Items {
		if found.Items[i].Name == namespace {
			return contract.NamespaceAnnotations(found.Items[i].Annotations), nil
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

// told wakes who waits for a namespace.
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

// trim keeps what is read here and by those who use Informer, so that the memory per namespace does not depend on what others
// write into it.
func trim(object any) (any, error) {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		return object, nil
	}
	small := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: namespace.Name, UID: namespace.UID, ResourceVersion: namespace.ResourceVersion,
		Annotations: contract.NamespaceAnnotations(namespace.Annotations),
	}}
	if value, there := namespace.Labels[contract.InjectLabel]; there {
		small.Labels = map[string]string{contract.InjectLabel: value}
	}
	return small, nil
}
