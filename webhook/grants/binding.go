package grants

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	apply "k8s.io/client-go/applyconfigurations/rbac/v1"
)

const clusterRole = "ClusterRole"

// ours reports whether a binding with our name binds our role. The role of a binding can't be changed, and one to another role
// is left alone.
func (c *controller) ours(binding *rbacv1.RoleBinding) bool {
	return binding.RoleRef == rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: clusterRole, Name: c.config.Role}
}

// accountsOf returns the service accounts of its own namespace that a binding names; none where it is nil.
func accountsOf(binding *rbacv1.RoleBinding) (accounts []string) {
	if binding == nil {
		return nil
	}
	for _, subject := range binding.Subjects {
		if subject == account(binding.Namespace, subject.Name) {
			accounts = append(accounts, subject.Name)
		}
	}
	return accounts
}

func account(namespace, name string) rbacv1.Subject {
	return rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: namespace, Name: name}
}

// write makes the binding name exactly these accounts, or deletes it where there are none. binding is the one observed last,
// or nil. After a conflict it does nothing, because the other change causes an event.
func (c *controller) write(ctx context.Context, namespace string, binding *rbacv1.RoleBinding, accounts []string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	var err error
	change := changed
	switch {
	case binding == nil && len(accounts) == 0, binding != nil && upToDate(binding, accounts):
		return nil
	case len(accounts) == 0:
		change, err = deleted, c.delete(ctx, binding)
	default:
		if binding == nil {
			change = created
		}
		err = c.apply(ctx, namespace, binding, accounts)
	}
	switch {
	case err == nil:
		c.metrics.changes.WithLabelValues(change).Inc()
		c.config.Log.InfoContext(ctx, "grant "+change, "namespace", namespace, "accounts", accounts)
		return nil
	case apierrors.IsConflict(err), apierrors.IsNotFound(err), apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause):
		return nil
	default:
		return fmt.Errorf("write role binding %s/%s: %w", namespace, c.config.Binding, err)
	}
}

// upToDate reports whether a binding names exactly these accounts, in order, and has its label.
func upToDate(binding *rbacv1.RoleBinding, accounts []string) bool {
	return len(binding.Subjects) == len(accounts) && slices.Equal(accountsOf(binding), accounts) &&
		binding.Labels[ManagedByLabel] == FieldManager
}

// apply creates or changes the binding. With server-side apply a creation, too, is authorized by the binding's name, which a
// POST isn't, so the role can be restricted to that name. An existing binding is changed only in the version observed.
func (c *controller) apply(ctx context.Context, namespace string, seen *rbacv1.RoleBinding, accounts []string) error {
	binding := apply.RoleBinding(c.config.Binding, namespace).
		WithLabels(map[string]string{ManagedByLabel: FieldManager}).
		WithRoleRef(apply.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind(clusterRole).WithName(c.config.Role))
	if seen != nil {
		binding.WithResourceVersion(seen.ResourceVersion)
	}
	for _, name := range accounts {
		binding.WithSubjects(apply.Subject().WithKind(rbacv1.ServiceAccountKind).WithNamespace(namespace).WithName(name))
	}
	_, err := c.config.Client.RbacV1().RoleBindings(namespace).Apply(ctx, binding,
		metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
	return err
}

// delete removes the binding in the version observed, so that one that has changed since stays.
func (c *controller) delete(ctx context.Context, seen *rbacv1.RoleBinding) error {
	return c.config.Client.RbacV1().RoleBindings(seen.Namespace).Delete(ctx, seen.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &seen.UID, ResourceVersion: &seen.ResourceVersion},
	})
}
