package probe

import (
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// call calls a hook of a pod with the server's IP.
func call(ctx context.Context, t *testing.T, address string, action *corev1.HTTPGetAction) error {
	t.Helper()
	host, text, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return New(host).Call(ctx, registration.PreStop{HTTPGet: action, Port: port})
}

func TestCall(t *testing.T) {
	type server func(http.Handler) *httptest.Server
	plain, secure := server(httptest.NewServer), server(httptest.NewTLSServer)
	answers := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	endless := func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}
	https := &corev1.HTTPGetAction{Path: "/stop?a=b", Scheme: corev1.URISchemeHTTPS, HTTPHeaders: []corev1.HTTPHeader{
		{Name: "Authorization", Value: "Bearer secret"}, {Name: "Host", Value: "web.example"}, {Name: "X-A", Value: "1"}, {Name: "x-a", Value: "2"},
	}}
	named := &corev1.HTTPGetAction{Path: "/", HTTPHeaders: []corev1.HTTPHeader{{Name: "Host", Value: "web.example"}}}
	const tls, spoken = "TLS ", "web.example /stop?a=b kube-lifecycle/agentlet 1,2 "
	for name, test := range map[string]struct {
		server  server
		handler http.HandlerFunc
		action  *corev1.HTTPGetAction
		asked   []string // that the server was asked for
		says    string
	}{
		"200":                        {plain, answers(200), &corev1.HTTPGetAction{Path: "/"}, nil, ""},
		"500 is an answer":           {plain, answers(500), &corev1.HTTPGetAction{Path: "/"}, nil, ""},
		"a certificate for nobody":   {secure, answers(200), https, []string{tls + spoken + "Bearer secret"}, ""},
		"no TLS, where it was meant": {plain, answers(200), https, []string{spoken}, ""},
		"TLS, where it wasn't meant": {secure, answers(200), &corev1.HTTPGetAction{Path: "/"}, []string{}, ""},
		"an endless body":            {plain, endless, &corev1.HTTPGetAction{Path: "/"}, nil, ""},
		"an answer that breaks off": {plain, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte("x"))
		}, &corev1.HTTPGetAction{Path: "/"}, nil, ""},
		"a redirect to the same host": {plain, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				http.Redirect(w, r, "/there", http.StatusFound)
			}
		}, named, []string{"web.example / kube-lifecycle/agentlet  ", "web.example /there kube-lifecycle/agentlet  "}, ""},
		"a redirect to another host": {plain, func(w http.ResponseWriter, r *http.Request) {
			_, port, _ := net.SplitHostPort(r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
			http.Redirect(w, r, "http://localhost:"+port, http.StatusFound)
		}, named, []string{"web.example / kube-lifecycle/agentlet  "}, ""},
		"a header without end": {plain, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, &corev1.HTTPGetAction{Path: "/"}, nil, "header"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := []string{}
			server := test.server(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				text := r.Host + " " + r.RequestURI + " " + r.UserAgent() + " " + strings.Join(r.Header["X-A"], ",") + " " + r.Header.Get("Authorization")
				if r.TLS != nil {
					text = tls + text
				}
				asked = append(asked, text)
				test.handler(w, r)
			}))
			err := call(t.Context(), t, address(t, server), test.action)
			server.Close() // it has answered then
			want(t, err, test.says)
			if test.asked != nil && !slices.Equal(asked, test.asked) {
				t.Errorf("asked %q, want %q", asked, test.asked)
			}
		})
	}
}

// TestCallWaitsForTheEnd: a container is ready to end when its hook has answered to the end.
func TestCallWaitsForTheEnd(t *testing.T) {
	var ended atomic.Bool
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_ = http.NewResponseController(w).Flush()
		time.Sleep(100 * time.Millisecond)
		ended.Store(true)
	}))
	defer server.Close()
	if err := call(t.Context(), t, address(t, server), &corev1.HTTPGetAction{Path: "/"}); err != nil || !ended.Load() {
		t.Errorf("Call = %v, the server has ended its answer: %t", err, ended.Load())
	}
}

// TestCallGoesToTheHookHost: only a loopback address of a pod on its host's network gets here.
func TestCallGoesToTheHookHost(t *testing.T) {
	asked := make(chan struct{}, 1)
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked <- struct{}{} }))
	defer server.Close()
	_, text, _ := net.SplitHostPort(address(t, server))
	port, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	hook := registration.PreStop{HTTPGet: &corev1.HTTPGetAction{Path: "/"}, Host: "127.0.0.1", Port: port}
	want(t, New("192.0.2.1").Call(t.Context(), hook), "")
	<-asked
}

func TestCallThatFails(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := listener.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	want(t, call(ctx, t, to, &corev1.HTTPGetAction{Path: "/"}), "deadline exceeded") // nobody answers
	listener.Close()
	err = call(t.Context(), t, to, &corev1.HTTPGetAction{Path: "/"})
	want(t, err, "connection refused")
	if strings.Contains(err.Error(), to) {
		t.Errorf("the error names an address: %v", err)
	}
}
