package agentlet

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

const testNonce = "0123456789abcdef"

func request(handler http.Handler, method, path, nonce string) *httptest.ResponseRecorder {
	recorder := httptest.NewRecorder()
	r := httptest.NewRequest(method, path, nil)
	if nonce != "" {
		r.Header.Set(contract.NonceHeader, nonce)
	}
	handler.ServeHTTP(recorder, r)
	return recorder
}

func TestHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		after(time.Second)
		handler := r.Handler(testNonce)
		cases := map[string]struct {
			method, path, nonce string
			code                int
			says                string
		}{
			"alive":                     {"GET", contract.LivezPath, "", 200, "ok"},
			"ready":                     {"GET", contract.ReadyzPath, "", 200, "Registered"},
			"metrics":                   {"GET", contract.MetricsPath, "", 200, "agentlet_gate_open 1"},
			"drain without a nonce":     {"GET", contract.DrainPath, "", 403, "another pod"},
			"drain of another pod":      {"GET", contract.DrainPath, "fedcba9876543210", 403, "another pod"},
			"drain while nothing ends":  {"GET", contract.DrainPath, testNonce, 200, "not terminating"},
			"nothing is changed by PUT": {"PUT", contract.DrainPath, testNonce, 405, ""},
			"unknown path":              {"GET", "/debug/pprof/", "", 404, ""},
		}
		for name, c := range cases {
			got := request(handler, c.method, c.path, c.nonce)
			if got.Code != c.code || !strings.Contains(got.Body.String(), c.says) {
				t.Errorf("%s: %d %q, want %d and %q", name, got.Code, got.Body, c.code, c.says)
			}
		}
		var status Status
		if err := json.Unmarshal(request(handler, "GET", contract.StatusPath, "").Body.Bytes(), &status); err != nil {
			t.Fatal(err)
		}
		if !status.Gate.Open || status.Phase != "running" || len(status.Services) != 1 ||
			status.Services[0].Catalog != contract.Passing || status.Services[0].ID != webID {
			t.Errorf("status = %+v", status)
		}
		r.OnUpdate(deleted(ready(testPod(), true)))
		if got := request(handler, "GET", contract.DrainPath, testNonce); !strings.Contains(got.Body.String(), "drained") {
			t.Errorf("drain of a terminating pod: %q", got.Body)
		}
		if got := request(handler, "GET", contract.ReadyzPath, ""); got.Code != 503 {
			t.Errorf("ready after the drain: %d, want 503", got.Code)
		}
	})
}

func TestHandlerBeforeRun(t *testing.T) {
	handler := New(Config{}).Handler(testNonce)
	if got := request(handler, "GET", contract.ReadyzPath, ""); got.Code != 503 {
		t.Errorf("ready = %d, want 503", got.Code)
	}
	if got := request(handler, "GET", contract.StatusPath, ""); got.Code != 200 || strings.TrimSpace(got.Body.String()) != "null" {
		t.Errorf("status = %d %q", got.Code, got.Body)
	}
}
