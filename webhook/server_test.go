package webhook

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/internal/connlimit"
	"github.com/agentlet/agentlet/internal/pkitest"
)

// selfSigned returns a certificate for the name, and a pool that trusts it.
func selfSigned(t testing.TB, name string, notAfter time.Time) (*tls.Certificate, *x509.CertPool) {
	t.Helper()
	leaf, key := pkitest.Sign(t, &x509.Certificate{
		DNSNames: []string{name}, NotBefore: notAfter.Add(-time.Hour), NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, nil, nil)
	pool := x509.NewCertPool()
	pool.AddCert(leaf)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key, Leaf: leaf}, pool
}

// running is a started server.
type running struct {
	admission, health string // URLs
	client            *http.Client
	stop              func()
	done              <-chan error
}

func start(t testing.TB, config Config, roots *x509.CertPool) running {
	t.Helper()
	if config.Log == nil {
		config.Log = slog.New(slog.DiscardHandler)
	}
	admission, health := listener(t), listener(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- New(config).serve(ctx, admission, health) }()
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "agentlet.test.svc"}, ForceAttemptHTTP2: true,
	}}
	t.Cleanup(func() {
		client.CloseIdleConnections()
		cancel()
	})
	return running{
		admission: "https://" + admission.Addr().String(), health: "http://" + health.Addr().String(),
		client: client, stop: cancel, done: done,
	}
}

func listener(t testing.TB) *net.TCPListener {
	t.Helper()
	l, err := connlimit.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// call returns the status and the body.
func (r *running) call(t *testing.T, method, url string, body []byte) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	request.Header.Set("Content-Type", "application/json")
	response, err := r.client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(response.Body)
	if err := errors.Join(err, response.Body.Close()); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(answer)
}

func TestServerOverTLS(t *testing.T) {
	certificate, roots := selfSigned(t, "agentlet.test.svc", time.Now().Add(30*time.Minute))
	certificates := &fakeCertificates{certificate: certificate}
	server := start(t, Config{Decider: realInjector(t), Certificates: certificates, Version: "v1.2.3"}, roots)

	status, body := server.call(t, http.MethodPost, server.admission+MutatePath+"?timeout=5s", envelope(t, ordinaryPod(t), nil))
	if status != http.StatusOK || !strings.Contains(body, `"patch"`) {
		t.Errorf("admission: %d %s", status, body)
	}
	for path, want := range map[string]int{"/": 404, "/mutate/x": 404, LivezPath: 404, MetricsPath: 404} {
		if status, body := server.call(t, http.MethodGet, server.admission+path, nil); status != want {
			t.Errorf("%s on the admission port: %d %s", path, status, body)
		}
	}
	if status, _ := server.call(t, http.MethodGet, server.health+LivezPath, nil); status != http.StatusOK {
		t.Errorf("livez: %d", status)
	}
	if status, body := server.call(t, http.MethodGet, server.health+ReadyzPath, nil); status != http.StatusOK {
		t.Errorf("readyz: %d %s", status, body)
	}
	status, body = server.call(t, http.MethodGet, server.health+MetricsPath, nil)
	for _, want := range []string{
		`agentlet_webhook_admissions_total{outcome="injected",reason="Injected",type="mutating"} 1`,
		`agentlet_webhook_admission_duration_seconds_count{type="mutating"} 1`,
		`agentlet_webhook_certificate_expiry_timestamp_seconds 1.`,
		`agentlet_webhook_ca_bundle_in_sync 1`,
		`version="v1.2.3"} 1`,
		`go_goroutines`,
	} {
		if status != http.StatusOK || !strings.Contains(body, want) {
			t.Errorf("metrics: %d, without %s:\n%s", status, want, body)
		}
	}
	server.stop()
	if err := <-server.done; err != nil {
		t.Errorf("asked to end, it says %v", err)
	}
}

func TestReadinessNamesWhatIsMissing(t *testing.T) {
	certificate, _ := selfSigned(t, "agentlet.test.svc", time.Now().Add(time.Hour))
	for name, test := range map[string]struct {
		certificates fakeCertificates
		stopping     bool
		status       int
		want         string
	}{
		"all there":      {fakeCertificates{certificate: certificate}, false, 200, "[+] certificate: ok\n[+] trust: ok\n[+] running: ok\n"},
		"no certificate": {fakeCertificates{untrusted: errors.New("secret x is missing")}, false, 503, "[-] certificate: nothing there yet\n[-] trust: secret x is missing\n[+] running: ok\n"},
		"not trusted":    {fakeCertificates{certificate: certificate, untrusted: errors.New("no caBundle")}, false, 503, "[+] certificate: ok\n[-] trust: no caBundle\n[+] running: ok\n"},
		"ending":         {fakeCertificates{certificate: certificate}, true, 503, "[+] certificate: ok\n[+] trust: ok\n[-] running: shutting down\n"},
	} {
		t.Run(name, func(t *testing.T) {
			server := New(Config{Certificates: &test.certificates, Log: slog.New(slog.DiscardHandler)})
			server.health.stopping.Store(test.stopping)
			recorder := get(server.plain.Handler, ReadyzPath)
			if recorder.Code != test.status || recorder.Body.String() != test.want {
				t.Errorf("%d:\n%s", recorder.Code, recorder.Body)
			}
			metric := get(server.plain.Handler, MetricsPath).Body.String()
			inSync := "agentlet_webhook_ca_bundle_in_sync 1"
			if test.certificates.untrusted != nil {
				inSync = "agentlet_webhook_ca_bundle_in_sync 0"
			}
			if !strings.Contains(metric, inSync) {
				t.Errorf("no %q in the metrics", inSync)
			}
			if test.certificates.certificate == nil && !strings.Contains(metric, "agentlet_webhook_certificate_expiry_timestamp_seconds 0") {
				t.Error("an expiry without a certificate")
			}
		})
	}
}

func TestShutdownIsUnreadyFirstAndFinishesRequests(t *testing.T) {
	certificate, roots := selfSigned(t, "agentlet.test.svc", time.Now().Add(time.Hour))
	entered, release := make(chan struct{}), make(chan struct{})
	server := start(t, Config{
		Decider: decide(func(injector.Request) injector.Decision {
			close(entered)
			<-release
			return injector.Decision{Outcome: injector.Skipped, Reason: "Test"}
		}),
		Certificates: &fakeCertificates{certificate: certificate}, ShutdownDelay: time.Second,
	}, roots)
	type answer struct {
		status int
		body   string
	}
	answered := make(chan answer, 1)
	body := envelope(t, ordinaryPod(t), nil)
	go func() {
		status, body := server.call(t, http.MethodPost, server.admission+MutatePath, body)
		answered <- answer{status, body}
	}()
	<-entered
	server.stop()
	deadline := time.Now().Add(800 * time.Millisecond)
	for {
		status, _ := server.call(t, http.MethodGet, server.health+ReadyzPath, nil)
		if status == http.StatusServiceUnavailable {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("still ready while ending")
		}
	}
	// During the delay the server still accepts requests.
	if status, _ := server.call(t, http.MethodGet, server.admission+MutatePath, nil); status != http.StatusMethodNotAllowed {
		t.Errorf("a request within the delay: %d", status)
	}
	select {
	case err := <-server.done:
		t.Fatalf("ended with a request under way: %v", err)
	case <-time.After(1200 * time.Millisecond):
	}
	close(release)
	if got := <-answered; got.status != http.StatusOK {
		t.Errorf("the request under way: %d %s", got.status, got.body)
	}
	if err := <-server.done; err != nil {
		t.Errorf("it ends with %v", err)
	}
}

// A client that keeps its connections, as the API server does with HTTP/1.1, has none left when the server closes.
func TestShutdownClosesKeptConnections(t *testing.T) {
	certificate, roots := selfSigned(t, "agentlet.test.svc", time.Now().Add(time.Hour))
	server := start(t, Config{
		Decider: realInjector(t), Certificates: &fakeCertificates{certificate: certificate}, ShutdownDelay: time.Second,
	}, roots)
	server.client.Transport = &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "agentlet.test.svc"}}
	reused := func() (reused, closes bool) {
		trace := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused },
		})
		request, err := http.NewRequestWithContext(trace, http.MethodGet, server.admission+MutatePath, nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := server.client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, response.Body)
		if err := response.Body.Close(); err != nil {
			t.Fatal(err)
		}
		return reused, response.Close
	}
	for i, want := range []bool{false, true} {
		if again, closes := reused(); again != want || closes {
			t.Errorf("call %d: connection reused: %t, closed: %t", i, again, closes)
		}
	}
	server.stop()
	for status := http.StatusOK; status == http.StatusOK; {
		status, _ = server.call(t, http.MethodGet, server.health+ReadyzPath, nil)
	}
	if again, closes := reused(); !again || !closes {
		t.Errorf("first call within the delay: connection reused: %t, closed: %t", again, closes)
	}
	if again, closes := reused(); again || !closes {
		t.Errorf("second call within the delay: connection reused: %t, closed: %t", again, closes)
	}
	if err := <-server.done; err != nil {
		t.Errorf("it ends with %v", err)
	}
}

func TestRunSaysWhichPortIsTaken(t *testing.T) {
	taken := listener(t)
	t.Cleanup(func() { _ = taken.Close() })
	certificates := &fakeCertificates{}
	for name, config := range map[string]Config{
		"listen for admission":          {Listen: taken.Addr().String(), MetricsListen: "127.0.0.1:0"},
		"listen for health and metrics": {Listen: "127.0.0.1:0", MetricsListen: taken.Addr().String()},
	} {
		config.Certificates, config.Log = certificates, slog.New(slog.DiscardHandler)
		if err := New(config).Run(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The server closes the connection of a client that sends its header or its body slowly.
func TestASlowClientHoldsNothing(t *testing.T) {
	for name, test := range map[string]struct {
		sends string
		bound time.Duration
	}{
		"nothing":         {"", readHeaderTimeout},
		"half a header":   {"POST /mutate HTTP/1.1\r\nHost: x\r\n", readHeaderTimeout},
		"half a body":     {"POST /mutate HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{", readTimeout},
		"no next request": {"GET /mutate HTTP/1.1\r\nHost: x\r\n\r\n", idleTimeout},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				client, serverSide := net.Pipe()
				l := &oneConnection{connection: serverSide, closed: make(chan struct{})}
				server := newHTTPServer(testMutator(realInjector(t)), slog.New(slog.DiscardHandler))
				ended := make(chan error, 1)
				go func() { ended <- server.Serve(l) }()
				began := time.Now()
				if _, err := io.WriteString(client, test.sends); err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, bufio.NewReader(client)) // until the server closes it
				if took := time.Since(began); took > test.bound+time.Second {
					t.Errorf("cut off after %s, want %s", took, test.bound)
				}
				if err := server.Close(); err != nil {
					t.Error(err)
				}
				if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
					t.Error(err)
				}
			})
		})
	}
}

// The server closes the connection of a client that doesn't read its answer, too.
func TestAClientThatReadsNoAnswerHoldsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, serverSide := net.Pipe()
		server := newHTTPServer(testMutator(realInjector(t)), slog.New(slog.DiscardHandler))
		var cutOff atomic.Bool
		server.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				cutOff.Store(true)
			}
		}
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(&oneConnection{connection: serverSide, closed: make(chan struct{})}) }()
		if _, err := io.WriteString(client, "GET /mutate HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(writeTimeout + time.Second)
		if !cutOff.Load() {
			t.Errorf("its connection is open after %s", writeTimeout+time.Second)
		}
		if err := errors.Join(client.Close(), server.Close()); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// A review may take longer than a client may take to read its answer, where the webhook configuration lets it.
func TestALongReviewIsAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		clientSide, serverSide := net.Pipe()
		server := newHTTPServer(testMutator(decide(func(injector.Request) injector.Decision {
			time.Sleep(writeTimeout + time.Second)
			return injector.Decision{Outcome: injector.Skipped, Reason: "Test"}
		})), slog.New(slog.DiscardHandler))
		ended := make(chan error, 1)
		go func() { ended <- server.Serve(&oneConnection{connection: serverSide, closed: make(chan struct{})}) }()
		defer func() {
			if err := errors.Join(clientSide.Close(), server.Close()); err != nil {
				t.Error(err)
			}
			if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
				t.Error(err)
			}
		}()
		called := running{client: &http.Client{Transport: &http.Transport{
			DialContext: func(context.Context, string, string) (net.Conn, error) { return clientSide, nil },
		}}}
		status, answer := called.call(t, http.MethodPost, "http://webhook"+MutatePath+"?timeout=30s", envelope(t, ordinaryPod(t), nil))
		if status != http.StatusOK {
			t.Errorf("%d %s", status, answer)
		}
	})
}

// oneConnection is a listener with a single connection.
type oneConnection struct {
	connection net.Conn
	closed     chan struct{}
}

func (l *oneConnection) Accept() (net.Conn, error) {
	if connection := l.connection; connection != nil {
		l.connection = nil
		return connection, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConnection) Close() error {
	close(l.closed)
	return nil
}

func (l *oneConnection) Addr() net.Addr { return &net.UnixAddr{} }
