package certs

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// signal requests one check, however often it is raised before that check.
type signal chan struct{}

func newSignal() signal { return make(signal, 1) }

func (s signal) raise() {
	select {
	case s <- struct{}{}:
	default:
	}
}

// on raises the signal at each event of the informer.
func (s signal) on(informer cache.SharedIndexInformer) error {
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { s.raise() }, UpdateFunc: func(_, _ any) { s.raise() }, DeleteFunc: func(any) { s.raise() },
	})
	return err
}

// byName selects one object by its name, because the role allows no more.
func byName(name string) informers.SharedInformerOption {
	return informers.WithTweakListOptions(func(options *metav1.ListOptions) {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	})
}

// watchedSecret is a Secret as observed last. The parts of one source of certificates share one.
type watchedSecret struct {
	namespace, name string

	factory  informers.SharedInformerFactory
	informer cache.SharedIndexInformer
}

func newWatchedSecret(client kubernetes.Interface, namespace, name string) *watchedSecret {
	factory := informers.NewSharedInformerFactoryWithOptions(client, resync, informers.WithNamespace(namespace), byName(name))
	return &watchedSecret{namespace: namespace, name: name, factory: factory, informer: factory.Core().V1().Secrets().Informer()}
}

// Run watches until the context ends. It retries with backoff.
func (w *watchedSecret) Run(ctx context.Context) error {
	w.factory.Start(ctx.Done())
	<-ctx.Done()
	w.factory.Shutdown()
	return nil
}

// get returns the Secret, or nil where there is none or it hasn't been read yet. It is read-only.
func (w *watchedSecret) get() *corev1.Secret {
	object, _, err := w.informer.GetStore().GetByKey(w.key())
	if err != nil {
		return nil
	}
	secret, _ := object.(*corev1.Secret)
	return secret
}

func (w *watchedSecret) key() string { return w.namespace + "/" + w.name }

func (w *watchedSecret) String() string { return "secret " + w.key() }
