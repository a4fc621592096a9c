package grants

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// byName selects objects with one name, in all namespaces, because the role allows no others.
func byName(name string) informers.SharedInformerOption {
	return informers.WithTweakListOptions(func(options *metav1.ListOptions) {
		options.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, name).String()
	})
}

// trim drops fields of an object that only other controllers write, and that are not read here.
func trim(object any) (any, error) {
	if o, ok := object.(metav1.Object); ok {
		o.SetManagedFields(nil)
	}
	return object, nil
}

// stored returns the object with this key as observed last, or nil. It is read-only.
func stored(informer cache.SharedIndexInformer, key string) any {
	object, found, err := informer.GetStore().GetByKey(key)
	if err != nil || !found {
		return nil
	}
	return object
}

// optedIn reports whether the webhook injects into the namespace's pods.
func (g *Grants) optedIn(namespace string) bool {
	n, ok := stored(g.config.Namespaces, namespace).(*corev1.Namespace)
	return ok && n.Labels[contract.InjectLabel] == contract.InjectEnabled && !slices.Contains(g.config.Excluded, namespace)
}

// watchFailed counts failed lists and watches. The end of a watch is no failure, nor is a resource version that has expired,
// because the reflector lists again.
func (g *Grants) watchFailed(err error) {
	if err == nil || errors.Is(err, io.EOF) || errors.Is(err, context.Canceled) || apierrors.IsResourceExpired(err) ||
		apierrors.IsGone(err) {
		return
	}
	g.metrics.failures.WithLabelValues(watching).Inc()
}

// inForce is nil when the policy and its binding apply to every request that the policy is for. It checks the settings that
// could weaken them. It doesn't check the policy's expressions, because a person who may write those may do anything.
func inForce(name string, policy, binding any) error {
	p, ok := policy.(*admissionregistrationv1.ValidatingAdmissionPolicy)
	switch {
	case !ok:
		return fmt.Errorf("ValidatingAdmissionPolicy %s does not exist", name)
	case p.DeletionTimestamp != nil:
		return fmt.Errorf("ValidatingAdmissionPolicy %s is being deleted", name)
	case p.Spec.FailurePolicy != nil && *p.Spec.FailurePolicy != admissionregistrationv1.Fail:
		return fmt.Errorf("ValidatingAdmissionPolicy %s does not fail closed", name)
	case len(p.Spec.Validations) == 0:
		return fmt.Errorf("ValidatingAdmissionPolicy %s validates nothing", name)
	}
	b, ok := binding.(*admissionregistrationv1.ValidatingAdmissionPolicyBinding)
	switch {
	case !ok:
		return fmt.Errorf("ValidatingAdmissionPolicyBinding %s does not exist", name)
	case b.DeletionTimestamp != nil:
		return fmt.Errorf("ValidatingAdmissionPolicyBinding %s is being deleted", name)
	case b.Spec.PolicyName != name:
		return fmt.Errorf("ValidatingAdmissionPolicyBinding %s binds another policy, %s", name, b.Spec.PolicyName)
	case !slices.Contains(b.Spec.ValidationActions, admissionregistrationv1.Deny):
		return fmt.Errorf("ValidatingAdmissionPolicyBinding %s does not deny", name)
	case b.Spec.MatchResources != nil:
		return errors.New("ValidatingAdmissionPolicyBinding " + name + " leaves out a part of the cluster (matchResources)")
	}
	return nil
}
