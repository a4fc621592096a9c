package namespaces

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

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

	for name, want := range map[string]string{"open": "none", "shop": `"web"`, "empty": `""`, "nowhere": "not known yet", "elsewhere": "not known yet"} {
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

// A namespace and a pod in it are often created by one kubectl apply.
func TestANamespaceThatWasMadeAMomentAgoIsWaitedFor(t *testing.T) {
	client := fake.NewClientset()
	n, err := New(client)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- n.Run(ctx) }()
		synctest.Wait()
		time.AfterFunc(patience/2, func() {
			_, err := client.CoreV1().Namespaces().Create(ctx, namespace("shop", map[string]string{contract.AllowedServices: "web"}), metav1.CreateOptions{})
			if err != nil {
				t.Error(err)
			}
		})
		began := time.Now()
		if got, waited := said(n, "shop"), time.Since(began); got != `"web"` || waited > patience/2+look {
			t.Errorf("%s after %s", got, waited)
		}
		began = time.Now()
		if got, waited := said(n, "nowhere"), time.Since(began); !strings.Contains(got, "not known yet") || waited > patience {
			t.Errorf("%s after %s", got, waited)
		}
		cancel()
		began = time.Now()
		if _, err := n.AllowedServices(ctx, "nowhere"); err == nil || time.Since(began) > 0 {
			t.Errorf("%v after %s, though the caller is gone", err, time.Since(began))
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
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
