package namespaces

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/fake"
	k8stesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func namespace(name string, annotations map[string]string) *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: name, Annotations: annotations, Labels: map[string]string{contract.InjectLabel: contract.InjectEnabled},
	}}
}

func TestAllowedServicesOf(t *testing.T) {
	elsewhere := namespace("elsewhere", map[string]string{contract.AllowedServices: "*"})
	elsewhere.Labels = nil
	client := fake.NewClientset(elsewhere,
		namespace("open", map[string]string{"other": "1"}), namespace("shop", map[string]string{contract.AllowedServices: "web"}),
		namespace("empty", map[string]string{contract.AllowedServices: ""}))
	n, err := New(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := n.AllowedServices(t.Context(), "shop"); err == nil || n.Ready() == nil || !strings.Contains(err.Error(), "not read yet") {
		t.Fatalf("before anything was read: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	await(t, "the first reading", func() bool { return n.Ready() == nil })

	for name, want := range map[string]string{"open": "none", "shop": `"web"`, "empty": `""`, "nowhere": "does not exist", "elsewhere": "has no label agentlet.dev/inject=enabled"} {
		if got := said(n, name); !strings.Contains(got, want) {
			t.Errorf("%s says %s, want %s", name, got, want)
		}
	}
	changed := namespace("shop", map[string]string{contract.AllowedServices: "pay"})
	if _, err := client.CoreV1().Namespaces().Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
	await(t, "a change", func() bool { return said(n, "shop") == `"pay"` })
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if said(n, "shop") != `"pay"` {
		t.Error("what was read is forgotten when the watch ends")
	}
}

// A namespace and a pod in it are often created by one kubectl apply, and a watch may be interrupted.
func TestTheAPIServerIsAskedAboutWhatTheWatchHasNotTold(t *testing.T) {
	client := fake.NewClientset(namespace("shop", map[string]string{contract.AllowedServices: "web"}))
	var fails atomic.Bool
	told := false
	client.PrependReactor("list", "namespaces", func(k8stesting.Action) (bool, runtime.Object, error) {
		if !told { // the informer's own list
			told = true
			return true, &corev1.NamespaceList{}, nil
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
	for name, want := range map[string]string{"shop": `"web"`, "nowhere": "has no label agentlet.dev/inject=enabled"} {
		if got := said(n, name); !strings.Contains(got, want) {
			t.Errorf("%s says %s, want %s", name, got, want)
		}
	}
	fails.Store(true)
	if got := said(n, "shop"); !strings.Contains(got, "etcd is away") {
		t.Errorf("without an answer: %s", got)
	}
	fails.Store(false)
	for range questions {
		n.asking <- struct{}{}
	}
	gone, leave := context.WithCancel(ctx)
	leave()
	if _, err := n.AllowedServices(gone, "shop"); err == nil || !strings.Contains(err.Error(), "too many others") {
		t.Errorf("beside %d questions: %v", questions, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestSlimKeepsOnlyWhatIsRead(t *testing.T) {
	whole := namespace("shop", map[string]string{contract.AllowedServices: "web", "other": "1"})
	small, err := slim(whole)
	if err != nil {
		t.Fatal(err)
	}
	n, ok := small.(*corev1.Namespace)
	if !ok || n.Name != "shop" || len(n.Annotations) != 1 || n.Labels != nil || len(whole.Annotations) != 2 {
		t.Errorf("%+v", small)
	}
	if other, err := slim("tombstone"); err != nil || other != "tombstone" {
		t.Errorf("%v, %v", other, err)
	}
}

func said(n *Namespaces, name string) string {
	switch value, err := n.AllowedServices(context.Background(), name); {
	case err != nil:
		return err.Error()
	case value == nil:
		return "none"
	default:
		return `"` + *value + `"`
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
