package scenarios_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

const (
	grantBinding = scenario.Release + "-pods"
	grantRole    = scenario.Release + "-pod"
	gatePolicy   = scenario.Release + "-own-pod-gate"
	eventsPolicy = scenario.Release + "-own-pod-events"
)

func TestTrustGrantsNeedOnlyTheLabel(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	s.Given("three service accounts, and a pod without an agentlet under one of them", func() {
		for _, name := range []string{"web", "idle"} {
			serviceAccount(s, name)
		}
		_, err := s.CreatePod("idle", under("idle", s.Sample(nil)))
		s.Must(err)
		s.AwaitReady("idle")
		if binding := grantOf(s); binding != nil {
			s.Errorf("bound without an injected pod: %+v", binding.Subjects)
		}
	})
	s.When("injected pods run under the other two", func() {
		for _, account := range []string{"default", "web"} {
			began := time.Now()
			_, err := s.CreatePod(account, under(account, s.Sample(s.Annotations())))
			s.Must(err)
			awaitAccounts(s, account)
			s.Logf("%s was bound %s after its pod's creation", account, time.Since(began).Round(time.Millisecond))
		}
	})
	s.Then("both become Ready, and no request was ever rejected", func() {
		for _, name := range []string{"default", "web"} {
			s.AwaitReady(name)
			logs, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "logs", name, "-c", contract.ContainerName)
			s.Must(err)
			if strings.Contains(logs, "forbidden") {
				s.Errorf("the agentlet of %s was refused:\n%s", name, logs)
			}
		}
		s.AwaitCatalog(s.Service(), 2)
	})
	s.Then("their accounts have the agentlet's rights, and no other account has any", func() {
		for account, want := range map[string]bool{"default": true, "web": true, "idle": false, "nobody": false} {
			for _, verb := range []string{"list pods", "watch pods", "patch pods/status", "create events"} {
				if got := may(s, s.Namespace, account, verb); got != want {
					s.Errorf("%s may %s: %t", account, verb, got)
				}
			}
			for _, verb := range []string{"delete pods", "patch pods", "update pods/status", "get secrets"} {
				if may(s, s.Namespace, account, verb) {
					s.Errorf("%s may %s", account, verb)
				}
			}
		}
		if may(s, "default", "default", "patch pods/status") {
			s.Error("the grant reaches another namespace")
		}
	})
	s.When("the injected pods have gone", func() {
		for _, name := range []string{"default", "web"} {
			pod := s.Pod(name)
			s.Delete(name)
			s.AwaitGone(pod)
		}
	})
	s.Then("the binding is deleted, too", func() { awaitNoGrant(s) })
}

func TestTrustGrantsOutliveTheLabel(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	var pod *corev1.Pod
	s.Given("a registered pod", func() {
		_, err := s.CreatePod("web", s.Sample(s.Annotations()))
		s.Must(err)
		pod = s.AwaitReady("web")
		s.AwaitCatalog(s.Service(), 1)
	})
	s.When("the namespace's label has been gone for longer than an idle account stays bound", func() {
		_, err := s.Kubectl(s.Ctx, "label", "namespace", s.Namespace, contract.InjectLabel+"-")
		s.Must(err)
		s.Pause(40 * time.Second)
	})
	s.Then("the binding still exists, and the pod drains", func() {
		if grantOf(s) == nil {
			s.Fatal("the binding has gone")
		}
		drains(s, pod)
	})
	s.Then("the binding is deleted after the pod", func() { awaitNoGrant(s) })
}

// TestTrustGrantsFindWhatTheyMissed runs alone, because it stops the webhook for a while.
func TestTrustGrantsFindWhatTheyMissed(t *testing.T) {
	s := scenario.New(t)
	var stays, goes, comes *corev1.Pod
	s.Given("pods under two accounts", func() {
		serviceAccount(s, "goes")
		serviceAccount(s, "comes")
		comes = injectedBefore(s, "comes", under("comes", s.Sample(s.Annotations())))
		for _, pod := range []struct{ name, account string }{{"stays", "default"}, {"goes", "goes"}} {
			_, err := s.CreatePod(pod.name, under(pod.account, s.Sample(s.Annotations())))
			s.Must(err)
		}
		stays, goes = s.AwaitReady("stays"), s.AwaitReady("goes")
	})
	s.When("the webhook is stopped, one pod is deleted and another created", func() {
		scaleWebhook(s.Ctx, s, 0)
		s.Afterwards(2*time.Minute, func(ctx context.Context) {
			scaleWebhook(ctx, s, 2)
		})
		s.Delete(goes.Name)
		s.AwaitGone(goes)
		createPastTheWebhook(s, comes)
	})
	s.Then("the grant is unchanged", func() {
		if !may(s, s.Namespace, "goes", "patch pods/status") || may(s, s.Namespace, "comes", "patch pods/status") {
			s.Error("somebody changed it")
		}
		if !scenario.IsReady(s.Pod(stays.Name)) {
			s.Error("a running pod is not Ready any more")
		}
	})
	s.When("it is back", func() { scaleWebhook(s.Ctx, s, 2) })
	s.Then("exactly the accounts of running pods are bound", func() {
		s.AwaitReady("comes")
		s.Eventually("two accounts", func(context.Context) (bool, error) {
			binding := grantOf(s)
			return binding != nil && len(binding.Subjects) == 2 && !may(s, s.Namespace, "goes", "patch pods/status"), fmt.Errorf("%+v", binding)
		})
		awaitAccounts(s, "default", "comes")
	})
}

// scaleWebhook scales the webhook, and waits until it has exactly this many ready replicas.
func scaleWebhook(ctx context.Context, s *scenario.S, replicas int) {
	s.Helper()
	name := "deployment/" + scenario.Release + "-webhook"
	for _, args := range [][]string{
		{"scale", name, fmt.Sprintf("--replicas=%d", replicas)},
		{"rollout", "status", name, "--timeout=60s"},
	} {
		_, err := s.Kubectl(ctx, append([]string{"-n", scenario.SystemNamespace}, args...)...)
		s.Must(err)
	}
	s.Eventually("the webhook's pods", func(context.Context) (bool, error) {
		pods, err := s.Kube.CoreV1().Pods(scenario.SystemNamespace).List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=webhook"})
		if err != nil {
			return false, err
		}
		return len(pods.Items) == replicas, fmt.Errorf("%d pods", len(pods.Items))
	})
}

// drains deletes the pod, and checks that it announces its drain, which needs the right to write its condition, that it leaves
// the catalog, and that it ends.
func drains(s *scenario.S, pod *corev1.Pod) {
	s.Helper()
	s.Delete(pod.Name)
	s.Eventually("the condition of a draining pod", func(ctx context.Context) (bool, error) {
		now, err := s.Kube.CoreV1().Pods(s.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		gate := scenario.Condition(now, contract.Condition)
		return gate.Reason == string(contract.Draining), fmt.Errorf("the gate says %s", gate.Reason)
	})
	s.AwaitCatalog(s.Service(), 0)
	s.AwaitGone(pod)
}

// serviceAccount creates a service account in the scenario's namespace.
func serviceAccount(s *scenario.S, name string) {
	s.Helper()
	account := &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}
	_, err := s.Kube.CoreV1().ServiceAccounts(s.Namespace).Create(s.Ctx, account, metav1.CreateOptions{})
	s.Must(err)
}

// under sets a template's service account.
func under(account string, template corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	template.Spec.ServiceAccountName = account
	return template
}

// grantOf returns the webhook's RoleBinding in the scenario's namespace, or nil.
func grantOf(s *scenario.S) *rbacv1.RoleBinding {
	s.Helper()
	binding, err := s.Kube.RbacV1().RoleBindings(s.Namespace).Get(s.Ctx, grantBinding, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	s.Must(err)
	return binding
}

// awaitAccounts waits until these service accounts are bound, possibly among others.
func awaitAccounts(s *scenario.S, accounts ...string) {
	s.Helper()
	s.Eventually("the grant of "+strings.Join(accounts, " and "), func(context.Context) (bool, error) {
		binding := grantOf(s)
		if binding == nil {
			return false, fmt.Errorf("there is no binding")
		}
		bound := map[string]bool{}
		for _, subject := range binding.Subjects {
			bound[subject.Name] = subject.Kind == rbacv1.ServiceAccountKind && subject.Namespace == s.Namespace
		}
		for _, account := range accounts {
			if !bound[account] {
				return false, fmt.Errorf("bound are %v", binding.Subjects)
			}
		}
		return true, nil
	})
}

func awaitNoGrant(s *scenario.S) {
	s.Helper()
	s.Eventually("the end of the grant", func(context.Context) (bool, error) {
		binding := grantOf(s)
		return binding == nil, fmt.Errorf("it is %+v", binding)
	})
}

// may asks the API server whether a service account of the scenario's namespace has a right, such as "patch pods/status", in a
// namespace.
func may(s *scenario.S, namespace, account, what string) bool {
	s.Helper()
	verb, resource, _ := strings.Cut(what, " ")
	resource, subresource, _ := strings.Cut(resource, "/")
	review, err := s.Kube.AuthorizationV1().SubjectAccessReviews().Create(s.Ctx, &authorizationv1.SubjectAccessReview{
		Spec: authorizationv1.SubjectAccessReviewSpec{
			User: "system:serviceaccount:" + s.Namespace + ":" + account,
			Groups: []string{
				"system:serviceaccounts", "system:serviceaccounts:" + s.Namespace, "system:authenticated",
			},
			ResourceAttributes: &authorizationv1.ResourceAttributes{
				Namespace: namespace, Verb: verb, Resource: resource, Subresource: subresource, Name: "some",
			},
		},
	}, metav1.CreateOptions{})
	s.Must(err)
	return review.Status.Allowed
}
