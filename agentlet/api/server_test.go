package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/internal/connlimit"
)

// served runs a server, and returns its address.
func served(t *testing.T, s *Server) string {
	t.Helper()
	on, err := connlimit.Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, on) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return on.Addr().String()
}

// dial opens a connection from an address of the loopback, and sends text.
func dial(t *testing.T, from, to, text string) net.Conn {
	t.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 10 * time.Second}
	c, err := dialer.DialContext(t.Context(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, _ = io.WriteString(c, text) // it may be closed by now
	return c
}

// ask sends a GET from an address. What it returns waits for the answer.
func ask(t *testing.T, from, to, path, nonce string) func() (status int, body string) {
	t.Helper()
	c := dial(t, from, to, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: x\r\n%s: %s\r\n\r\n", path, contract.NonceHeader, nonce))
	return func() (int, string) {
		t.Helper()
		response, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("%s from %s: %v", path, from, err)
		}
		defer response.Body.Close()
		body, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatalf("%s from %s: %v", path, from, err)
		}
		return response.StatusCode, string(body)
	}
}

// memory that this process holds for objects and stacks.
func memory() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc + stats.StackInuse
}

// TestStrangersConnections has thousands of connections come while the pod ends. The drain hooks of before and of then
// are held, and answered when the catalog has dropped the pod; whoever asks for something gets it meanwhile; and the
// connections take no more than their share.
func TestStrangersConnections(t *testing.T) {
	const (
		connections = 3000
		each        = 300
		maxMemory   = 16 << 20 // without limits it is 56 MiB
		kubelet     = "127.0.0.1"
	)
	one := func(int) string { return "127.9.0.1" }
	many := func(i int) string { return fmt.Sprintf("127.9.%d.%d", i/250, i%250+1) }
	filler := strings.Repeat("x", maxHeader/2)
	for name, test := range map[string]struct {
		from func(int) string
		text string
	}{
		"half a header, from one source": {one, "GET / HTTP/1.1\r\nHost: x\r\nX: " + filler},
		"half a header, from many":       {many, "GET / HTTP/1.1\r\nHost: x\r\nX: " + filler},
		"half a header, from the node":   {func(int) string { return kubelet }, "GET / HTTP/1.1\r\nHost: x\r\nX: " + filler},
		"half a body, from many":         {many, "PUT " + contract.TagsPath + " HTTP/1.1\r\nHost: x\r\nX: " + filler + "\r\nContent-Length: 100\r\n\r\n{"},
		"another pod's hooks, from many": {many, "GET " + contract.DrainPath + " HTTP/1.1\r\nHost: x\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			f := running(t)
			f.drained = make(chan struct{}) // the catalog keeps the pod
			server := f.server()
			to := served(t, server)
			hooks := []func() (int, string){ask(t, kubelet, to, contract.DrainPath, testNonce)}
			memoryBefore, goroutinesBefore := memory(), runtime.NumGoroutine()
			for i := range connections {
				dial(t, test.from(i), to, test.text)
				if i%each != each-1 {
					continue
				}
				for _, path := range []string{contract.LivezPath, contract.MetricsPath} {
					if status, body := ask(t, kubelet, to, path, "")(); status != http.StatusOK {
						t.Errorf("%s: %d %s", path, status, body)
					}
				}
				hooks = append(hooks, ask(t, kubelet, to, contract.DrainPath, testNonce))
			}
			limits := ConnectionLimits()
			if n := runtime.NumGoroutine() - goroutinesBefore; n > 2*(limits.Total+limits.Kept) {
				t.Errorf("%d goroutines more than before", n)
			}
			if now := memory(); now > memoryBefore+maxMemory {
				t.Errorf("%d KiB more than before", (now-memoryBefore)>>10)
			}

			close(f.drained)
			for _, answer := range hooks {
				if status, body := answer(); status != http.StatusOK || body != "drained\n" {
					t.Errorf("drain: %d %q", status, body)
				}
			}
			if n := server.connections.Evicted(); n == 0 && test.text[:3] != "PUT" {
				t.Error("no connection was evicted")
			}
		})
	}
}

// TestRequestsAreBounded: who sends slowly, or too much, is cut off; and each connection has one request.
func TestRequestsAreBounded(t *testing.T) {
	to := served(t, running(t).server())
	put := "PUT " + contract.TagsPath + " HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
	for name, test := range map[string]struct {
		sent, answer string
		took         time.Duration
	}{
		"nothing":        {"", "", requestTimeout},
		"half a header":  {"GET /livez HTTP/1.1\r\nHost: x\r\n", "", requestTimeout},
		"half a body":    {put + "Content-Length: 100\r\n\r\n{", "HTTP/1.1 400 ", requestTimeout},
		"a long header":  {"GET /livez HTTP/1.1\r\nX: " + strings.Repeat("x", 3*maxHeader), "HTTP/1.1 431 ", 0},
		"two at a time":  {strings.Repeat("GET /livez HTTP/1.1\r\nHost: x\r\n\r\n", 2), "HTTP/1.1 200 ", 0},
		"a long body":    {put + "Content-Length: 999999\r\n\r\n" + strings.Repeat("x", maxLocalBody+1), "HTTP/1.1 413 ", 0},
		"no HTTP at all": {"\x16\x03\x01 hello\r\n\r\n", "HTTP/1.1 400 ", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			began := time.Now()
			all, _ := io.ReadAll(dial(t, "127.0.0.1", to, test.sent)) // a reset is an end, too
			if took := time.Since(began); took < test.took || took > test.took+5*time.Second {
				t.Errorf("cut off after %s, want %s", took, test.took)
			}
			if n := strings.Count(string(all), "HTTP/1.1"); !strings.HasPrefix(string(all), test.answer) || n > 1 {
				t.Errorf("answered %q", all)
			}
		})
	}
}
