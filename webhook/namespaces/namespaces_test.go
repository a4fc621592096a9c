package namespaces

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	k8stesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func namespace(name string, annotations map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name, Annotations: annotations, Labels: map[string]string{contract.InjectLabel: contract.InjectEnabled},
	}}
}

func TestAnnotationsOf(t *testing.T) {
	elsewhere := namespace("elsewhere", map[string]string{contract.AllowedServices: "*"})
	elsewhere.Labels = nil
	client := fake.NewClientset(elsewhere,
		namespace("open", map[string]string{"other": "1"}), namespace("shop", map[string]string{contract.AllowedServices: "web"}),
		namespace("both", map[string]string{contract.AllowedServices: "web", contract.AllowedTags: "!x"}), namespace("empty", map[string]string{contract.AllowedServices: ""}),
		namespace("defaults", map[string]string{contract.Readiness: "kubelet", contract.ServiceTags: "x"}))
	n, err := New(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.Ask(t.Context(), "shop"); err == nil || n.Ready() == nil || !strings.Contains(err.Error(), "not read yet") {
		t.Fatalf("before anything was read: %v", err)
	}
	if _, known := n.Get("shop"); known {
		t.Fatal("known before anything was read")
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	await(t, "the first reading", func() bool { return n.Ready() == nil })

	for name, want := range map[string]string{
		"open": "none", "shop": "allowed-services:web]", "both": "allowed-services:web agentlet.dev/allowed-tags:!x]", "empty": "allowed-services:]", "defaults": "map[agentlet.dev/readiness:kubelet]",
		"nowhere": "does not exist", "elsewhere": "has no label agentlet.dev/inject=enabled", "../x": "no name of a namespace",
	} {
		if got := said(n, name); !strings.Contains(got, want) {
			t.Errorf("%s says %s, want %s", name, got, want)
		}
	}
	changed := namespace("shop", map[string]string{contract.AllowedServices: "pay"})
	if _, err := client.CoreV1().Namespaces().Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "a change", func() bool { return said(n, "shop") == "map[agentlet.dev/allowed-services:pay]" })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if said(n, "shop") != "map[agentlet.dev/allowed-services:pay]" {
		t.Error("what was read is forgotten when the watch ends")
	}
}

// One kubectl apply may create a namespace and a pod in it, and a watch may be interrupted.
func TestNamespacesBeforeTheWatchAreFetched(t *testing.T) {
	client := fake.NewClientset(namespace("shop", map[string]string{contract.AllowedServices: "web"}))
	var fails, panics atomic.Bool
	told := false
	client.PrependReactor("list", "namespaces", func(k8stesting.Action) (bool, runtime.Object, error) {
		if !told { // the informer's list
			told = true
			return true, &corev1.NamespaceList{}, nil
		}
		if panics.Load() {
			panic("of a client")
		}
		return fails.Load(), nil, errors.New("etcd is away")
	})
	client.PrependWatchReactor("namespaces", func(k8stesting.Action) (bool, watch.Interface, error) { return true, watch.NewFake(), nil })
	n, err := New(client)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	await(t, "the first reading", func() bool { return n.Ready() == nil })
	for name, want := range map[string]string{"shop": "allowed-services:web]", "nowhere": "has no label agentlet.dev/inject=enabled"} {
		if got := said(n, name); !strings.Contains(got, want) {
			t.Errorf("%s says %s, want %s", name, got, want)
		}
	}
	fails.Store(true)
	if got := said(n, "shop"); !strings.Contains(got, "etcd is away") {
		t.Errorf("without an answer: %s", got)
	}
	panics.Store(true)
	if got := said(n, "shop"); !strings.Contains(got, "of a client") {
		t.Errorf("with a panic: %s", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// following is a Namespaces whose API server answers lists by asked, and whose watch delivers the events of watched.
type following struct {
	*Namespaces
	asked   atomic.Int64
	exists  atomic.Bool // the namespace shop
	watched *watch.FakeWatcher
}

func follow(t *testing.T) *following {
	t.Helper()
	client := fake.NewClientset()
	f := &following{watched: watch.NewFake()}
	client.PrependReactor("list", "namespaces", func(action k8stesting.Action) (bool, runtime.Object, error) {
		list := &corev1.NamespaceList{}
		if name, ok := action.(k8stesting.ListAction).GetListRestrictions().Fields.RequiresExactMatch(metav1.ObjectNameField); ok {
			f.asked.Add(1)
			if name == "shop" && f.exists.Load() {
				list.Items = append(list.Items, *namespace("shop", map[string]string{contract.AllowedServices: "web"}))
			}
		}
		return true, list, nil
	})
	client.PrependWatchReactor("namespaces", func(k8stesting.Action) (bool, watch.Interface, error) { return true, f.watched, nil })
	n, err := New(slow{client})
	if err != nil {
		t.Fatal(err)
	}
	f.Namespaces = n
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	await(t, "the first reading", func() bool { return n.Ready() == nil })
	return f
}

// listTime is what a request takes.
const listTime = 10 * time.Millisecond

// slow is a client whose lists of namespaces take listTime, so that callers come while a request is under way.
type slow struct{ *fake.Clientset }

func (s slow) CoreV1() typedcorev1.CoreV1Interface { return slowCore{s.Clientset.CoreV1()} }

type slowCore struct{ typedcorev1.CoreV1Interface }

func (s slowCore) Namespaces() typedcorev1.NamespaceInterface {
	return slowNamespaces{s.CoreV1Interface.Namespaces()}
}

type slowNamespaces struct{ typedcorev1.NamespaceInterface }

func (s slowNamespaces) List(ctx context.Context, options metav1.ListOptions) (*corev1.NamespaceList, error) {
	defer time.Sleep(listTime)
	return s.NamespaceInterface.List(ctx, options)
}

// A client of the webhook can name any namespaces, any number of times.
func TestRequestsForNamespacesAreBounded(t *testing.T) {
	for name, test := range map[string]struct {
		namespace func(i int) string
		most      int64
	}{
		"one":  {func(int) string { return "nowhere" }, 3},
		"many": {func(i int) string { return "nowhere-" + strconv.Itoa(i) }, questionsBurst + questions},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := follow(t)
				var asking sync.WaitGroup
				for i := range 1000 {
					asking.Go(func() {
						began := time.Now()
						if got := said(n.Namespaces, test.namespace(i)); !strings.Contains(got, "does not exist") && !strings.Contains(got, "try again") {
							t.Errorf("said %s", got)
						}
						if took := time.Since(began); took > patience {
							t.Errorf("took %s", took)
						}
					})
				}
				asking.Wait()
				if asked := n.asked.Load(); asked < 1 || asked > test.most {
					t.Errorf("asked %d times in a second, want %d at the most", asked, test.most)
				}
				time.Sleep(time.Minute)
				said(n.Namespaces, "another")
				if absent := len(n.absent); absent != 1 {
					t.Errorf("%d namespaces are remembered as absent", absent)
				}
			})
		})
	}
}

// A client may ask for a namespace just before it is created.
func TestANewNamespaceIsNotAbsent(t *testing.T) {
	for name, test := range map[string]struct {
		created func(n *following)
		after   time.Duration
	}{
		"the watch tells": {func(n *following) {
			n.watched.Add(namespace("shop", map[string]string{contract.AllowedServices: "web"}))
		}, 0},
		"the watch is interrupted": {func(*following) {}, absentFor + listTime},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := follow(t)
				if got := said(n.Namespaces, "shop"); !strings.Contains(got, "does not exist") {
					t.Fatalf("before it exists: %s", got)
				}
				n.exists.Store(true)
				began, answer := time.Now(), make(chan string)
				go func() { answer <- said(n.Namespaces, "shop") }()
				synctest.Wait()
				test.created(n)
				if got := <-answer; got != "map[agentlet.dev/allowed-services:web]" || time.Since(began) != test.after {
					t.Errorf("after %s: %s", time.Since(began), got)
				}
			})
		})
	}
}

// A caller's namespace may be created while the request of an earlier caller is under way.
func TestTheAnswerToAnEarlierCallerIsNotAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := follow(t)
		earlier := make(chan string)
		go func() { earlier <- said(n.Namespaces, "shop") }()
		synctest.Wait()
		n.exists.Store(true)
		if got := said(n.Namespaces, "shop"); got != "map[agentlet.dev/allowed-services:web]" {
			t.Errorf("said %s", got)
		}
		if got := <-earlier; !strings.Contains(got, "does not exist") {
			t.Errorf("said %s to the earlier caller", got)
		}
	})
}

func TestTrimKeepsOnlyWhatIsRead(t *testing.T) {
	whole := namespace("shop", map[string]string{contract.AllowedServices: "web", contract.AllowedTags: "v*", "other": "1"})
	whole.Labels["other"] = "1"
	whole.Annotations["linkerd.io/inject"], whole.Labels["istio-injection"] = "enabled", "enabled"
	small, err := trim(whole)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := small.(*corev1.Namespace)
	if !ok || n.Name != "shop" || len(n.Annotations) != 3 || len(n.Labels) != 2 || n.Labels[contract.InjectLabel] != contract.InjectEnabled ||
		n.Annotations["linkerd.io/inject"] != "enabled" || n.Labels["istio-injection"] != "enabled" ||
		len(whole.Annotations) != 4 || len(whole.Labels) != 3 {
		t.Errorf("%+v", small)
	}
	if other, err := trim("tombstone"); err != nil || other != "tombstone" {
		t.Errorf("%v, %v", other, err)
	}
}

func said(n *Namespaces, name string) string {
	found, known := n.Get(name)
	var err error
	if !known {
		found, err = n.Ask(context.Background(), name)
	}
	switch {
	case err != nil:
		return err.Error()
	case found.Annotations == nil:
		return "none"
	default:
		return fmt.Sprint(found.Annotations)
	}
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s never came", what)
		}
	}
}
