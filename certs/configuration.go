package certs

import (
	"context"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// configuration is one webhook configuration, mutating or validating.
type configuration struct {
	kind, name string
	// optional: it may be missing, because then the API server doesn't call the webhook.
	optional bool
	informer func(informers.SharedInformerFactory) cache.SharedIndexInformer
	// patch sends a strategic merge patch.
	patch func(ctx context.Context, patch []byte) error
}

func (c configuration) String() string { return c.kind + " " + c.name }

// mutating is the MutatingWebhookConfiguration with this name. It has to exist.
func mutating(client kubernetes.Interface, name string) configuration {
	return configuration{
		kind: "MutatingWebhookConfiguration", name: name,
		informer: func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
			return f.Admissionregistration().V1().MutatingWebhookConfigurations().Informer()
		},
		patch: patching(client.AdmissionregistrationV1().MutatingWebhookConfigurations(), name),
	}
}

// validating is the ValidatingWebhookConfiguration with this name.
func validating(client kubernetes.Interface, name string) configuration {
	return configuration{
		kind: "ValidatingWebhookConfiguration", name: name, optional: true,
		informer: func(f informers.SharedInformerFactory) cache.SharedIndexInformer {
			return f.Admissionregistration().V1().ValidatingWebhookConfigurations().Informer()
		},
		patch: patching(client.AdmissionregistrationV1().ValidatingWebhookConfigurations(), name),
	}
}

// patcher is a typed client for one kind of configuration.
type patcher[T any] interface {
	Patch(
		ctx context.Context,
		name string,
		kind types.PatchType,
		patch []byte,
		options metav1.PatchOptions,
		subresources ...string,
	) (T, error)
}

func patching[T any](client patcher[T], name string) func(ctx context.Context, patch []byte) error {
	return func(ctx context.Context, patch []byte) error {
		_, err := client.Patch(ctx, name, types.StrategicMergePatchType, patch, metav1.PatchOptions{FieldManager: fieldManager})
		return err
	}
}

// hook has the fields of one webhook that are read here.
type hook struct {
	name     string
	caBundle []byte
}

// hooksOf returns the webhooks of a configuration.
func hooksOf(object metav1.Object) (hooks []hook) {
	switch c := object.(type) {
	case *admissionregistrationv1.MutatingWebhookConfiguration:
		for i := range c.Webhooks {
			hooks = append(hooks, hook{c.Webhooks[i].Name, c.Webhooks[i].ClientConfig.CABundle})
		}
	case *admissionregistrationv1.ValidatingWebhookConfiguration:
		for i := range c.Webhooks {
			hooks = append(hooks, hook{c.Webhooks[i].Name, c.Webhooks[i].ClientConfig.CABundle})
		}
	}
	return hooks
}
