package connlimit

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptrace"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/agentlet/agentlet/internal/pkitest"
)

// Requests that clients send.
const (
	silent   = ""
	half     = "GET /ok HTTP/1.1\r\nHost: x\r\nX-Half: "
	whole    = "GET /ok HTTP/1.1\r\nHost: x\r\n\r\n"
	hold     = "GET /hold HTTP/1.1\r\nHost: x\r\n\r\n"
	keep     = "GET /keep HTTP/1.1\r\nHost: x\r\n\r\n"
	released = "GET /released HTTP/1.1\r\nHost: x\r\n\r\n"
	endless  = "POST /read HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"
	large    = "GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n" // and don't read the answer
)

// largeAnswer fits into the send buffer of the server's machine, but not into the receive buffer of a client that doesn't read.
var largeAnswer = strings.Repeat("x", 12<<10)

// patience is a test's time limit for what should happen at once.
const patience = 10 * time.Second

// target is a server with limits.
type target struct {
	*testing.T
	limiter *Limiter
	server  *http.Server
	address string
	held    chan struct{} // one value for each request whose handler waits
	release chan struct{} // ends the waiting handlers
}

// listening returns a target that accepts no connections before serve.
func listening(t *testing.T, limits Limits) (*target, *net.TCPListener) {
	t.Helper()
	on, err := Listen(t.Context(), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &target{T: t, limiter: New(limits), address: on.Addr().String(), held: make(chan struct{}, 1000), release: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/ok", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok") })
	mux.HandleFunc("/large", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, largeAnswer) })
	mux.HandleFunc("/read", func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	mux.HandleFunc("/hold", s.hold)
	mux.HandleFunc("/keep", func(w http.ResponseWriter, r *http.Request) {
		defer Keep(r.Context())()
		s.hold(w, r)
	})
	mux.HandleFunc("/released", func(w http.ResponseWriter, r *http.Request) {
		Keep(r.Context())()
		s.hold(w, r)
	})
	mux.HandleFunc("/stay", func(_ http.ResponseWriter, r *http.Request) { Keep(r.Context()) })
	s.server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, ErrorLog: log.New(io.Discard, "", 0)}
	return s, on
}

func (s *target) hold(w http.ResponseWriter, r *http.Request) {
	s.held <- struct{}{}
	select {
	case <-s.release:
		_, _ = io.WriteString(w, "held")
	case <-r.Context().Done():
	}
}

func (s *target) serve(serve func() error) {
	ended := make(chan error, 1)
	go func() { ended <- serve() }()
	s.Cleanup(func() {
		_ = s.server.Close()
		if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
			s.Error(err)
		}
		s.await("empty", func(open tally) bool { return open == tally{} })
		s.limiter.mu.Lock()
		defer s.limiter.mu.Unlock()
		if n, m := len(s.limiter.sources), s.limiter.order.Len(); n+m > 0 {
			s.Errorf("%d sources and %d connections are left", n, m)
		}
	})
}

func serving(t *testing.T, limits Limits) *target {
	t.Helper()
	s, on := listening(t, limits)
	s.serve(func() error { return s.limiter.Serve(s.server, on) })
	return s
}

// open opens a connection from a loopback address, and sends a request.
func (s *target) open(from, request string) *net.TCPConn {
	s.Helper()
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: patience}
	if request == large {
		dialer.Control = func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1) })
		}
	}
	c, err := dialer.DialContext(s.Context(), "tcp", s.address)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { c.Close() })
	_, _ = io.WriteString(c, request) // fails if it is already closed
	_ = c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

func (s *target) await(what string, is func(open tally) bool) {
	s.Helper()
	var now tally
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(time.Millisecond) {
		s.limiter.mu.Lock()
		now = s.limiter.open
		s.limiter.mu.Unlock()
		if is(now) {
			return
		}
	}
	s.Fatalf("never %s: %+v", what, now)
}

// answer returns the data that arrives on a connection.
func answer(c net.Conn) (string, error) {
	response, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	return string(body), err
}

// answered fails the test unless this answer arrives.
func (s *target) answered(who string, c net.Conn, want string) {
	s.Helper()
	if got, err := answer(c); err != nil || got != want {
		s.Errorf("%s: %q, %v, want %q", who, got, err, want)
	}
}

// closed reports whether the server closes a connection within wait.
func closed(c net.Conn, wait time.Duration) bool {
	_ = c.SetReadDeadline(time.Now().Add(wait))
	_, err := c.Read(make([]byte, 1))
	timeout, ok := errors.AsType[net.Error](err)
	return err != nil && (!ok || !timeout.Timeout())
}

// several returns a different address for each number; one returns the same for all.
func several(i int) string { return fmt.Sprintf("127.9.%d.%d", i/250, i%250+1) }

func one(int) string { return "127.9.0.1" }

// TestWhoGivesWay opens connections, one after the other, until one has to be closed.
func TestWhoGivesWay(t *testing.T) {
	const mine, others = "127.9.0.1", "127.9.0.2"
	type opened struct {
		from, request string
		as            tally
	}
	waiting, served, kept := tally{waiting: 1}, tally{served: 1}, tally{kept: 1}
	two := Limits{Total: 2, PerSource: 2, Kept: 2, KeptPerSource: 1}
	for name, test := range map[string]struct {
		limits Limits
		opened []opened // and then one more silent one from the client's address
		closed int
	}{
		"the oldest":                     {two, []opened{{others, half, waiting}, {mine, half, waiting}}, 0},
		"one that has sent nothing, too": {two, []opened{{others, silent, waiting}, {mine, half, waiting}}, 0},
		"the oldest of its source": {
			Limits{Total: 9, PerSource: 2},
			[]opened{{others, half, waiting}, {mine, half, waiting}, {mine, half, waiting}},
			1,
		},
		"the oldest that waits, where more wait": {
			Limits{Total: 3, PerSource: 3},
			[]opened{{mine, hold, served}, {mine, half, waiting}, {others, half, waiting}},
			1,
		},
		"the oldest that is served, where more are": {
			Limits{Total: 3, PerSource: 3},
			[]opened{{mine, half, waiting}, {mine, endless, served}, {others, endless, served}},
			1,
		},
		"none that is kept":          {two, []opened{{mine, keep, kept}, {mine, hold, served}, {mine, hold, served}}, 1},
		"one that is kept no longer": {two, []opened{{mine, released, served}, {mine, hold, served}}, 0},
		"one beyond those that its source can keep": {
			two, []opened{{mine, keep, kept}, {mine, keep, served}, {mine, hold, served}}, 1,
		},
		"one beyond those that can be kept": {
			two, []opened{{mine, keep, kept}, {others, keep, kept}, {"127.9.0.3", keep, served}, {mine, hold, served}}, 2,
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := serving(t, test.limits)
			var want tally
			var all []*net.TCPConn
			for _, o := range test.opened {
				all = append(all, s.open(o.from, o.request))
				want = tally{want.waiting + o.as.waiting, want.served + o.as.served, want.kept + o.as.kept}
				if o.request == hold || o.request == keep || o.request == released {
					<-s.held
				}
				s.await(fmt.Sprintf("%+v", want), func(open tally) bool { return open == want })
			}
			newest := s.open(mine, silent)
			if !closed(all[test.closed], patience) {
				t.Errorf("connection %d is open", test.closed)
			}
			if n := s.limiter.Evicted(); n != 1 {
				t.Errorf("%d evicted", n)
			}
			for i, c := range append(all, newest) {
				if i != test.closed && closed(c, time.Millisecond) {
					t.Errorf("connection %d is closed", i)
				}
			}
		})
	}
}

// TestAnAnswerMakesAConnectionYoung checks that between requests a connection's waiting time starts with its last answer.
func TestAnAnswerMakesAConnectionYoung(t *testing.T) {
	s := serving(t, Limits{Total: 2, PerSource: 2})
	first := s.open(one(0), silent)
	s.await("open", func(open tally) bool { return open.waiting == 1 })
	second := s.open(one(0), silent)
	s.await("open", func(open tally) bool { return open.waiting == 2 })
	_, _ = io.WriteString(first, whole)
	s.answered("the first", first, "ok")
	s.await("idle again", func(open tally) bool { return open.waiting == 2 })
	s.open(one(0), silent)
	if !closed(second, patience) || closed(first, time.Millisecond) {
		t.Error("the one that was answered had to go")
	}
}

// TestFloods opens many connections of a kind, from one source and from many. Kept connections stay; newcomers are answered, from
// other sources and from the flood's; and the number of connections stays within the limits.
func TestFloods(t *testing.T) {
	const connections, each = 400, 20
	limits := Limits{Total: 32, PerSource: 8, Kept: 2, KeptPerSource: 2}
	for kind, request := range map[string]string{"silent": silent, "half a header": half, "answered": whole, "half a body": endless, "slow readers": large} {
		for whence, from := range map[string]func(int) string{"one": one, "many": several} {
			t.Run(kind+" from "+whence, func(t *testing.T) {
				s := serving(t, limits)
				before := runtime.NumGoroutine()
				kept := s.open(one(0), keep)
				<-s.held
				for i := range connections {
					s.open(from(i), request)
					if i%each == each-1 {
						s.answered("from elsewhere", s.open("127.8.0.1", whole), "ok")
						s.answered("from among them", s.open(from(i), whole), "ok")
						if n := runtime.NumGoroutine() - before; n > 2*(limits.Total+limits.Kept) {
							t.Fatalf("%d goroutines", n)
						}
					}
				}
				s.await("within the limits", func(open tally) bool { return open.evictable() <= limits.Total && open.kept == 1 })
				if n := s.limiter.Evicted(); n < connections/2 {
					t.Errorf("%d evicted", n)
				}
				close(s.release)
				s.answered("what was kept", kept, "held")
			})
		}
	}
}

// TestARequestThatIsThereIsAnswered opens more connections at once than there are places, each with its request.
func TestARequestThatIsThereIsAnswered(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // as an agentlet does
	s, on := listening(t, Limits{Total: 4, PerSource: 4})
	var all []*net.TCPConn
	for i := range 100 {
		all = append(all, s.open(several(i), whole))
	}
	s.serve(func() error { return s.limiter.Serve(s.server, on) })
	for i, c := range all {
		s.answered(fmt.Sprint("request ", i), c, "ok")
	}
}

// TestASlowReaderKeepsItsPlace checks that an answer that the kernel holds for a peer that doesn't read counts as a connection,
// for a limited time.
func TestASlowReaderKeepsItsPlace(t *testing.T) {
	closing := func(s *target) {
		s.Helper()
		s.await("answered", func(open tally) bool {
			s.limiter.mu.Lock()
			defer s.limiter.mu.Unlock()
			return open.served == 1 && s.limiter.order.Front().Value.(*conn).closing
		})
	}
	t.Run("until it has read", func(t *testing.T) {
		s := serving(t, Limits{Total: 2, PerSource: 2})
		slow := s.open(one(0), large)
		closing(s)
		s.answered("the slow one", slow, largeAnswer)
		s.await("its place free", func(open tally) bool { return open == tally{} })
	})
	t.Run("when it has closed its own side", func(t *testing.T) {
		s := serving(t, Limits{Total: 2, PerSource: 2})
		slow := s.open(one(0), large)
		if err := slow.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		closing(s)
		s.answered("another", s.open(one(0), whole), "ok")
		s.await("the slow one's place taken", func(open tally) bool { return open.served == 1 })
	})
	t.Run("until its time is over", func(t *testing.T) {
		s, on := listening(t, Limits{Total: 2, PerSource: 2})
		s.limiter.takeTimeout = 100 * time.Millisecond
		s.serve(func() error { return s.limiter.Serve(s.server, on) })
		slow := s.open(one(0), large)
		s.await("served", func(open tally) bool { return open.served == 1 })
		s.await("its place free", func(open tally) bool { return open == tally{} })
		if all, err := io.ReadAll(slow); err == nil || bytes.HasSuffix(all, []byte(largeAnswer)) {
			t.Errorf("%d bytes and %v after its time", len(all), err)
		}
	})
	t.Run("until its place is needed", func(t *testing.T) {
		s := serving(t, Limits{Total: 1, PerSource: 1})
		slow := s.open(one(0), large)
		closing(s)
		s.answered("another", s.open(one(0), whole), "ok")
		if all, err := io.ReadAll(slow); err == nil {
			t.Errorf("%d bytes, and no error", len(all))
		}
	})
}

// TestOverTLS checks that a kept connection can be used after a flood of TLS handshakes that don't end.
func TestOverTLS(t *testing.T) {
	leaf, key := pkitest.Sign(t, &x509.Certificate{
		DNSNames: []string{"x"}, NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, nil, nil)
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	s, on := listening(t, Limits{Total: 8, PerSource: 8, Kept: 1, KeptPerSource: 1})
	s.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}}}
	s.serve(func() error { return s.limiter.ServeTLS(s.server, on) })
	client := &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, ServerName: "x"}}}
	defer client.CloseIdleConnections()
	get := func() (reused bool) {
		t.Helper()
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+s.address+"/stay", nil)
		if err != nil {
			t.Fatal(err)
		}
		response, err := client.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		return reused
	}
	get()
	for range 50 {
		s.open(one(0), "\x16\x03\x01")
	}
	s.await("full", func(open tally) bool { return open == tally{waiting: 8, kept: 1} })
	if !get() {
		t.Error("the connection that was kept is not used again")
	}
}

func TestKeepWithoutALimiter(*testing.T) { Keep(context.Background())() }

func TestSourceOf(t *testing.T) {
	for name, test := range map[string]struct {
		a, b string
		same bool
	}{
		"an IPv4 address":          {"10.0.0.1:1", "10.0.0.1:2", true},
		"its neighbour":            {"10.0.0.1:1", "10.0.0.2:1", false},
		"the same, mapped":         {"10.0.0.1:1", "[::ffff:10.0.0.1]:2", true},
		"a mapped neighbour":       {"[::ffff:10.0.0.1]:1", "[::ffff:10.0.0.2]:1", false},
		"one /64":                  {"[fd00::1]:1", "[fd00::ffff:0:0:2]:1", true},
		"two /64":                  {"[fd00:0:0:1::1]:1", "[fd00:0:0:2::1]:1", false},
		"one link, by another way": {"[fe80::1%eth0]:1", "[fe80::2%eth1]:1", true},
	} {
		t.Run(name, func(t *testing.T) {
			of := func(text string) string {
				at, err := net.ResolveTCPAddr("tcp", text)
				if err != nil {
					t.Fatal(err)
				}
				return sourceOf(at).String()
			}
			if a, b := of(test.a), of(test.b); (a == b) != test.same {
				t.Errorf("%s and %s", a, b)
			}
		})
	}
}
