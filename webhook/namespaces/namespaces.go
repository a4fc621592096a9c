// Package namespaces is what the webhook knows of opted-in namespaces. It watches them, so that an admission asks nobody and
// waits for nothing: what it is told may be older than the API server's word by the time that a watch takes. Only about a
// namespace that the watch has not told of is the API server asked.
package namespaces

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/agentlet/agentlet/agentlet/contract"
)

const (
	// resync is 0: nothing here happens on events.
	resync = time.Duration(0)
	// patience bounds the question about one namespace. It is half of the shortest timeout that the chart gives to a call,
	// webhook.workloads.timeoutSeconds.
	patience = time.Second
	// questions are asked at most that many at once: a caller may name any namespace.
	questions = 4
)

// Namespaces holds the opted-in namespaces' annotations. It is safe for concurrent use.
type Namespaces struct {
	client  kubernetes.Interface
	optedIn labels.Selector
	factory informers.SharedInformerFactory
	synced  cache.InformerSynced
	lister  listers.NamespaceLister
	asking  chan struct{} // holds one for each question that is asked now
}

// New returns Namespaces that know nothing before Run.
func New(client kubernetes.Interface) (*Namespaces, error) {
	optedIn, err := labels.ValidatedSelectorFromSet(labels.Set{contract.InjectLabel: contract.InjectEnabled})
	if err != nil {
		return nil, fmt.Errorf("select opted-in namespaces: %w", err)
	}
	factory := informers.NewSharedInformerFactoryWithOptions(client, resync,
		informers.WithTransform(slim),
		informers.WithTweakListOptions(func(options *metav1.ListOptions) { options.LabelSelector = optedIn.String() }))
	namespaces := factory.Core().V1().Namespaces()
	return &Namespaces{
		client: client, optedIn: optedIn, factory: factory,
		synced: namespaces.Informer().HasSynced, lister: namespaces.Lister(), asking: make(chan struct{}, questions),
	}, nil
}

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
	if !n.synced() {
		return errors.New("namespaces are not read yet")
	}
	return nil
}

// AllowedServices returns the value of the namespace's annotation allowed-services, or nil where it has none. About one that
// the watch has not told of, because it was created or opted in a moment ago or the watch is interrupted, the API server is
// asked, within a second. It is an error if that fails, or there is no such opted-in namespace: its word is not guessed.
func (n *Namespaces) AllowedServices(ctx context.Context, namespace string) (*string, error) {
	if err := n.Ready(); err != nil {
		return nil, err
	}
	known, err := n.lister.Get(namespace)
	if err != nil {
		known, err = n.ask(ctx, namespace)
	}
	if err != nil {
		return nil, err
	}
	value, there := known.Annotations[contract.AllowedServices]
	if !there {
		return nil, nil
	}
	return &value, nil
}

// ask reads a namespace from the API server. It lists, which the webhook may do anyway, and so needs no right to get.
func (n *Namespaces) ask(ctx context.Context, namespace string) (*corev1.Namespace, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	select {
	case n.asking <- struct{}{}:
		defer func() { <-n.asking }()
	case <-ctx.Done():
		return nil, fmt.Errorf("namespace %s is not known yet, and too many others are asked for: try again", namespace)
	}
	found, err := n.client.CoreV1().Namespaces().List(ctx, metav1.ListOptions{
		LabelSelector: n.optedIn.String(), FieldSelector: fields.OneTermEqualSelector(metav1.ObjectNameField, namespace).String(),
	})
	if err != nil {
		return nil, fmt.Errorf("namespace %s is not known yet: %w", namespace, err)
	}
	for i := range found.Items {
		if found.Items[i].Name == namespace {
			return &found.Items[i], nil
		}
	}
	return nil, fmt.Errorf("namespace %s does not exist, or has no label %s=%s", namespace, contract.InjectLabel, contract.InjectEnabled)
}

// slim keeps what is read here alone, so that the memory per namespace does not depend on what others write into it.
func slim(object any) (any, error) {
	namespace, ok := object.(*corev1.Namespace)
	if !ok {
		return object, nil
	}
	small := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: namespace.Name, UID: namespace.UID, ResourceVersion: namespace.ResourceVersion,
	}}
	if value, there := namespace.Annotations[contract.AllowedServices]; there {
		small.Annotations = map[string]string{contract.AllowedServices: value}
	}
	return small, nil
}
