package webhook

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// openMany opens connections to an address. Each sends something and waits. do is called after every each connections.
func openMany(t *testing.T, to string, connections, each int, from func(int) string, send func(net.Conn) error, do func()) {
	t.Helper()
	to = to[strings.LastIndex(to, "/")+1:]
	for i := range connections {
		dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from(i))}, Timeout: 10 * time.Second}
		c, err := dialer.DialContext(t.Context(), "tcp", to)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(30 * time.Second))
		_ = send(c) // it may be closed already
		if i%each == each-1 {
			do()
		}
	}
}

// counting counts the lines of a log.
type counting struct {
	slog.Handler
	lines *atomic.Int64
}

func (c counting) Enabled(context.Context, slog.Level) bool { return true }

func (c counting) Handle(context.Context, slog.Record) error { c.lines.Add(1); return nil }

// TestManyConnectionsOfUnknownClients opens thousands of connections to each port. Meanwhile the server answers reviews, on the
// API server's open connections and on new ones, and also probes and scrapes. The connections take a bounded share of the
// memory.
func TestManyConnectionsOfUnknownClients(t *testing.T) {
	const maxMemory = 40 << 20 // 81 MiB without limits
	one := func(int) string { return "127.9.0.1" }
	many := func(i int) string { return fmt.Sprintf("127.9.%d.%d", i/250, i%250+1) }
	sends := func(text string) func(net.Conn) error {
		return func(c net.Conn) error { _, err := io.WriteString(c, text); return err }
	}
	halfHeader := "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", maxHeader)
	overTLS := func(c net.Conn) error {
		_, err := io.WriteString(tls.Client(c, &tls.Config{InsecureSkipVerify: true}), halfHeader)
		return err
	}
	type flood struct {
		health bool // the port
		dear   bool // takes milliseconds of processor time with the race detector
		from   func(int) string
		send   func(net.Conn) error
	}
	for name, flood := range map[string]flood{
		"half a handshake, from one":          {false, false, one, sends("\x16\x03\x01")},
		"half a handshake, from many":         {false, false, many, sends("\x16\x03\x01")},
		"half a header over TLS, from one":    {false, true, one, overTLS},
		"half a header over TLS, from many":   {false, true, many, overTLS},
		"half a header for health, from one":  {true, false, one, sends(halfHeader)},
		"half a header for health, from many": {true, false, many, sends(halfHeader)},
		"scrapes that aren't read, from many": {true, true, many, sends("GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")},
	} {
		t.Run(name, func(t *testing.T) {
			certificate, roots := selfSigned(t, "agentlet.test.svc", time.Now().Add(time.Hour))
			var lines atomic.Int64
			server := start(t, Config{
				Decider: realInjector(t), Certificates: &fakeCertificates{certificate: certificate},
				Log: slog.New(counting{slog.DiscardHandler, &lines}),
			}, roots)
			review := envelope(t, ordinaryPod(t), nil)
			reviewed := func(client *http.Client) (reused bool) {
				t.Helper()
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
				request, err := http.NewRequestWithContext(ctx, http.MethodPost, server.admission+MutatePath, strings.NewReader(string(review)))
				if err != nil {
					t.Fatal(err)
				}
				request.Header.Set("Content-Type", "application/json")
				response, err := client.Do(request)
				if err != nil {
					t.Fatal(err)
				}
				_, _ = io.Copy(io.Discard, response.Body)
				response.Body.Close()
				if response.StatusCode != http.StatusOK || response.ProtoMajor != 1 {
					t.Errorf("review: %s by %s", response.Status, response.Proto)
				}
				return reused
			}
			reviewed(server.client)
			before, goroutines := heldMemory(), runtime.NumGoroutine()
			reviews := int64(1)
			target := server.admission
			if flood.health {
				target = server.health
			}
			connections, each := 2100, 700 // more than the limit of a port
			if flood.dear {
				connections, each = 560, 280
			}
			began := time.Now()
			openMany(t, target, connections, each, flood.from, flood.send, func() {
				if !reviewed(server.client) {
					t.Error("the API server's connection was closed")
				}
				fresh := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{
					TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "agentlet.test.svc"}, DisableKeepAlives: true,
				}}
				reviewed(fresh)
				reviews += 2
				for _, path := range []string{LivezPath, ReadyzPath, MetricsPath} {
					if status, body := server.call(t, http.MethodGet, server.health+path, nil); status != http.StatusOK {
						t.Errorf("%s: %d %s", path, status, body)
					}
				}
			})
			if n := runtime.NumGoroutine() - goroutines; n > 1000 {
				t.Errorf("%d goroutines more than before", n)
			}
			if now := heldMemory(); now > before+maxMemory {
				t.Errorf("%d KiB more than before", (now-before)>>10)
			}
			if n := lines.Load() - reviews; n > 30 {
				t.Errorf("%d lines in the log beside the reviews'", n)
			}
			if time.Since(began) >= readHeaderTimeout {
				return // on a machine this slow the timeouts have closed connections
			}
			_, metrics := server.call(t, http.MethodGet, server.health+MetricsPath, nil)
			port := admissionPort
			if flood.health {
				port = healthPort
			}
			if metric := fmt.Sprintf("agentlet_webhook_connections_evicted_total{port=%q} ", port); !strings.Contains(metrics, metric) || strings.Contains(metrics, metric+"0\n") {
				t.Errorf("no %s", metric)
			}
		})
	}
}

// heldMemory is the memory of this process for objects and stacks.
func heldMemory() uint64 {
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return stats.HeapAlloc + stats.StackInuse
}
