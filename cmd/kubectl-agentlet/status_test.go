package main

import (
	"bytes"
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestStatusWatch checks that a watch prints a table when something has changed, survives an outage of the API server, and ends
// with its context.
func TestStatusWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		pod := func(name string) *corev1.Pod {
			return &corev1.Pod{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
				Spec:       corev1.PodSpec{InitContainers: []corev1.Container{{Name: contract.ContainerName, RestartPolicy: new(corev1.ContainerRestartPolicyAlways)}}},
			}
		}
		client := fake.NewClientset(pod("first"))
		var away atomic.Bool
		client.PrependReactor("list", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			return away.Load(), nil, errors.New("away")
		})
		ctx, cancel := context.WithCancel(t.Context())
		var out, errs bytes.Buffer
		command := &cobra.Command{}
		command.SetContext(ctx)
		command.SetOut(&out)
		command.SetErr(&errs)
		done := make(chan error, 1)
		go func() {
			done <- showStatus(command, &statusOptions{watch: true, interval: time.Second, timeout: time.Minute}, client, "shop", false)
		}()

		time.Sleep(3500 * time.Millisecond)
		away.Store(true)
		time.Sleep(time.Second)
		away.Store(false)
		if _, err := client.CoreV1().Pods("shop").Create(ctx, pod("second"), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if tables := strings.Count(out.String(), "POD "); tables != 2 || strings.Count(out.String(), "second") == 0 {
			t.Errorf("%d tables, want 2:\n%s", tables, out.String())
		}
		if strings.Count(errs.String(), "away") != 1 {
			t.Errorf("warnings: %q", errs.String())
		}
	})
}

func TestOutputForms(t *testing.T) {
	for _, name := range []string{"status", "check", "version"} {
		if _, _, err := call(t, "", name, "-o", "xml"); err == nil || !strings.Contains(err.Error(), `--output "xml"`) {
			t.Errorf("%s: %v", name, err)
		}
		if _, _, err := call(t, "", name); err == nil || !strings.Contains(err.Error(), "read kubeconfig") {
			t.Errorf("%s without a kubeconfig: %v", name, err)
		}
	}
}

func TestCompletionOfOutput(t *testing.T) {
	out, _, err := call(t, "", "__complete", "check", "-o", "")
	if err != nil || !strings.HasPrefix(out, "json\n") {
		t.Errorf("%q, %v", out, err)
	}
}
