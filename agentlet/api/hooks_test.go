package api

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/agentlettest"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/probe"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// podIP is that of the test's pod.
const podIP = "127.0.0.1"

// hookedPod has a container for each of these own hooks, with the drain hook that the injector makes of it.
func hookedPod(own map[string]*corev1.LifecycleHandler) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "web-1", UID: "11111111-2222",
			Annotations: map[string]string{contract.ServiceNames: "web", contract.ServicePort: "8080", contract.DrainDelay: "0s"},
		},
		Spec:   corev1.PodSpec{ReadinessGates: []corev1.PodReadinessGate{{ConditionType: contract.Condition}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning, PodIP: podIP},
	}
	for name, hook := range own {
		pod.Spec.Containers = append(pod.Spec.Containers, corev1.Container{
			Name: name, Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
				Path: registration.DrainPath(hook),
				HTTPHeaders: []corev1.HTTPHeader{
					{Name: contract.NonceHeader, Value: testNonce}, {Name: contract.ContainerHeader, Value: name},
				},
			}}},
		})
		pod.Status.ContainerStatuses = append(pod.Status.ContainerStatuses, corev1.ContainerStatus{
			Name: name, Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}},
		})
	}
	return pod
}

// callAs calls a container's preStop hook, as the kubelet does.
func callAs(t *testing.T, to string, hook *corev1.HTTPGetAction) string {
	t.Helper()
	u, err := url.Parse(hook.Path)
	if err != nil {
		t.Fatal(err)
	}
	u.Scheme, u.Host = "http", to
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	for _, header := range hook.HTTPHeaders {
		request.Header.Add(header.Name, header.Value)
	}
	response, err := (&http.Client{Timeout: time.Minute}).Do(request)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return string(body)
}

// TestOwnHooks runs a registrar behind the server: the application's own hook is called once, when the catalog has dropped the
// pod, and the kubelet gets its answer when the application has answered, and the process may end then.
func TestOwnHooks(t *testing.T) {
	const slow = requestTimeout + 500*time.Millisecond // a hook is held for longer than a request may take to arrive
	ports := agentlettest.New()
	instances := func() int {
		there, err := ports.Instances(t.Context(), contract.IDPrefix)
		if err != nil {
			t.Error(err)
		}
		return len(there)
	}
	var mu sync.Mutex
	var requests []string
	application := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		requests = append(requests, r.RequestURI+" "+r.Header.Get("X-Why"))
		if n := instances(); n > 0 && r.URL.Path != "/alone" {
			t.Errorf("%s was called with %d instances in the catalog", r.RequestURI, n)
		}
		if r.URL.Path == "/stop" {
			time.Sleep(slow)
		}
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer application.Close()
	_, port, err := net.SplitHostPort(strings.TrimPrefix(application.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	get := func(path string) *corev1.LifecycleHandler {
		number := intstr.Parse(port)
		return &corev1.LifecycleHandler{HTTPGet: &corev1.HTTPGetAction{
			Path: path, Port: number, HTTPHeaders: []corev1.HTTPHeader{{Name: "X-Why", Value: "because"}},
		}}
	}
	pod := hookedPod(map[string]*corev1.LifecycleHandler{
		"app": get("/stop?a=b"), "alone": get("/alone"), "sleeper": {Sleep: &corev1.SleepAction{Seconds: 1}},
	})
	hooks := map[string]*corev1.HTTPGetAction{}
	for i := range pod.Spec.Containers {
		hooks[pod.Spec.Containers[i].Name] = pod.Spec.Containers[i].Lifecycle.PreStop.HTTPGet
	}
	registrar := agentlet.New(ports.Fill(agentlet.Config{
		Identity: agentlet.Identity{Namespace: pod.Namespace, Pod: pod.Name, UID: string(pod.UID), PodIP: podIP}, Hooks: probe.New(podIP),
	}))
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() { ended <- registrar.Run(ctx) }()
	registrar.OnUpdate(pod)
	to := served(t, New(registrar, testNonce, slog.New(slog.DiscardHandler)))
	for deadline := time.Now().Add(10 * time.Second); !ports.Open(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the gate stays closed")
		}
	}

	if got := callAs(t, to, hooks["alone"]); got != "not terminating\n" || instances() != 1 {
		t.Errorf("a container that is restarted alone: %q, %d instances", got, instances())
	}
	other := *hooks["app"]
	other.HTTPHeaders = []corev1.HTTPHeader{{Name: contract.NonceHeader, Value: "another"}, {Name: contract.ContainerHeader, Value: "app"}}
	if got := callAs(t, to, &other); !strings.Contains(got, "another pod") {
		t.Errorf("another pod's hook: %q", got)
	}

	var answered sync.WaitGroup
	for name, least := range map[string]time.Duration{"app": slow, "sleeper": time.Second} {
		answered.Go(func() {
			began := time.Now()
			if got := callAs(t, to, hooks[name]); got != "drained\n" || time.Since(began) < least {
				t.Errorf("%s: %q after %s, want it after %s", name, got, time.Since(began), least)
			}
		})
	}
	registrar.Terminate()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	answered.Wait()
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(requests, ", "); got != "/alone because, /stop?a=b because" {
		t.Errorf("the application was asked for %s", got)
	}
}
