package grants

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/webhook/namespaces"
)

const (
	testBinding = "agentlet-pods"
	testRole    = "agentlet-pod"
	shop        = "shop"
)

var testPolicies = []string{"agentlet-own-pod-gate", "agentlet-own-pod-events"}

// cluster is a fake API server.
type cluster struct {
	*fake.Clientset
	t testing.TB
}

// newCluster is a cluster with the policy in force and these objects.
func newCluster(t testing.TB, objects ...runtime.Object) *cluster {
	t.Helper()
	for _, name := range testPolicies {
		policy, binding := policyObjects(name)
		objects = append(objects, policy, binding)
	}
	return &cluster{Clientset: fake.NewClientset(objects...), t: t}
}

func policyObjects(name string) (*admissionregistrationv1.ValidatingAdmissionPolicy, *admissionregistrationv1.ValidatingAdmissionPolicyBinding) {
	fail := admissionregistrationv1.Fail
	policy := &admissionregistrationv1.ValidatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicySpec{
			FailurePolicy: &fail, Validations: []admissionregistrationv1.Validation{{Expression: "false"}},
		},
	}
	binding := &admissionregistrationv1.ValidatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionregistrationv1.ValidatingAdmissionPolicyBindingSpec{
			PolicyName: name, ValidationActions: []admissionregistrationv1.ValidationAction{admissionregistrationv1.Deny},
		},
	}
	return policy, binding
}

// replica is a Grants with its informer of namespaces.
type replica struct {
	*Grants
	namespaces *namespaces.Namespaces
}

// Run runs both, as the command does.
func (r *replica) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return r.namespaces.Run(ctx) })
	group.Go(func() error { return r.Grants.Run(ctx) })
	return group.Wait()
}

func (c *cluster) grants() *replica {
	c.t.Helper()
	known, err := namespaces.New(c)
	c.must(err)
	g, err := New(Config{
		Client: c, Namespaces: known.Informer(), Binding: testBinding, Role: testRole, Policies: testPolicies,
		Excluded: []string{"kube-system"}, Log: slog.New(slog.DiscardHandler),
	})
	c.must(err)
	return &replica{Grants: g, namespaces: known}
}

// background runs a function until stop is called.
func background(t *testing.T, run func(context.Context) error) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx) }()
	return func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// accounts that are bound in the namespace, in their order; "none" without a binding.
func (c *cluster) accounts(namespace string) string {
	c.t.Helper()
	binding := c.binding(namespace)
	if binding == nil {
		return "none"
	}
	var names []string
	for _, subject := range binding.Subjects {
		if subject.Kind != rbacv1.ServiceAccountKind || subject.Namespace != namespace {
			c.t.Errorf("a strange subject: %+v", subject)
		}
		names = append(names, subject.Name)
	}
	return strings.Join(names, " ")
}

func (c *cluster) binding(namespace string) *rbacv1.RoleBinding {
	c.t.Helper()
	list, err := c.RbacV1().RoleBindings(namespace).List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	if i := slices.IndexFunc(list.Items, func(b rbacv1.RoleBinding) bool { return b.Name == testBinding }); i >= 0 {
		return &list.Items[i]
	}
	return nil
}

// want waits a moment and then compares the bound accounts.
func (c *cluster) want(when, namespace, accounts string) {
	c.t.Helper()
	time.Sleep(time.Second)
	if got := c.accounts(namespace); got != accounts {
		c.t.Errorf("%s: bound are %q, want %q", when, got, accounts)
	}
}

// writes counts the attempts to change a binding.
func (c *cluster) writes() (n int) {
	for _, action := range c.Actions() {
		if action.GetResource().Resource == "rolebindings" && !slices.Contains([]string{"get", "list", "watch"}, action.GetVerb()) {
			n++
		}
	}
	return n
}

// fails makes each write of a binding fail with the error of err, until that is nil.
func (c *cluster) fails(err func() error) *atomic.Int32 {
	var tries atomic.Int32
	answer := func(action k8stesting.Action) (bool, runtime.Object, error) {
		if action.GetVerb() == "list" || action.GetVerb() == "watch" {
			return false, nil, nil
		}
		tries.Add(1)
		problem := err()
		return problem != nil, nil, problem
	}
	c.PrependReactor("*", "rolebindings", answer)
	return &tries
}

func (c *cluster) must(err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) create(pod *corev1.Pod) {
	c.t.Helper()
	_, err := c.CoreV1().Pods(pod.Namespace).Create(c.t.Context(), pod, metav1.CreateOptions{})
	c.must(err)
}

func (c *cluster) end(pod *corev1.Pod, phase corev1.PodPhase) {
	c.t.Helper()
	pod = pod.DeepCopy()
	pod.Status.Phase = phase
	_, err := c.CoreV1().Pods(pod.Namespace).UpdateStatus(c.t.Context(), pod, metav1.UpdateOptions{})
	c.must(err)
}

func (c *cluster) delete(pod *corev1.Pod) {
	c.t.Helper()
	c.must(c.CoreV1().Pods(pod.Namespace).Delete(c.t.Context(), pod.Name, metav1.DeleteOptions{}))
}

// label opts a namespace in, or out with another value.
func (c *cluster) label(name, value string) {
	c.t.Helper()
	_, err := c.CoreV1().Namespaces().Update(c.t.Context(), namespace(name, value), metav1.UpdateOptions{})
	c.must(err)
}

func namespace(name, inject string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{contract.InjectLabel: inject}}}
}

func plainPod(namespace, name, account string) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec:       corev1.PodSpec{ServiceAccountName: account},
	}
}

func injectedPod(namespace, name, account string) *corev1.Pod {
	pod := plainPod(namespace, name, account)
	always := corev1.ContainerRestartPolicyAlways
	pod.Spec.InitContainers = []corev1.Container{{
		Name: contract.ContainerName, RestartPolicy: &always, Env: []corev1.EnvVar{{Name: contract.EnvNonce, Value: "0123456789abcdef"}},
	}}
	return pod
}
