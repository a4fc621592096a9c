package check

import (
	"context"
	"fmt"
	"slices"
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// bound describes what an admission policy prevents an agentlet from doing.
type bound struct {
	resource string
	// kept is what the policy permits. open is what a granted service account can do without it.
	kept, open string
}

var bounds = []bound{
	{
		"pods/status",
		"a pod may write its own gate only",
		"a granted service account can patch the status of every pod of its namespace",
	},
	{"events", "a pod may write events about itself only", "a granted service account can write any event in its namespace"},
}

// policies checks the admission policies that restrict what an agentlet writes, and their bindings.
func (r *run) policies(ctx context.Context) {
	policies, err := r.Kube.AdmissionregistrationV1().ValidatingAdmissionPolicies().List(ctx, metav1.ListOptions{})
	if !r.read("admission policies", err) {
		return
	}
	bindings, err := r.Kube.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().List(ctx, metav1.ListOptions{})
	if !r.read("admission policy bindings", err) {
		return
	}
	for _, b := range bounds {
		r.policy(b, policies.Items, bindings.Items)
	}
}

func (r *run) policy(
	b bound,
	policies []admissionregistrationv1.ValidatingAdmissionPolicy,
	bindings []admissionregistrationv1.ValidatingAdmissionPolicyBinding,
) {
	const remedy = "set policy.enabled=true in the chart"
	i := slices.IndexFunc(policies,
		func(p admissionregistrationv1.ValidatingAdmissionPolicy) bool { return boundsAgentlets(&p, b.resource) })
	if i < 0 {
		r.add(Warn, "policy", "", "no admission policy bounds an agentlet's "+b.resource+": "+b.open, remedy)
		return
	}
	name := policies[i].Name
	subject := "validatingadmissionpolicy/" + name
	if slices.ContainsFunc(bindings, func(b admissionregistrationv1.ValidatingAdmissionPolicyBinding) bool {
		return b.Spec.PolicyName == name && slices.Contains(b.Spec.ValidationActions, admissionregistrationv1.Deny)
	}) {
		r.add(OK, "policy", subject, b.kept, "")
	} else {
		r.add(Fail, "policy", subject, "no binding makes it deny: "+b.open, remedy)
	}
}

// roleMark occurs in the match conditions of policies that restrict the holders of the agentlet's role.
const roleMark = `group("` + contract.RoleGroup + `").resource("` + contract.RoleResource + `")`

// boundsAgentlets reports whether a policy restricts what holders of the agentlet's role write to a resource.
func boundsAgentlets(policy *admissionregistrationv1.ValidatingAdmissionPolicy, resource string) bool {
	return policy.Spec.MatchConstraints != nil &&
		slices.ContainsFunc(
			policy.Spec.MatchConstraints.ResourceRules,
			func(rule admissionregistrationv1.NamedRuleWithOperations) bool {
				return slices.Contains(rule.Resources, resource)
			},
		) &&
		slices.ContainsFunc(policy.Spec.MatchConditions, func(c admissionregistrationv1.MatchCondition) bool {
			return strings.Contains(c.Expression, roleMark)
		})
}

// right is a permission that an agentlet needs.
type right struct{ verb, subresource string }

// account is a service account.
type account struct{ namespace, name string }

// accountOf returns the service account of a pod.
func accountOf(pod *corev1.Pod) account {
	if name := pod.Spec.ServiceAccountName; name != "" {
		return account{pod.Namespace, name}
	}
	return account{pod.Namespace, "default"}
}

// grants asks the API server what the service accounts of injected pods may do, regardless of how it was granted.
func (r *run) grants(ctx context.Context) {
	if !r.facts.podsRead {
		return
	}
	var accounts []account
	known := map[account]bool{}
	for i := range r.facts.pods {
		pod := &r.facts.pods[i]
		a := accountOf(pod)
		if registration.Agentlet(pod) != nil && !known[a] && !r.isNew(pod) { // the webhook may be about to grant it
			accounts, known[a] = append(accounts, a), true
		}
	}
	missing := make([]string, len(accounts))
	asking, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	r.each(len(accounts), func(out *run, i int) {
		var err error
		if missing[i], err = out.lacks(asking, accounts[i]); err != nil {
			stop(err) // the others would meet it, too
		}
	})
	if err := context.Cause(asking); err != nil {
		r.add(Skip, "grants", "", "can't ask what service accounts may do: "+err.Error(), "")
		return
	}
	granted := 0
	r.facts.ungranted = map[account]string{}
	for i, a := range accounts {
		if missing[i] == "" {
			granted++
			continue
		}
		r.facts.ungranted[a] = missing[i]
		r.add(Fail, "grants", "serviceaccount/"+a.namespace+"/"+a.name,
			"injected pods run under it, but it may not "+r.facts.ungranted[a]+": their gates can't open", r.grantRemedy(a.namespace))
	}
	switch {
	case len(accounts) == 0:
		r.add(OK, "grants", "", "no injected pod needs any", "")
	case granted > 0:
		r.add(OK, "grants", "",
			fmt.Sprintf("%d of %d service accounts with injected pods may do what an agentlet needs", granted, len(accounts)), "")
	}
}

// lacks returns the rights that an account lacks and an agentlet needs, as text; empty if it has them all.
func (r *run) lacks(ctx context.Context, a account) (string, error) {
	var missing []string
	for _, need := range []right{{"watch", ""}, {"list", ""}, {"patch", "status"}} {
		allowed, err := r.allowed(ctx, a.namespace, a.name, need)
		if err != nil {
			return "", err
		}
		if !allowed {
			missing = append(missing, strings.TrimSuffix(need.verb+" pods/"+need.subresource, "/"))
		}
	}
	return strings.Join(missing, ", "), nil
}

// grantRemedy depends on how this installation grants rights.
func (r *run) grantRemedy(namespace string) string {
	list := fmt.Sprintf("add %s to grants.namespaces of the chart", namespace)
	switch {
	case r.flag("grants", "none") != "auto":
		return list
	case !r.optedIn(namespace):
		return fmt.Sprintf("%s, so that the webhook grants it, or %s", r.optInCommand(namespace), list)
	}
	return "the webhook should have granted it: read its log, or " + list
}

func (r *run) allowed(ctx context.Context, namespace, account string, need right) (bool, error) {
	review, err := r.Kube.AuthorizationV1().SubjectAccessReviews().Create(ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User:   "system:serviceaccount:" + namespace + ":" + account,
			Groups: []string{"system:serviceaccounts", "system:serviceaccounts:" + namespace, "system:authenticated"},
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: need.verb, Version: "v1", Resource: "pods", Subresource: need.subresource,
			},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return false, fmt.Errorf("review access: %w", err)
	}
	return review.Status.Allowed, nil
}
