package probe

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// try runs one probe against a server of this test.
func try(t *testing.T, address string, probe registration.Probe) error {
	t.Helper()
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	if probe.Port, err = strconv.Atoi(port); err != nil {
		t.Fatal(err)
	}
	if probe.Timeout == 0 {
		probe.Timeout = 5 * time.Second
	}
	return New(host).Probe(t.Context(), probe)
}

func address(t *testing.T, server *httptest.Server) string {
	t.Helper()
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	return u.Host
}

// want checks whether a probe's error says this; empty: that there is none.
func want(t *testing.T, err error, says string) {
	t.Helper()
	if (err == nil) != (says == "") || err != nil && !strings.Contains(err.Error(), says) {
		t.Errorf("Probe = %v, want %q", err, says)
	}
}

func TestHTTPGet(t *testing.T) {
	var elsewhere atomic.Int64
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere.Add(1) }))
	defer other.Close()
	asked := func(hold func(*http.Request) bool) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if !hold(r) {
				w.WriteHeader(http.StatusTeapot)
			}
		}
	}
	header := func(pairs ...string) *corev1.HTTPGetAction {
		action := &corev1.HTTPGetAction{Path: "/"}
		for i := 0; i < len(pairs); i += 2 {
			action.HTTPHeaders = append(action.HTTPHeaders, corev1.HTTPHeader{Name: pairs[i], Value: pairs[i+1]})
		}
		return action
	}
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) }
	}
	redirect := func(to string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/there" {
				w.Header().Set("Location", to)
				w.WriteHeader(http.StatusFound)
			} else {
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}
	}
	cases := map[string]struct {
		handler http.HandlerFunc
		action  *corev1.HTTPGetAction
		says    string
	}{
		"200":                       {status(200), header(), ""},
		"304":                       {status(304), header(), ""},
		"400":                       {status(400), header(), "HTTP status 400"},
		"503":                       {status(503), header(), "HTTP status 503"},
		"the path and its query":    {asked(func(r *http.Request) bool { return r.URL.Path == "/a/b" && r.URL.RawQuery == "c=d" }), &corev1.HTTPGetAction{Path: "/a/b?c=d"}, ""},
		"an empty path":             {asked(func(r *http.Request) bool { return r.URL.Path == "/" }), &corev1.HTTPGetAction{}, ""},
		"a path that is no URL's":   {asked(func(r *http.Request) bool { return r.URL.Path == "/%zz" }), &corev1.HTTPGetAction{Path: "/%zz"}, ""},
		"a path that names a place": {asked(func(r *http.Request) bool { return r.URL.Path == "/x" }), &corev1.HTTPGetAction{Path: "http://elsewhere.example/x"}, ""},
		"the kubelet's own headers": {asked(func(r *http.Request) bool {
			return strings.HasPrefix(r.UserAgent(), "kube-probe/") && r.Header.Get("Accept") == "*/*" && r.Header.Get("Accept-Encoding") == ""
		}), header(), ""},
		"the probe's own headers": {asked(func(r *http.Request) bool {
			return r.UserAgent() == "mine" && strings.Join(r.Header["X-A"], " ") == "1 2"
		}), header("User-Agent", "mine", "X-A", "1", "x-a", "2"), ""},
		"an empty Accept":             {asked(func(r *http.Request) bool { return len(r.Header["Accept"]) == 0 }), header("Accept", ""), ""},
		"a Host":                      {asked(func(r *http.Request) bool { return r.Host == "shop.example" }), header("Host", "shop.example"), ""},
		"a redirect here is followed": {redirect("/there"), header(), "HTTP status 503"},
		"one to elsewhere is not":     {redirect(strings.Replace(other.URL, "127.0.0.1", "localhost", 1)), header(), ""},
		"redirects for ever":          {redirect("/again"), header(), "too many redirects"},
		"an endless body": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				if _, err := w.Write(make([]byte, 4096)); err != nil {
					return
				}
			}
		}, header(), ""},
		"a header without end": {func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("X", strings.Repeat("x", 1<<20)) }, header(), "header"},
		"an answer that breaks off": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "9")
			_, _ = w.Write([]byte("x"))
		}, header(), "unexpected EOF"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(c.handler)
			defer server.Close()
			want(t, try(t, address(t, server), registration.Probe{HTTPGet: c.action}), c.says)
		})
	}
	if elsewhere.Load() > 0 {
		t.Error("a redirect led to another host")
	}
}

func TestHTTPSIsNotVerified(t *testing.T) {
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	want(t, try(t, address(t, server), registration.Probe{HTTPGet: &corev1.HTTPGetAction{Scheme: corev1.URISchemeHTTPS}}), "")
	want(t, try(t, address(t, server), registration.Probe{HTTPGet: &corev1.HTTPGetAction{Scheme: corev1.URISchemeHTTP}}), "HTTP status 400")
}

func TestNoProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://127.0.0.1:1")
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	if New("10.0.0.1").plain.Proxy != nil || New("10.0.0.1").h2.Proxy != nil {
		t.Error("there is a proxy")
	}
	want(t, try(t, address(t, server), registration.Probe{HTTPGet: &corev1.HTTPGetAction{}}), "")
}

func TestTCP(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	place := listener.Addr().String()
	want(t, try(t, place, registration.Probe{}), "")
	listener.Close()
	err = try(t, place, registration.Probe{})
	want(t, err, "connection refused")
	if strings.Contains(err.Error(), place) {
		t.Errorf("the error names an address: %v", err)
	}
}

// health is a gRPC server of one method, as far as a health check can tell.
func health(t *testing.T, answer func(service string, w http.ResponseWriter)) string {
	t.Helper()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.ProtoMajor != 2 || r.URL.Path != healthPath || r.Header.Get("Content-Type") != contentType ||
			r.Header.Get("Te") != "trailers" || len(body) < framePrefix || int(binary.BigEndian.Uint32(body[1:])) != len(body)-framePrefix {
			t.Errorf("asked %s %s %v with %q, %v", r.Proto, r.URL.Path, r.Header, body, err)
		}
		service := ""
		if message := body[framePrefix:]; len(message) > 2 && message[0] == 10 {
			service = string(message[2:])
		}
		w.Header().Set("Content-Type", contentType)
		answer(service, w)
	}))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	t.Cleanup(server.Close)
	return address(t, server)
}

func TestGRPC(t *testing.T) {
	says := func(message []byte, status string) func(string, http.ResponseWriter) {
		return func(_ string, w http.ResponseWriter) {
			_, _ = w.Write(frame(message))
			w.Header().Set(http.TrailerPrefix+"Grpc-Status", status)
		}
	}
	cases := map[string]struct {
		answer func(string, http.ResponseWriter)
		says   string
	}{
		"serving":              {says([]byte{8, 1}, "0"), ""},
		"not serving":          {says([]byte{8, 2}, "0"), "not serving"},
		"unknown, left out":    {says(nil, "0"), "not serving"},
		"more fields":          {says([]byte{18, 2, 'h', 'i', 33, 0, 0, 0, 0, 0, 0, 0, 0, 45, 0, 0, 0, 0, 8, 1}, "0"), ""},
		"garbage":              {says([]byte{8}, "0"), "no gRPC health"},
		"a field beyond it":    {says([]byte{18, 200, 1}, "0"), "no gRPC health"},
		"an error, no message": {func(_ string, w http.ResponseWriter) { w.Header().Set("Grpc-Status", "12") }, `status "12"`},
		"an error after it":    {says([]byte{8, 1}, "13"), `status "13"`},
		"no status":            {func(_ string, w http.ResponseWriter) { _, _ = w.Write(frame([]byte{8, 1})) }, `status ""`},
		"no gRPC":              {func(_ string, w http.ResponseWriter) { w.WriteHeader(http.StatusNotFound) }, "HTTP status 404"},
		"the service":          {func(service string, w http.ResponseWriter) { says([]byte{8, byte(len(service))}, "0")(service, w) }, "health 4, not serving"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			service := "shop"
			want(t, try(t, health(t, c.answer), registration.Probe{GRPC: &corev1.GRPCAction{Service: &service}}), c.says)
		})
	}
	t.Run("a server that speaks HTTP/1.1 alone", func(t *testing.T) {
		server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
		defer server.Close()
		if err := try(t, address(t, server), registration.Probe{GRPC: &corev1.GRPCAction{}}); err == nil {
			t.Error("succeeded")
		}
	})
	t.Run("over TLS", func(t *testing.T) {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { says([]byte{8, 1}, "0")("", w) }))
		server.EnableHTTP2 = true
		server.StartTLS()
		defer server.Close()
		mode := corev1.GRPCProbeModeTLS
		want(t, try(t, address(t, server), registration.Probe{GRPC: &corev1.GRPCAction{Mode: &mode}}), "")
	})
}

func TestHTTP2InTheClear(t *testing.T) {
	var major atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { major.Store(int64(r.ProtoMajor)) }))
	server.Config.Protocols = new(http.Protocols)
	server.Config.Protocols.SetUnencryptedHTTP2(true)
	server.Start()
	defer server.Close()
	protocol := corev1.HTTPProtocolHTTP2
	want(t, try(t, address(t, server), registration.Probe{HTTPGet: &corev1.HTTPGetAction{Protocol: &protocol, Port: intstr.FromInt32(1)}}), "")
	if major.Load() != 2 {
		t.Errorf("HTTP/%d was spoken", major.Load())
	}
}

// TestEveryProbeIsBounded holds that a server which accepts and says nothing costs the timeout, or the caller's patience,
// and leaves neither goroutines nor connections behind.
func TestEveryProbeIsBounded(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	port := listener.Addr().(*net.TCPAddr).Port
	prober := New("127.0.0.1")
	goroutines := runtime.NumGoroutine()
	for _, probe := range []registration.Probe{{HTTPGet: &corev1.HTTPGetAction{}}, {GRPC: &corev1.GRPCAction{}}} {
		probe.Port, probe.Timeout = port, 50*time.Millisecond
		want(t, prober.Probe(t.Context(), probe), "no answer within 50ms")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		probe.Timeout = time.Hour
		if err := prober.Probe(ctx, probe); !errors.Is(err, context.Canceled) {
			t.Errorf("Probe = %v, want context.Canceled", err)
		}
	}
	for range 100 {
		if runtime.NumGoroutine() <= goroutines {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d goroutines, %d before", runtime.NumGoroutine(), goroutines)
}

func TestProbesLeaveNothingBehind(t *testing.T) {
	var open atomic.Int64
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			open.Add(1)
		case http.StateClosed:
			open.Add(-1)
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}
	server.Start()
	defer server.Close()
	grpc := health(t, func(_ string, w http.ResponseWriter) {
		_, _ = w.Write(frame([]byte{8, 1}))
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	})
	prober := New("127.0.0.1")
	_, port, _ := net.SplitHostPort(grpc)
	number, _ := strconv.Atoi(port)
	http1 := registration.Probe{HTTPGet: &corev1.HTTPGetAction{}, Port: server.Listener.Addr().(*net.TCPAddr).Port, Timeout: time.Second}
	http2 := registration.Probe{GRPC: &corev1.GRPCAction{}, Port: number, Timeout: time.Second}
	goroutines := runtime.NumGoroutine()
	for range 200 {
		want(t, prober.Probe(t.Context(), http1), "")
		want(t, prober.Probe(t.Context(), http2), "")
	}
	for range 100 {
		if open.Load() == 0 && runtime.NumGoroutine() <= goroutines+2 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("%d connections are open, %d goroutines run, %d before", open.Load(), runtime.NumGoroutine(), goroutines)
}

func FuzzParseHealth(f *testing.F) {
	f.Add(frame([]byte{8, 1}))
	f.Add(frame(nil))
	f.Add(frame([]byte{18, 2, 'h', 'i', 8, 2}))
	f.Fuzz(func(t *testing.T, body []byte) {
		health, err := parseHealth(body)
		if err != nil {
			if health != 0 {
				t.Errorf("health %d beside %v", health, err)
			}
			return
		}
		more, err := parseHealth(frame(append([]byte{18, 1, 'x'}, body[framePrefix:]...)))
		if err != nil || more != health {
			t.Errorf("with a field more the health is %d, %v, and %d without", more, err, health)
		}
	})
}

// BenchmarkProbe probes as the agentlet does, each 200 ms with its settings of the runtime, and reports what the process and
// the kernel work for a probe: cpu-µs/op. The server is a cheap one, and its share is in it.
func BenchmarkProbe(b *testing.B) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	defer debug.SetGCPercent(debug.SetGCPercent(50))
	listener, err := (&net.ListenConfig{}).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer listener.Close()
	go answerAll(listener)
	prober := New("127.0.0.1")
	probe := registration.Probe{HTTPGet: &corev1.HTTPGetAction{Path: "/ready"}, Port: listener.Addr().(*net.TCPAddr).Port, Timeout: time.Second}
	began := cpuTime()
	b.ReportAllocs()
	for b.Loop() {
		if err := prober.Probe(b.Context(), probe); err != nil {
			b.Fatal(err)
		}
		time.Sleep(200 * time.Millisecond)
	}
	b.ReportMetric(float64((cpuTime()-began).Microseconds())/float64(b.N), "cpu-µs/op")
}

// answerAll says 200 to everything, once a connection.
func answerAll(listener net.Listener) {
	request := make([]byte, 4096)
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		_, _ = connection.Read(request)
		_, _ = connection.Write([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"))
		_ = connection.Close()
	}
}

// cpuTime of this process, its own and the kernel's for it.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &usage) != nil {
		return 0
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
