// Package policies tests the chart's admission policies with the rules of the oldest and the newest supported Kubernetes, with
// the API server's own compiler and cost limits.
package policies

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	utilversion "k8s.io/apimachinery/pkg/util/version"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/apiserver/pkg/admission"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/admission/plugin/policy/validating"
	"k8s.io/apiserver/pkg/admission/plugin/webhook/matchconditions"
	celconfig "k8s.io/apiserver/pkg/apis/cel"
	"k8s.io/apiserver/pkg/authentication/user"
	"k8s.io/apiserver/pkg/authorization/authorizer"
	"k8s.io/apiserver/pkg/cel/environment"
)

// versions are the tested Kubernetes versions: the chart's kubeVersion, and that of the scenarios' cluster.
var versions = []*utilversion.Version{utilversion.MajorMinor(1, 30), utilversion.MajorMinor(1, 37)}

// render returns the chart's policies by name.
func render(t *testing.T, values ...string) map[string]*admissionregistrationv1.ValidatingAdmissionPolicy {
	t.Helper()
	helm := os.Getenv("AGENTLET_TEST_HELM")
	if helm == "" {
		t.Skip("AGENTLET_TEST_HELM is not set; make unit sets it")
	}
	args := []string{
		"template", "agentlet", filepath.Join("..", "..", "charts", "agentlet"), "-n", "agentlet-system", "--kube-version", "1.30",
		"--set", "image.repository=registry.example/agentlet",
	}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	command := exec.CommandContext(t.Context(), helm, args...)
	var problems bytes.Buffer
	command.Stderr = &problems
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, &problems)
	}
	policies := map[string]*admissionregistrationv1.ValidatingAdmissionPolicy{}
	for decoder := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(out), 4096); ; {
		var object unstructured.Unstructured
		if err := decoder.Decode(&object); errors.Is(err, io.EOF) {
			return policies
		} else if err != nil {
			t.Fatal(err)
		}
		if object.GetKind() != "ValidatingAdmissionPolicy" {
			continue
		}
		policy := &admissionregistrationv1.ValidatingAdmissionPolicy{}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(object.Object, policy, true); err != nil {
			t.Fatal(err)
		}
		policies[strings.TrimPrefix(policy.Name, "agentlet-")] = policy
	}
}

// compiled is a policy compiled with one version's rules.
type compiled struct {
	rules                   []admissionregistrationv1.NamedRuleWithOperations
	conditions, validations cel.ConditionEvaluator
}

// matches reports whether the policy applies to a request.
func (c compiled) matches(r request) bool {
	return slices.ContainsFunc(c.rules, func(rule admissionregistrationv1.NamedRuleWithOperations) bool {
		return slices.Contains(rule.APIGroups, r.kind.Group) && slices.Contains(rule.APIVersions, r.kind.Version) &&
			slices.Contains(rule.Resources, r.resource) && slices.Contains(rule.Operations, admissionregistrationv1.OperationType(r.operation))
	})
}

// compile fails the test for each expression that this version's API server would reject.
func compile(t *testing.T, policy *admissionregistrationv1.ValidatingAdmissionPolicy, version *utilversion.Version) compiled {
	t.Helper()
	compiler, err := cel.NewCompositedCompiler(environment.MustBaseEnvSet(version))
	if err != nil {
		t.Fatal(err)
	}
	options := cel.OptionalVariableDeclarations{HasAuthorizer: true}
	must := func(result cel.CompilationResult) {
		t.Helper()
		if result.Error != nil {
			t.Errorf("%s: %v", result.ExpressionAccessor.GetExpression(), result.Error)
		}
	}
	for _, variable := range policy.Spec.Variables {
		must(compiler.CompileAndStoreVariable(&validating.Variable{Name: variable.Name, Expression: variable.Expression}, options, environment.NewExpressions))
	}
	var conditions, validations []cel.ExpressionAccessor
	for i := range policy.Spec.MatchConditions {
		conditions = append(conditions, (*matchconditions.MatchCondition)(&policy.Spec.MatchConditions[i]))
	}
	for _, validation := range policy.Spec.Validations {
		validations = append(validations, &validating.ValidationCondition{Expression: validation.Expression, Message: validation.Message})
	}
	for _, expression := range append(conditions, validations...) {
		must(compiler.CompileCELExpression(expression, options, environment.NewExpressions))
	}
	return compiled{
		rules:       policy.Spec.MatchConstraints.ResourceRules,
		conditions:  compiler.CompileCondition(conditions, options, environment.NewExpressions),
		validations: compiler.CompileCondition(validations, options, environment.NewExpressions),
	}
}

// request is a request to which the policy is applied.
type request struct {
	operation  admission.Operation
	kind       schema.GroupVersionKind
	resource   string // with its subresource
	old, now   runtime.Object
	user       user.Info
	namespace  *corev1.Namespace
	authorizes map[string]bool // verb resource
	asked      *int            // counts the authorizer calls; may be nil
}

func (r request) Authorize(_ context.Context, a authorizer.Attributes) (authorizer.Decision, string, error) {
	what := a.GetVerb() + " " + a.GetResource()
	if a.GetSubresource() != "" {
		what += "/" + a.GetSubresource()
	}
	if r.asked != nil {
		*r.asked++
	}
	if r.authorizes[what] {
		return authorizer.DecisionAllow, "", nil
	}
	return authorizer.DecisionNoOpinion, "", nil
}

// judge returns the messages of the failed validations, none if the policy does not match, and the cost.
func (c compiled) judge(t *testing.T, r request) (denials []string, cost int64) {
	t.Helper()
	if !c.matches(r) {
		return nil, 0
	}
	resource, subresource, _ := strings.Cut(r.resource, "/")
	accessor, err := metaOf(r)
	if err != nil {
		t.Fatal(err)
	}
	attributes := admission.NewAttributesRecord(r.now, r.old, r.kind, accessor.GetNamespace(), accessor.GetName(),
		schema.GroupVersionResource{Group: r.kind.Group, Version: r.kind.Version, Resource: resource}, subresource, r.operation, nil, false, r.user)
	versioned := &admission.VersionedAttributes{
		Attributes: attributes, VersionedKind: r.kind,
		VersionedObject: admission.NewLazyObject(r.now), VersionedOldObject: admission.NewLazyObject(r.old),
	}
	ask := cel.CreateAdmissionRequest(attributes, metav1.GroupVersionResource{Group: r.kind.Group, Version: r.kind.Version, Resource: resource},
		metav1.GroupVersionKind{Group: r.kind.Group, Version: r.kind.Version, Kind: r.kind.Kind})
	bindings := cel.OptionalVariableBindings{Authorizer: r}
	results, left, err := c.conditions.ForInput(t.Context(), versioned, ask, bindings, r.namespace, celconfig.RuntimeCELCostBudgetMatchConditions)
	if err != nil {
		t.Fatal(err)
	}
	cost = celconfig.RuntimeCELCostBudgetMatchConditions - left
	for _, result := range results {
		if result.Error != nil {
			t.Fatalf("%s: %v", result.ExpressionAccessor.GetExpression(), result.Error)
		}
		if result.EvalResult.Value() == false {
			return nil, cost
		}
	}
	results, left, err = c.validations.ForInput(t.Context(), versioned, ask, bindings, r.namespace, celconfig.RuntimeCELCostBudget)
	if err != nil {
		t.Fatal(err)
	}
	for _, result := range results {
		if result.Error != nil {
			t.Fatalf("%s: %v", result.ExpressionAccessor.GetExpression(), result.Error)
		}
		if validation, ok := result.ExpressionAccessor.(*validating.ValidationCondition); ok && result.EvalResult.Value() == false {
			denials = append(denials, validation.Message)
		}
	}
	return denials, cost + celconfig.RuntimeCELCostBudget - left
}

func metaOf(r request) (metav1.Object, error) {
	for _, object := range []runtime.Object{r.now, r.old} {
		if accessor, ok := object.(metav1.Object); ok && object != nil {
			return accessor, nil
		}
	}
	return nil, fmt.Errorf("no object in %+v", r)
}

// each runs a test for one of the chart's policies with each version's rules.
func each(t *testing.T, policy string, do func(t *testing.T, c compiled)) {
	t.Helper()
	policies := render(t, "policy.conditionTypes={example.com/ours}")
	found, ok := policies[policy]
	if !ok {
		t.Fatalf("the chart has no policy %s", policy)
	}
	for _, version := range versions {
		t.Run(version.String(), func(t *testing.T) { do(t, compile(t, found, version)) })
	}
}

func TestEveryPolicyIsTried(t *testing.T) {
	tried := map[string]bool{"own-pod-gate": true, "own-pod-events": true, "webhook-grants": true, "webhook-certs": true, "webhook-secrets": true}
	for name := range render(t) {
		if !tried[name] {
			t.Errorf("nobody tries %s", name)
		}
	}
}
