package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/agentlet/agentlet/agentlet/contract"
)

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
	shut := &contract.Status{Gate: contract.GateStatus{Reason: contract.Draining}}
	ended := make(chan struct{})
	close(ended)
	for name, c := range map[string]struct {
		method, path, nonce string
		change              func(*fake)
		code                int
		says                string
	}{
		"alive":                       {"GET", contract.LivezPath, "", nil, 200, "ok"},
		"ready":                       {"GET", contract.ReadyzPath, "", nil, 200, "Registered: the catalog shows web"},
		"not ready":                   {"GET", contract.ReadyzPath, "", func(f *fake) { f.status = shut }, 503, "Draining"},
		"not ready before it has run": {"GET", contract.ReadyzPath, "", func(f *fake) { f.status = nil }, 503, ""},
		"no status before it has run": {"GET", contract.StatusPath, "", func(f *fake) { f.status = nil }, 200, "null"},
		"metrics":                     {"GET", contract.MetricsPath, "", nil, 200, "agentlet_gate_open 1"},
		"drain without a nonce":       {"GET", contract.DrainPath, "", nil, 403, "another pod"},
		"drain of another pod":        {"GET", contract.DrainPath, "fedcba9876543210", nil, 403, "another pod"},
		"drain while nothing ends":    {"GET", contract.DrainPath, testNonce, nil, 200, "not terminating"},
		"drain of a pod that ends":    {"GET", contract.DrainPath, testNonce, func(f *fake) { f.drained = ended }, 200, "drained"},
		"nothing is changed by PUT":   {"PUT", contract.DrainPath, testNonce, nil, 405, ""},
		"unknown path":                {"GET", "/debug/pprof/", "", nil, 404, ""},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := running(t)
				if c.change != nil {
					c.change(f)
				}
				got := request(f.server().Handler(), c.method, c.path, c.nonce)
				if got.Code != c.code || !strings.Contains(got.Body.String(), c.says) {
					t.Errorf("%d %q, want %d and %q", got.Code, got.Body, c.code, c.says)
				}
			})
		})
	}
}

// TestContainersOfDrainHooks: a container's own hook is asked for by the drain hook that names it, and with the pod's nonce alone.
func TestContainersOfDrainHooks(t *testing.T) {
	for name, test := range map[string]struct {
		header, nonce string
		want          []string
	}{
		"a hook of its own": {"web", testNonce, []string{"web"}},
		"none":              {"", testNonce, nil},
		"another pod's":     {"web", "another", nil},
	} {
		t.Run(name, func(t *testing.T) {
			f := running(t)
			f.drained = make(chan struct{})
			close(f.drained)
			r := httptest.NewRequest(http.MethodGet, contract.DrainPath, nil)
			r.Header.Set(contract.NonceHeader, test.nonce)
			r.Header.Set(contract.ContainerHeader, test.header)
			f.server().Handler().ServeHTTP(httptest.NewRecorder(), r)
			if !slices.Equal(f.containers, test.want) {
				t.Errorf("asked for the hooks of %q, want %q", f.containers, test.want)
			}
		})
	}
}

func TestStatusIsReadWhenAsked(t *testing.T) {
	f := running(t)
	var status contract.Status
	if err := json.Unmarshal(request(f.server().Handler(), "GET", contract.StatusPath, "").Body.Bytes(), &status); err != nil {
		t.Fatal(err)
	}
	if f.reads != 1 || !status.Gate.Open || len(status.Services) != 1 || status.Services[0].Catalog != contract.Passing {
		t.Errorf("after %d readings the status is %+v", f.reads, status)
	}
}

// FuzzDrainRequest holds that whatever anybody sends to the agentlet's port is answered, and gets as far as the drain
// hook only with the pod's own nonce.
func FuzzDrainRequest(f *testing.F) {
	f.Add(http.MethodGet, contract.DrainPath, "", testNonce, "127.0.0.1")
	f.Add(http.MethodGet, contract.DrainPath, "nonce="+testNonce, "", "web:19500")
	f.Add(http.MethodPost, contract.DrainPath+"/", "a=%zz&;", testNonce+" ", "")
	f.Add(http.MethodGet, contract.StatusPath, "", strings.Repeat("x", 1000), "[::1]:0")
	f.Add("GET\n", "//drain/../drain", "?", "\x00", "a/b")
	f.Fuzz(func(t *testing.T, method, path, query, sent, host string) {
		registrar := running(t)
		gone, cancel := context.WithCancel(t.Context())
		cancel() // or a hook with the right nonce would wait a second for a sign of the end
		request := (&http.Request{Method: method, URL: &url.URL{Path: path, RawQuery: query}, Host: host, Header: http.Header{}}).WithContext(gone)
		request.Header.Set(contract.NonceHeader, sent)
		recorder := httptest.NewRecorder()
		registrar.server().Handler().ServeHTTP(recorder, request)
		hooked := method == http.MethodGet && path == contract.DrainPath
		switch {
		case hooked && sent == testNonce && recorder.Code != http.StatusOK, hooked && sent != testNonce && recorder.Code != http.StatusForbidden:
			t.Errorf("%d %q to the nonce %q", recorder.Code, recorder.Body, sent)
		case strings.Contains(recorder.Body.String(), testNonce) && !strings.Contains(path+query+host, testNonce):
			t.Errorf("the nonce is told: %q", recorder.Body)
		case registrar.drains > 0 && sent != testNonce:
			t.Error("the drain hook was reached without the nonce")
		}
		if len(registrar.overrides) > 0 {
			t.Errorf("an override came from nowhere: %+v", registrar.overrides)
		}
	})
}
