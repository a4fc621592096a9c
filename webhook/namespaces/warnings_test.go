package namespaces

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// lines is a log's text, for concurrent use.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(line []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(line)
}

func (l *lines) count(part string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Count(l.text.String(), part)
}

// TestWrongAnnotationsAreLogged: once when a namespace is read, and again only when its annotations change.
func TestWrongAnnotationsAreLogged(t *testing.T) {
	client := fake.NewClientset(
		namespace("shop", map[string]string{contract.Gate: "ajar"}), namespace("bank", map[string]string{contract.DeregisterAfter: "2m"}),
		namespace("park", map[string]string{contract.Gate: "off"}))
	n, err := New(client)
	if err != nil {
		t.Fatal(err)
	}
	var log lines
	if err := n.LogWarnings(slog.New(slog.NewTextHandler(&log, nil)), registration.Defaults{"heartbeat-ttl": "3m", "deregister-after": "3m"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- n.Run(ctx) }()
	await(t, "the first warnings", func() bool { return log.count("namespace=shop") == 1 && log.count("namespace=bank") == 1 })
	update := func(gate, label string) {
		changed := namespace("shop", map[string]string{contract.Gate: gate})
		changed.Labels["changed"] = label
		if _, err := client.CoreV1().Namespaces().Update(ctx, changed, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	update("ajar", "1")
	update("half", "2")
	await(t, "the change", func() bool { return log.count("half") == 1 })
	if log.count("ajar") != 1 || log.count("namespace=park") != 0 || log.count("level=WARN") != 3 {
		t.Errorf("logged:\n%s", log.text.String())
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
