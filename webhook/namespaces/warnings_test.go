package namespaces

import (
	"context"
	"log/slog"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/logtest"
)

// TestWrongAnnotationsAreLogged: once when a namespace is read, and again only when its annotations change.
func TestWrongAnnotationsAreLogged(t *testing.T) {
	client := fake.NewClientset(
		namespace("shop", map[string]string{contract.Gate: "ajar"}), namespace("bank", map[string]string{contract.DeregisterAfter: "2m"}),
		namespace("park", map[string]string{contract.Gate: "off"}))
	n, err := New(client)
	if err != nil {
		t.Fatal(err)
	}
	var log logtest.Log
	if err := n.LogWarnings(slog.New(slog.NewTextHandler(&log, nil)), registration.Defaults{"heartbeat-ttl": "3m", "deregister-after": "3m"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	await(t, "the first warnings", func() bool { return log.Count("namespace=shop") == 1 && log.Count("namespace=bank") == 1 })
	update := func(gate, label string) {
		changed := namespace("shop", map[string]string{contract.Gate: gate})
		changed.Labels["changed"] = label
		if _, err := client.CoreV1().Namespaces().Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	update("ajar", "1")
	update("half", "2")
	await(t, "the change", func() bool { return log.Count("half") == 1 })
	if log.Count("ajar") != 1 || log.Count("namespace=park") != 0 || log.Count("level=WARN") != 3 {
		t.Errorf("logged:\n%s", log.String())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
