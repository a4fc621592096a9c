package kube

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/agentlettest"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/logtest"
)

// apiServer is a server whose answers a test decides, and the pod "own" as its client.
func apiServer(t *testing.T, answer http.HandlerFunc) *Pod {
	t.Helper()
	server := httptest.NewServer(answer)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	pod, err := NewPod(&rest.Config{Host: server.URL}, "shop", "own", "uid-1")
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// TestNoProxyIsUsed: the environment of all of a cluster's containers may name one that doesn't reach the API server.
func TestNoProxyIsUsed(t *testing.T) {
	var proxied atomic.Int32
	proxy := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { proxied.Add(1) }))
	t.Cleanup(proxy.Close)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { send(w, http.StatusOK, readyPod()) }))
	t.Cleanup(server.Close)
	address, err := url.Parse(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	pod, err := NewPod(&rest.Config{Host: server.URL, Proxy: http.ProxyURL(address)}, "shop", "own", "uid-1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pod.get(t.Context()); err != nil || proxied.Load() != 0 {
		t.Errorf("%d requests went to the proxy, %v", proxied.Load(), err)
	}
}

// send writes an object as the API server does.
func send(w http.ResponseWriter, code int, object any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(object)
	if flusher, ok := w.(http.Flusher); ok {
		flusher.Flush()
	}
}

// refusal is a Status of the API server.
func refusal(code int32, reason metav1.StatusReason, message string) metav1.Status {
	return metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure,
		Code: code, Reason: reason, Message: message,
	}
}

func readyPod() *corev1.Pod {
	return &corev1.Pod{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: "own", UID: "uid-1", ResourceVersion: "10",
			Annotations: map[string]string{contract.ServiceNames: "web", contract.ServicePort: "8080"},
		},
		Spec: corev1.PodSpec{
			ReadinessGates: []corev1.PodReadinessGate{{ConditionType: contract.Condition}},
			Containers:     []corev1.Container{{Name: "app"}},
		},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIP: "10.1.0.5",
			ContainerStatuses: []corev1.ContainerStatus{{Name: "app", Ready: true, State: corev1.ContainerState{Running: &corev1.ContainerStateRunning{}}}},
		},
	}
}

// TestGateWriteThatIsRefusedIsTriedAgain drives the real loop against answers of the API server, some of them refusals.
func TestGateWriteThatIsRefusedIsTriedAgain(t *testing.T) {
	const refusals = 4
	for name, refused := range map[string]metav1.Status{
		"409 a conflict":        refusal(http.StatusConflict, metav1.StatusReasonConflict, "the object has been modified"),
		"403 no grant yet":      refusal(http.StatusForbidden, metav1.StatusReasonForbidden, "pods \"own\" is forbidden"),
		"429 too many requests": refusal(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "too many requests"),
		"500 an error":          refusal(http.StatusInternalServerError, metav1.StatusReasonInternalError, "etcdserver: request timed out"),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var tries atomic.Int32
			opened := make(chan struct{})
			own := apiServer(t, func(w http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPatch { // an event
					send(w, http.StatusCreated, map[string]string{"apiVersion": "v1", "kind": "Event"})
					return
				}
				switch n := tries.Add(1); {
				case n <= refusals:
					send(w, int(refused.Code), refused)
				case n == refusals+1:
					send(w, http.StatusOK, readyPod())
					close(opened)
				default:
					send(w, http.StatusOK, readyPod())
				}
			})
			log := &logtest.Log{}
			registrar := agentlet.New(agentlettest.New().Fill(agentlet.Config{
				Identity: agentlet.Identity{Namespace: "shop", Pod: "own", UID: "uid-1", ConsulAddress: "10.0.0.1:8500"},
				Kube:     own, Logger: slog.New(slog.NewTextHandler(log, nil)),
			}))
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() { ended <- registrar.Run(ctx) }()
			defer func() { cancel(); <-ended }()
			began := time.Now()
			registrar.OnUpdate(readyPod())
			select {
			case <-opened:
			case <-time.After(time.Minute):
				t.Fatalf("the gate was never opened, in %d tries", tries.Load())
			}
			took := time.Since(began)
			t.Logf("opened %s after the first of %d refusals", took.Round(time.Millisecond), refusals)
			// Half of 200, 400, 800 and 1600 ms at the least: nobody hurries.
			if took < 1500*time.Millisecond {
				t.Errorf("%d refusals took %s: no backoff", refusals, took)
			}
			await(t, "the success in the log", func() bool { return log.Count("recovered") == 1 })
			if n := log.Count("level=WARN"); n != 1 {
				t.Errorf("the refusal was told %d times, want once:\n%s", n, log.String())
			}
		})
	}
}

func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !so() {
		if time.Now().After(deadline) {
			t.Fatalf("%s never came", what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestConditionOfAPodThatIsGone(t *testing.T) {
	own := apiServer(t, func(w http.ResponseWriter, _ *http.Request) {
		send(w, http.StatusNotFound, refusal(http.StatusNotFound, metav1.StatusReasonNotFound, "no such pod"))
	})
	if _, err := own.SetConditions(t.Context(), []corev1.PodCondition{{Type: contract.Condition}}); !errors.Is(err, agentlet.ErrAbsent) {
		t.Errorf("SetConditions = %v, want ErrAbsent", err)
	}
}

// TestConditionIsBounded: client-go waits by itself where an answer asks it to, and must not do so for ever.
func TestConditionIsBounded(t *testing.T) {
	own := apiServer(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "1")
		send(w, http.StatusTooManyRequests, refusal(http.StatusTooManyRequests, metav1.StatusReasonTooManyRequests, "slow down"))
	})
	ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := own.SetConditions(ctx, []corev1.PodCondition{{Type: contract.Condition}}); err == nil || time.Since(began) > 10*time.Second {
		t.Errorf("SetConditions = %v after %s, want an error in time", err, time.Since(began))
	}
}
