package scenarios_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"testing"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	apply "k8s.io/client-go/applyconfigurations/rbac/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// unbindPolicies deletes the bindings of the policies that restrict agentlets. restore recreates the missing ones; it also runs
// at the scenario's end.
func unbindPolicies(s *scenario.S) (restore func(context.Context) error) {
	s.Helper()
	bindings := s.Kube.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
	var deleted []*admissionregistrationv1.ValidatingAdmissionPolicyBinding
	restore = func(ctx context.Context) error {
		for _, binding := range deleted {
			// Apply with Helm's field manager; otherwise the next upgrade would have a conflict over the labels.
			object, err := json.Marshal(binding)
			if err != nil {
				return err
			}
			_, err = bindings.Patch(ctx, binding.Name, types.ApplyPatchType, object, metav1.PatchOptions{FieldManager: "helm", Force: new(true)})
			if err != nil {
				return err
			}
		}
		return nil
	}
	s.Afterwards(time.Minute, func(ctx context.Context) {
		if err := restore(ctx); err != nil {
			s.Error(err)
		}
	})
	for _, name := range []string{gatePolicy, eventsPolicy} {
		binding, err := bindings.Get(s.Ctx, name, metav1.GetOptions{})
		s.Must(err)
		binding.ObjectMeta = metav1.ObjectMeta{Name: name, Labels: binding.Labels, Annotations: binding.Annotations}
		binding.TypeMeta = metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingAdmissionPolicyBinding"}
		deleted = append(deleted, binding)
		s.Must(bindings.Delete(s.Ctx, name, metav1.DeleteOptions{}))
	}
	return restore
}

// TestTrustGrantsWaitForThePolicies runs alone, because it removes the policies' bindings.
func TestTrustGrantsWaitForThePolicies(t *testing.T) {
	s := scenario.New(t)
	var restore func(context.Context) error
	s.Given("a pod with an earlier grant", func() {
		_, err := s.CreatePod("before", s.Sample(s.Annotations()))
		s.Must(err)
		s.AwaitReady("before")
		serviceAccount(s, "web")
	})
	var late *corev1.Pod
	s.Given("an already injected pod under another account", func() {
		late = injectedBefore(s, "late", under("web", s.Sample(s.Annotations("service-names", s.Service()+"-late"))))
	})
	s.When("the policies' bindings are deleted", func() { restore = unbindPolicies(s) })
	s.Then("every replica's /readyz says so", func() {
		awaitReadyz(s, "[-] grants: nothing more is granted: ValidatingAdmissionPolicyBinding "+gatePolicy+" does not exist; "+
			"ValidatingAdmissionPolicyBinding "+eventsPolicy+" does not exist")
	})
	s.Then("no account is bound any more, and what was bound stays", func() {
		createPastTheWebhook(s, late)
		s.Pause(5 * time.Second)
		binding := grantOf(s)
		if binding == nil || len(binding.Subjects) != 1 || binding.Subjects[0].Name != "default" {
			s.Errorf("bound: %+v", binding)
		}
		if may(s, s.Namespace, "web", "patch pods/status") || !may(s, s.Namespace, "default", "patch pods/status") {
			s.Error("the rights are others than the binding says")
		}
	})
	s.When("they are back", func() { s.Must(restore(s.Ctx)) })
	s.Then("the waiting pod becomes Ready, and so does the webhook", func() {
		s.AwaitReady("late")
		awaitReadyz(s, "[+] grants: ok")
		s.Must(s.Command(s.Ctx, s.Cluster.Kubectl(), "-n", scenario.SystemNamespace, "rollout", "status", "deployment", "--timeout=60s"))
	})
}

// injectedBefore returns the template's pod after injection, to be created while the webhook must not be called, for example
// because it is not ready.
func injectedBefore(s *scenario.S, name string, template corev1.PodTemplateSpec) *corev1.Pod {
	s.Helper()
	template.Name = name
	pod, err := s.Kube.CoreV1().Pods(s.Namespace).Create(s.Ctx, &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec},
		metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
	s.Must(err)
	if !scenario.Injected(pod) {
		s.Fatal("it was not injected")
	}
	pod.ObjectMeta = metav1.ObjectMeta{Name: name, Annotations: pod.Annotations, Labels: pod.Labels}
	pod.Labels[contract.InjectLabel] = contract.InjectDisabled
	pod.Spec.NodeName, pod.Status = "", corev1.PodStatus{}
	return pod
}

// createPastTheWebhook creates an injectedBefore. Its label keeps the webhook from being asked, and would opt the running pod out.
func createPastTheWebhook(s *scenario.S, pod *corev1.Pod) {
	s.Helper()
	_, err := s.Kube.CoreV1().Pods(s.Namespace).Create(s.Ctx, pod, metav1.CreateOptions{})
	s.Must(err)
	_, err = s.Kubectl(s.Ctx, "-n", s.Namespace, "label", "pod", pod.Name, contract.InjectLabel+"-")
	s.Must(err)
}

// awaitReadyz waits until /readyz of each of the webhook's pods has this line.
func awaitReadyz(s *scenario.S, line string) {
	s.Helper()
	s.Eventually("/readyz to say "+line, func(ctx context.Context) (bool, error) {
		pods, err := s.Kube.CoreV1().Pods(scenario.SystemNamespace).List(ctx, metav1.ListOptions{
			LabelSelector: "app.kubernetes.io/component=webhook",
		})
		if err != nil || len(pods.Items) == 0 {
			return false, errors.Join(err, errors.New("no pods of the webhook"))
		}
		// A terminating pod may have lost its address; don't wait long for its answer.
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		for _, pod := range pods.Items {
			if pod.DeletionTimestamp != nil {
				continue
			}
			body, _ := s.Kube.CoreV1().Pods(pod.Namespace).ProxyGet("http", pod.Name, "8080", "readyz", nil).DoRaw(ctx)
			if !strings.Contains(string(body), line+"\n") {
				return false, fmt.Errorf("%s says:\n%s", pod.Name, body)
			}
		}
		return true, nil
	})
}

func TestTrustWebhookCanGrantNothingElse(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	closed := s.Namespace + "-closed"
	var webhook kubernetes.Interface
	s.Given("the webhook's own token, a namespace that did not opt in, and bindings of others", func() {
		webhook = webhookClient(s)
		_, err := s.Kubectl(s.Ctx, "create", "namespace", closed)
		s.Must(err)
		s.Cleanup(func() { _, _ = s.Kubectl(context.Background(), "delete", "namespace", closed, "--wait=false") })
		for _, args := range [][]string{
			{"-n", s.Namespace, "create", "rolebinding", "theirs", "--clusterrole=view", "--serviceaccount=" + s.Namespace + ":default"},
			{"-n", closed, "create", "rolebinding", grantBinding, "--clusterrole=admin", "--serviceaccount=" + closed + ":default"},
			{"-n", s.Namespace, "create", "role", grantRole, "--verb=list", "--resource=pods"},
		} {
			_, err := s.Kubectl(s.Ctx, args...)
			s.Must(err)
		}
	})
	web := apply.Subject().WithKind("ServiceAccount").WithNamespace(s.Namespace).WithName("web")
	s.Then("it may bind an account of an opted-in namespace", func() {
		s.Must(applyBinding(s, webhook, s.Namespace, grantBinding, "ClusterRole", grantRole, web))
	})
	attempts := bindingAttempts(s, webhook, closed)
	maps.Copy(attempts, otherAttempts(s, webhook))
	for name, attempt := range attempts {
		s.Then("it may not "+name, func() {
			if err := attempt(); err == nil || !strings.Contains(err.Error(), "forbidden") {
				s.Errorf("%s: %v, want a denial", name, err)
			}
		})
	}
}

// bindingAttempts are RoleBindings that the webhook must not create.
func bindingAttempts(s *scenario.S, webhook kubernetes.Interface, closed string) map[string]func() error {
	ours, all := s.Namespace, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	account := func(namespace string) *apply.SubjectApplyConfiguration {
		return apply.Subject().WithKind("ServiceAccount").WithNamespace(namespace).WithName("default")
	}
	try := func(namespace, name, kind, role string, subject *apply.SubjectApplyConfiguration) func() error {
		return func() error { return applyBinding(s, webhook, namespace, name, kind, role, subject) }
	}
	group := apply.Subject().WithAPIGroup(rbacv1.GroupName).WithKind("Group").WithName("system:serviceaccounts:" + ours)
	user := apply.Subject().WithAPIGroup(rbacv1.GroupName).WithKind("User").WithName("mallory")
	return map[string]func() error{
		"bind cluster-admin":                     try(ours, grantBinding+"x", "ClusterRole", "cluster-admin", account(ours)),
		"bind the role under another name":       try(ours, "other", "ClusterRole", grantRole, account(ours)),
		"change the role of its binding":         try(ours, grantBinding, "ClusterRole", "cluster-admin", account(ours)),
		"bind a group":                           try(ours, grantBinding, "ClusterRole", grantRole, group),
		"bind a user":                            try(ours, grantBinding, "ClusterRole", grantRole, user),
		"bind an account of another namespace":   try(ours, grantBinding, "ClusterRole", grantRole, account(closed)),
		"bind in a namespace that didn't opt in": try("default", grantBinding, "ClusterRole", grantRole, account("default")),
		"bind its own rights":                    try(scenario.SystemNamespace, grantBinding, "ClusterRole", scenario.Release+"-webhook", account(scenario.SystemNamespace)),
		"bind cluster-admin by its name":         try("default", grantBinding, "ClusterRole", "cluster-admin", account("default")),
		"bind a namespace's role":                try(ours, grantBinding, "Role", grantRole, account(ours)),
		"add to another's binding of that name":  try(closed, grantBinding, "ClusterRole", "admin", account(ours)),
		"add to another's binding":               try(ours, "theirs", "ClusterRole", "view", account(ours)),
		"remove another's binding": func() error {
			return webhook.RbacV1().RoleBindings(ours).Delete(s.Ctx, "theirs", metav1.DeleteOptions{})
		},
		"remove another's binding of that name": func() error {
			return webhook.RbacV1().RoleBindings(closed).Delete(s.Ctx, grantBinding, metav1.DeleteOptions{})
		},
		"remove all bindings": func() error {
			return webhook.RbacV1().RoleBindings(ours).DeleteCollection(s.Ctx, metav1.DeleteOptions{}, metav1.ListOptions{})
		},
		"read all bindings": func() error {
			_, err := webhook.RbacV1().RoleBindings("").List(s.Ctx, metav1.ListOptions{})
			return err
		},
		"create a binding whose name is not asked": func() error {
			_, err := webhook.RbacV1().RoleBindings(ours).Create(s.Ctx, &rbacv1.RoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: grantBinding},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: grantRole},
			}, all)
			return err
		},
		"bind in the whole cluster": func() error {
			_, err := webhook.RbacV1().ClusterRoleBindings().Create(s.Ctx, &rbacv1.ClusterRoleBinding{
				ObjectMeta: metav1.ObjectMeta{Name: grantBinding},
				RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: grantRole},
			}, all)
			return err
		},
	}
}

// otherAttempts are ways to get around the restrictions of RoleBindings.
func otherAttempts(s *scenario.S, webhook kubernetes.Interface) map[string]func() error {
	patch := func(do func(body []byte) error) func() error {
		return func() error { return do([]byte(`{"metadata":{"labels":{"a":"b"}}}`)) }
	}
	merge, options := types.MergePatchType, metav1.PatchOptions{}
	return map[string]func() error{
		"widen the role": patch(func(body []byte) error {
			_, err := webhook.RbacV1().ClusterRoles().Patch(s.Ctx, grantRole, merge, body, options)
			return err
		}),
		"change the policy": patch(func(body []byte) error {
			_, err := webhook.AdmissionregistrationV1().ValidatingAdmissionPolicies().Patch(s.Ctx, gatePolicy, merge, body, options)
			return err
		}),
		"change the policy's binding": patch(func(body []byte) error {
			_, err := webhook.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings().Patch(s.Ctx, gatePolicy, merge, body, options)
			return err
		}),
		"opt a namespace in": patch(func(body []byte) error {
			_, err := webhook.CoreV1().Namespaces().Patch(s.Ctx, "default", merge, body, options)
			return err
		}),
		"patch a pod's status": patch(func(body []byte) error {
			_, err := webhook.CoreV1().Pods(s.Namespace).Patch(s.Ctx, "any", merge, body, options, "status")
			return err
		}),
		"delete a pod": func() error { return webhook.CoreV1().Pods(s.Namespace).Delete(s.Ctx, "any", metav1.DeleteOptions{}) },
		"read secrets": func() error {
			_, err := webhook.CoreV1().Secrets(s.Namespace).List(s.Ctx, metav1.ListOptions{})
			return err
		},
		"make itself a token of another account": func() error {
			_, err := webhook.CoreV1().ServiceAccounts(s.Namespace).CreateToken(s.Ctx, "default", &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
			return err
		},
	}
}

// applyBinding applies a RoleBinding with server-side apply, as the webhook does, in a dry run.
func applyBinding(s *scenario.S, client kubernetes.Interface, namespace, name, kind, role string, subject *apply.SubjectApplyConfiguration) error {
	binding := apply.RoleBinding(name, namespace).WithSubjects(subject).
		WithRoleRef(apply.RoleRef().WithAPIGroup(rbacv1.GroupName).WithKind(kind).WithName(role))
	_, err := client.RbacV1().RoleBindings(namespace).Apply(s.Ctx, binding,
		metav1.ApplyOptions{FieldManager: "attempt", Force: true, DryRun: []string{metav1.DryRunAll}})
	return err
}

// webhookClient returns a client with a token of the webhook's own service account.
func webhookClient(s *scenario.S) kubernetes.Interface {
	s.Helper()
	return withToken(s, tokenOf(s, scenario.SystemNamespace, scenario.Release+"-webhook", nil))
}
