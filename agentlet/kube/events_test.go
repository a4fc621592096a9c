package kube

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestTell(t *testing.T) {
	var asked string
	status := http.StatusCreated
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = r.Method + " " + r.URL.Path
		w.WriteHeader(status)
	}))
	defer server.Close()
	pod, err := NewPod(&rest.Config{Host: server.URL}, "shop", "web-1", "uid")
	if err != nil {
		t.Fatal(err)
	}
	event := agentlet.Event{Warning: true, Reason: contract.CatalogLost, Message: "lost", At: time.Now()}
	if err := pod.CreateEvent(t.Context(), event); err != nil || asked != "POST /api/v1/namespaces/shop/events" {
		t.Errorf("asked %q, error %v", asked, err)
	}
	status = http.StatusForbidden
	if err := pod.CreateEvent(t.Context(), event); err == nil {
		t.Error("a refusal is no error")
	}
}

func TestEventsForm(t *testing.T) {
	at := time.Now()
	for _, name := range []string{"web-1", strings.Repeat("a", 253), strings.Repeat("a", 235) + "-" + strings.Repeat("b", 17)} {
		p := &Pod{namespace: "shop", name: name, uid: "uid"}
		e := p.event(agentlet.Event{Reason: contract.Registered, Message: "there", At: at})
		if wrong := validation.IsDNS1123Subdomain(e.Name); len(wrong) > 0 || !strings.HasPrefix(e.Name, name[:5]) {
			t.Errorf("name %s: %q", e.Name, wrong)
		}
		if e.Type != "Normal" || e.Reason != "Registered" || e.Message != "there" || e.InvolvedObject.Name != name || e.InvolvedObject.UID != "uid" {
			t.Errorf("event %+v", e)
		}
		if wrong := validation.IsQualifiedName(e.ReportingController); len(wrong) > 0 {
			t.Errorf("controller %s: %q", e.ReportingController, wrong)
		}
	}
	if e := (&Pod{}).event(agentlet.Event{Warning: true}); e.Type != "Warning" {
		t.Errorf("type %s", e.Type)
	}
}
