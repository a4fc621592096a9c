package grants

import (
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	k8stesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// From the first injected pod of a namespace to the last.
func TestAccountsAreBoundWhilePodsNeedThem(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, namespace(shop, contract.InjectEnabled), plainPod(shop, "plain", "other"))
		defer background(t, c.grants().Run)()
		c.want("no injected pod", shop, "none")

		first, second := injectedPod(shop, "first", ""), injectedPod(shop, "second", "web")
		c.create(first)
		c.want("a pod under the default account", shop, "default")
		c.create(second)
		c.create(injectedPod(shop, "third", "web"))
		c.want("two pods under another", shop, "default web")
		if got := c.binding(shop); got.Labels[ManagedByLabel] != FieldManager || got.RoleRef.Name != testRole || got.RoleRef.Kind != "ClusterRole" {
			t.Errorf("the binding is %+v", got)
		}

		c.delete(first)
		c.want("the first has gone a moment ago", shop, "default web")
		time.Sleep(unbindDelay)
		c.want("the first has gone", shop, "web")
		c.delete(second)
		time.Sleep(unbindDelay)
		c.want("one of two has gone", shop, "web")
		c.end(injectedPod(shop, "third", "web"), corev1.PodSucceeded)
		time.Sleep(unbindDelay)
		c.want("the last has ended", shop, "none")
	})
}

func TestAnAccountThatIsNeededAgainSoonStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := injectedPod(shop, "web-0", "web")
		c := newCluster(t, namespace(shop, contract.InjectEnabled), pod)
		defer background(t, c.grants().Run)()
		c.want("at first", shop, "web")
		before := c.writes()
		for range 10 {
			c.delete(pod)
			time.Sleep(unbindDelay - 2*time.Second)
			c.create(pod)
			c.want("the successor is there", shop, "web")
		}
		if n := c.writes() - before; n != 0 {
			t.Errorf("%d writes", n)
		}
		c.delete(pod)
		time.Sleep(unbindDelay + time.Second)
		c.want("without a successor", shop, "none")
	})
}

func TestWithoutTheLabelOnlyNeededGrantsStay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := injectedPod(shop, "web", "web")
		c := newCluster(t, namespace(shop, contract.InjectEnabled), pod,
			namespace("closed", "disabled"), injectedPod("closed", "forged", "web"),
			namespace("kube-system", contract.InjectEnabled), injectedPod("kube-system", "forged", "web"))
		defer background(t, c.grants().Run)()
		c.want("labelled", shop, "web")
		c.label(shop, "disabled")
		c.want("the label has just gone", shop, "web")
		c.create(injectedPod(shop, "later", "later"))
		time.Sleep(24 * time.Hour)
		c.want("a day without the label", shop, "web")
		c.delete(pod)
		time.Sleep(unbindDelay)
		c.want("its pod has gone", shop, "none")
		c.want("never labelled", "closed", "none")
		c.want("excluded", "kube-system", "none")
		for _, action := range c.Actions() {
			if action.GetResource().Resource == "pods" && action.GetNamespace() == "closed" {
				t.Errorf("%s of pods in a namespace that did not opt in", action.GetVerb())
			}
		}
		c.label(shop, contract.InjectEnabled)
		c.want("labelled again", shop, "later")
	})
}

func TestPoliciesAreNeededForNewGrantsOnly(t *testing.T) {
	for _, name := range testPolicies {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := newCluster(t, namespace(shop, contract.InjectEnabled), injectedPod(shop, "first", "first"))
				bindings := c.AdmissionregistrationV1().ValidatingAdmissionPolicyBindings()
				_, binding := policyObjects(name)
				g := c.grants()
				if g.Ready() == nil {
					t.Error("ready before Run")
				}
				c.must(bindings.Delete(t.Context(), name, metav1.DeleteOptions{}))
				defer background(t, g.Run)()
				c.want("before the policy's binding", shop, "none")
				if err := g.Ready(); err == nil || err.Error() != "nothing more is granted: ValidatingAdmissionPolicyBinding "+name+" does not exist" {
					t.Errorf("Ready = %v", err)
				}
				_, err := bindings.Create(t.Context(), binding, metav1.CreateOptions{})
				c.must(err)
				c.want("with the policy's binding", shop, "first")
				if err := g.Ready(); err != nil {
					t.Errorf("Ready = %v", err)
				}
				c.must(c.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(t.Context(), name, metav1.DeleteOptions{}))
				c.want("the policy has just gone", shop, "first")
				c.create(injectedPod(shop, "second", "second"))
				c.want("without the policy", shop, "first")
				if g.Ready() == nil {
					t.Error("ready without the policy")
				}
			})
		})
	}
}

func TestReadyNamesEverythingThatIsMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		for _, name := range testPolicies {
			c.must(c.AdmissionregistrationV1().ValidatingAdmissionPolicies().Delete(t.Context(), name, metav1.DeleteOptions{}))
		}
		g := c.grants()
		defer background(t, g.Run)()
		time.Sleep(time.Second)
		want := "nothing more is granted: ValidatingAdmissionPolicy agentlet-own-pod-gate does not exist; " +
			"ValidatingAdmissionPolicy agentlet-own-pod-events does not exist"
		if err := g.Ready(); err == nil || err.Error() != want {
			t.Errorf("Ready = %v, want %s", err, want)
		}
	})
}

func TestForeignChangesAreUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, namespace(shop, contract.InjectEnabled), injectedPod(shop, "web", "web"))
		defer background(t, c.grants().Run)()
		c.want("at first", shop, "web")
		binding := c.binding(shop)
		binding.Subjects = append(binding.Subjects,
			rbacv1.Subject{APIGroup: rbacv1.GroupName, Kind: rbacv1.GroupKind, Name: "system:serviceaccounts"},
			rbacv1.Subject{Kind: rbacv1.ServiceAccountKind, Namespace: "elsewhere", Name: "web"})
		_, err := c.RbacV1().RoleBindings(shop).Update(t.Context(), binding, metav1.UpdateOptions{})
		c.must(err)
		c.want("with strangers", shop, "web")
		c.must(c.RbacV1().RoleBindings(shop).Delete(t.Context(), testBinding, metav1.DeleteOptions{}))
		c.want("deleted", shop, "web")
	})
}

func TestAForeignBindingIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		theirs := &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: testBinding},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: "cluster-admin"},
			Subjects:   []rbacv1.Subject{account(shop, "admin")},
		}
		elsewhere := theirs.DeepCopy()
		elsewhere.Namespace, elsewhere.Subjects = "closed", []rbacv1.Subject{account("closed", "admin")}
		c := newCluster(t, namespace(shop, contract.InjectEnabled), theirs, injectedPod(shop, "web", "web"), elsewhere)
		defer background(t, c.grants().Run)()
		c.want("another role under our name", shop, "admin")
		c.want("in a namespace that did not opt in", "closed", "admin")
		for _, action := range c.Actions() {
			if action.GetResource().Resource == "pods" && action.GetNamespace() == "closed" {
				t.Errorf("%s of pods in a namespace that did not opt in", action.GetVerb())
			}
		}
		if n := c.writes(); n != 0 {
			t.Errorf("%d writes", n)
		}
		c.must(c.RbacV1().RoleBindings(shop).Delete(t.Context(), testBinding, metav1.DeleteOptions{}))
		c.want("removed by its owner", shop, "web")
	})
}

func TestARefusedWriteIsRetriedWithBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, namespace(shop, contract.InjectEnabled))
		refuses := time.Now().Add(time.Hour)
		tries := c.fails(func() error {
			if time.Now().Before(refuses) {
				return errors.New("not now")
			}
			return nil
		})
		defer background(t, c.grants().Run)()
		c.create(injectedPod(shop, "web", "web"))
		time.Sleep(10 * time.Second)
		if n := tries.Load(); n < 4 || n > 8 {
			t.Errorf("%d tries in ten seconds", n)
		}
		time.Sleep(time.Hour - 10*time.Second)
		if n := tries.Load(); n < 20 || n > 60 {
			t.Errorf("%d tries in an hour", n)
		}
		time.Sleep(2 * longestWait)
		c.want("at last", shop, "web")
	})
}

// A terminating namespace accepts no new objects. That is no failure, and is not retried.
func TestATerminatingNamespaceIsLeftAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, namespace(shop, contract.InjectEnabled))
		forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "rolebindings"}, testBinding, errors.New("terminating"))
		forbidden.ErrStatus.Details.Causes = []metav1.StatusCause{{Type: corev1.NamespaceTerminatingCause}}
		tries := c.fails(func() error { return forbidden })
		defer background(t, c.grants().Run)()
		c.create(injectedPod(shop, "web", "web"))
		time.Sleep(resync / 2)
		// At most once for each event: that of the pod, and that of the first list.
		if n := tries.Load(); n < 1 || n > 2 {
			t.Errorf("%d tries", n)
		}
	})
}

func TestReplicasAndRestartsAgree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := injectedPod(shop, "gone", "gone")
		c := newCluster(t, namespace(shop, contract.InjectEnabled), injectedPod(shop, "web", "web"), gone)
		one, other := background(t, c.grants().Run), background(t, c.grants().Run)
		c.want("two replicas", shop, "gone web")
		if n := c.writes(); n > 4 {
			t.Errorf("%d writes of two replicas for one change", n)
		}
		one()
		other()
		c.delete(gone)
		c.create(injectedPod(shop, "new", "new"))
		time.Sleep(time.Hour)
		defer background(t, c.grants().Run)()
		defer background(t, c.grants().Run)()
		c.want("after the restart", shop, "gone new web")
		time.Sleep(unbindDelay)
		c.want("and a while", shop, "new web")
		before := c.writes()
		time.Sleep(24 * time.Hour)
		if n := c.writes() - before; n != 0 {
			t.Errorf("%d writes in a quiet day", n)
		}
	})
}

// Admission and grants share one list and watch of the namespaces.
func TestNamespacesAreWatchedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, namespace(shop, contract.InjectEnabled), injectedPod(shop, "web", "web"))
		g := c.grants()
		defer background(t, g.Run)()
		c.want("at first", shop, "web")
		if _, known := g.namespaces.Get(shop); !known {
			t.Error("the admission doesn't know the namespace")
		}
		lists := 0
		for _, action := range c.Actions() {
			if action.GetVerb() == "list" && action.GetResource().Resource == "namespaces" {
				lists++
			}
		}
		if lists != 1 {
			t.Errorf("listed %d times", lists)
		}
		// The failures of a running informer can't be counted.
		if _, err := New(Config{Client: c, Namespaces: g.namespaces.Informer()}); err == nil {
			t.Error("New takes an informer that runs already")
		}
	})
}

func TestManyNamespaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t)
		defer background(t, c.grants().Run)()
		names := make([]string, 50)
		for i := range names {
			names[i] = "team-" + string(rune('a'+i%26)) + string(rune('a'+i/26))
			_, err := c.CoreV1().Namespaces().Create(t.Context(), namespace(names[i], contract.InjectEnabled), metav1.CreateOptions{})
			c.must(err)
			c.create(injectedPod(names[i], "web", "web"))
		}
		time.Sleep(10 * time.Second)
		for _, name := range names {
			if got := c.accounts(name); got != "web" {
				t.Errorf("%s: %s", name, got)
			}
		}
		// A write may be repeated before its own event arrives.
		if n := c.writes(); n > 2*len(names) {
			t.Errorf("%d writes for %d namespaces", n, len(names))
		}
	})
}

func TestCreationsOfABindingAreRateLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := newCluster(t, namespace(shop, contract.InjectEnabled), injectedPod(shop, "web", "web"))
		defer background(t, c.grants().Run)()
		c.want("labelled", shop, "web")
		for began := time.Now(); time.Since(began) < 10*time.Minute; time.Sleep(100 * time.Millisecond) {
			_ = c.RbacV1().RoleBindings(shop).Delete(t.Context(), testBinding, metav1.DeleteOptions{}) // usually it is absent
		}
		created := 0
		for _, action := range c.Actions() {
			if action.GetResource().Resource == "rolebindings" && action.GetVerb() == "patch" {
				created++
			}
		}
		if created > 70 {
			t.Errorf("re-created %d times in ten minutes, want about one in ten seconds", created)
		}
		time.Sleep(createBurst * createPause)
		c.want("after the fight", shop, "web")
	})
}

// A webhook that starts while lists fail removes no grant before the pods are listed.
func TestNoGrantIsRemovedBeforeThePodsAreListed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := injectedPod(shop, "web", "web")
		c := newCluster(t, namespace(shop, contract.InjectEnabled), pod, &rbacv1.RoleBinding{
			ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: testBinding, Labels: map[string]string{ManagedByLabel: FieldManager}},
			RoleRef:    rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: clusterRole, Name: testRole},
			Subjects:   []rbacv1.Subject{account(shop, "web")},
		})
		var lists atomic.Bool
		c.PrependReactor("list", "pods", func(k8stesting.Action) (bool, runtime.Object, error) {
			// For this error client-go doesn't wait by the wall clock.
			return !lists.Load(), nil, apierrors.NewResourceExpired("not now")
		})
		defer background(t, c.grants().Run)()
		time.Sleep(2 * resync)
		c.want("while lists fail", shop, "web")
		if n := c.writes(); n != 0 {
			t.Errorf("%d writes", n)
		}
		lists.Store(true)
		c.delete(pod)
		time.Sleep(resync + unbindDelay)
		c.want("once it is known that nobody needs it", shop, "none")
	})
}

// A binding that was changed or created again since it was observed is not deleted.
func TestADeletionNamesTheObservedVersion(t *testing.T) {
	seen := &rbacv1.RoleBinding{ObjectMeta: metav1.ObjectMeta{Namespace: shop, Name: testBinding, UID: "uid", ResourceVersion: "7"}}
	c := newCluster(t, seen)
	c.must(newController(c.grants().Grants).delete(t.Context(), seen))
	for _, action := range c.Actions() {
		deletion, ok := action.(k8stesting.DeleteActionImpl)
		if !ok {
			continue
		}
		p := deletion.DeleteOptions.Preconditions
		if p == nil || p.UID == nil || *p.UID != "uid" || p.ResourceVersion == nil || *p.ResourceVersion != "7" {
			t.Errorf("preconditions %+v", p)
		}
		return
	}
	t.Error("nothing was deleted")
}
