package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	authorizationv1 "k8s.io/api/authorization/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// installRight is a kind of object that helm install, upgrade and uninstall make, change and remove.
type installRight struct {
	kind, group, resource string
	namespaced            bool
	// also are verbs besides installVerbs.
	also []string
}

// installRights are the kinds of the chart's objects with its default values, and Helm's record of a release.
var installRights = []installRight{
	{"Secret", "", "secrets", true, []string{"list", "update"}}, // for the record
	{"Service", "", "services", true, nil},
	{"ServiceAccount", "", "serviceaccounts", true, nil},
	{"Deployment", "apps", "deployments", true, nil},
	{"PodDisruptionBudget", "policy", "poddisruptionbudgets", true, nil},
	{"NetworkPolicy", "networking.k8s.io", "networkpolicies", true, nil},
	{"Role", "rbac.authorization.k8s.io", "roles", true, nil},
	{"RoleBinding", "rbac.authorization.k8s.io", "rolebindings", true, nil},
	{"ClusterRole", "rbac.authorization.k8s.io", "clusterroles", false, nil},
	{"ClusterRoleBinding", "rbac.authorization.k8s.io", "clusterrolebindings", false, nil},
	{"MutatingWebhookConfiguration", "admissionregistration.k8s.io", "mutatingwebhookconfigurations", false, nil},
	{"ValidatingWebhookConfiguration", "admissionregistration.k8s.io", "validatingwebhookconfigurations", false, nil},
	{"ValidatingAdmissionPolicy", "admissionregistration.k8s.io", "validatingadmissionpolicies", false, nil},
	{"ValidatingAdmissionPolicyBinding", "admissionregistration.k8s.io", "validatingadmissionpolicybindings", false, nil},
}

// installVerbs are what Helm does with the chart's objects.
var installVerbs = []string{"get", "create", "patch", "delete"}

// rights checks whether the account may install the chart.
func (r *preRun) rights(ctx context.Context) {
	if r.into == nil && len(r.facts.namespaces) > 0 {
		r.mayCreateNamespace(ctx)
	}
	type answer struct {
		missing []string
		err     error
	}
	answers := make([]answer, len(installRights))
	r.each(len(installRights), func(out *run, i int) {
		need := installRights[i]
		for _, verb := range slices.Concat(installVerbs, need.also) {
			attributes := &authorizationv1.ResourceAttributes{Verb: verb, Group: need.group, Version: "v1", Resource: need.resource}
			if need.namespaced {
				attributes.Namespace = r.pre.Into
			}
			may, err := out.selfMay(ctx, attributes)
			if err != nil {
				answers[i].err = err
				return
			}
			if !may {
				answers[i].missing = append(answers[i].missing, verb)
			}
		}
	})
	var missing []string
	for i, answer := range answers {
		if answer.err != nil {
			r.add(Skip, "rights", "", "can't ask what this account may do: "+answer.err.Error(), "")
			return
		}
		if len(answer.missing) > 0 {
			missing = append(missing, strings.Join(answer.missing, "/")+" "+installRights[i].resource)
		}
	}
	if missing = append(missing, r.escalation(ctx)...); len(missing) > 0 {
		r.add(Fail, "rights", "", "helm install needs rights that this account lacks: "+strings.Join(missing, ", "),
			"install with an account that has the ClusterRole cluster-admin, or have its administrator bind one with these rights")
		return
	}
	r.add(OK, "rights", "", "this account may install, upgrade and remove the chart in namespace "+r.pre.Into, "")
}

func (r *preRun) mayCreateNamespace(ctx context.Context) {
	may, err := r.selfMay(ctx, &authorizationv1.ResourceAttributes{Verb: "create", Version: "v1", Resource: "namespaces"})
	if err == nil && !may {
		r.add(Fail, "rights", "namespace/"+r.pre.Into, "it does not exist, and this account may not create it",
			"have an administrator create it: kubectl create namespace "+r.pre.Into)
	}
}

// held are rights of the chart's ClusterRoles. The API server lets an account grant only what it has itself, or may escalate.
var held = []authorizationv1.ResourceAttributes{
	{Verb: "list", Version: "v1", Resource: "pods"},
	{Verb: "watch", Version: "v1", Resource: "pods"},
	{Verb: "patch", Version: "v1", Resource: "pods", Subresource: "status"},
	{Verb: "create", Version: "v1", Resource: "events"},
	{Verb: "list", Version: "v1", Resource: "namespaces"},
	{Verb: "watch", Version: "v1", Resource: "namespaces"},
	{Verb: "open", Group: "agentlet.dev", Version: "v1", Resource: "gates"},
	{Verb: "bind", Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles"},
}

// escalation returns what prevents the account from creating the chart's ClusterRoles although it may create ClusterRoles.
func (r *preRun) escalation(ctx context.Context) (missing []string) {
	may, err := r.selfMay(ctx, &authorizationv1.ResourceAttributes{
		Verb: "escalate", Group: "rbac.authorization.k8s.io", Version: "v1", Resource: "clusterroles",
	})
	if may || err != nil {
		return nil
	}
	for i := range held {
		if may, err := r.selfMay(ctx, &held[i]); err == nil && !may {
			missing = append(missing, fmt.Sprintf("%s %s (which the chart's ClusterRoles grant)", held[i].Verb,
				strings.TrimSuffix(held[i].Resource+"/"+held[i].Subresource, "/")))
		}
	}
	return missing
}

// selfMay asks the API server whether the account may do this.
func (r *run) selfMay(ctx context.Context, attributes *authorizationv1.ResourceAttributes) (bool, error) {
	review, err := r.Kube.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
		Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: attributes},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("review access: %w", err)
	}
	return review.Status.Allowed, nil
}
