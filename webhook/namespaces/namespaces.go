// Package namespaces is what the webhook knows of opted-in namespaces. It watches them, so that an admission asks nobody:
// what it is told may be older than the API server's word by the time that a watch takes. An admission waits only in a
// namespace of which nothing is known yet.
package namespaces

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/agentlet/agentlet/agentlet/contract"
)

const (
	// resync is 0: nothing here happens on events.
	resync = time.Duration(0)
	// patience is how long a namespace that is not known is waited for: a pod may be created a moment after its namespace, by
	// one kubectl apply. It is half of the shortest timeout that the chart gives to a call, webhook.workloads.timeoutSeconds.
	patience = time.Second
	// look is how often it is looked for meanwhile. That costs a map's lookup, and nobody is asked.
	look = 20 * time.Millisecond
)

// Namespaces holds the opted-in namespaces' annotations. It is safe for concurrent use.
type Namespaces struct {
	factory informers.SharedInformerFactory
	synced  cache.InformerSynced
	lister  listers.NamespaceLister
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
	return &Namespaces{factory: factory, synced: namespaces.Informer().HasSynced, lister: namespaces.Lister()}, nil
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

// AllowedServices returns the value of the namespace's annotation allowed-services, or nil where it has none. One that is not
// known, as it may have been created or opted in a moment ago, is waited for at most a second; then it is an error: its word is not
// guessed.
func (n *Namespaces) AllowedServices(ctx context.Context, namespace string) (*string, error) {
	if err := n.Ready(); err != nil {
		return nil, err
	}
	var known *corev1.Namespace
	err := wait.PollUntilContextTimeout(ctx, look, patience, true, func(context.Context) (bool, error) {
		var err error
		known, err = n.lister.Get(namespace)
		return err == nil, nil
	})
	if err != nil {
		return nil, fmt.Errorf("namespace %s is not known yet as an opted-in one: try again", namespace)
	}
	value, there := known.Annotations[contract.AllowedServices]
	if !there {
		return nil, nil
	}
	return &value, nil
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
