package consul_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/agentlettest"
	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
)

// sickAgent stands before a real agent, and answers in its place while it is given another handler.
type sickAgent struct {
	*httptest.Server

	requests atomic.Int64
	mu       sync.Mutex
	answer   http.HandlerFunc // nil: the agent's
}

func newSickAgent(t *testing.T, agent *consultest.Agent) *sickAgent {
	t.Helper()
	sick := &sickAgent{}
	healthy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: agent.Address})
	healthy.ErrorHandler = func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }
	sick.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sick.requests.Add(1)
		sick.mu.Lock()
		answer := sick.answer
		sick.mu.Unlock()
		if answer == nil {
			healthy.ServeHTTP(w, r)
			return
		}
		answer(w, r)
	}))
	t.Cleanup(sick.Close)
	t.Cleanup(sick.CloseClientConnections)
	return sick
}

// fall has the agent answer in this way from now on, also what is being waited for; nil heals it.
func (s *sickAgent) fall(answer http.HandlerFunc) {
	s.mu.Lock()
	s.answer = answer
	s.mu.Unlock()
	s.CloseClientConnections()
}

// hang keeps a request until its client gives up: with the body read, the server notices that.
func hang(r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body)
	<-r.Context().Done()
}

func (s *sickAgent) address() string { return strings.TrimPrefix(s.URL, "http://") }

// life is a pod with its registrar.
type life struct {
	*agentlet.Registrar
	gate *agentlettest.Ports
	pod  *corev1.Pod
	id   string
}

// grace period of the pods: two thirds of it are the most that a drain may take.
const grace = 9 * time.Second

// begin starts the registrar of a ready pod, until the test's end.
func begin(t *testing.T, address, name string) *life {
	t.Helper()
	client, err := consul.New(consul.Config{Address: address, Scheme: "http", HostIP: "127.0.0.1", NodeName: "test-node"})
	if err != nil {
		t.Fatal(err)
	}
	seconds := int64(grace / time.Second)
	l := &life{id: contract.ServiceID("shop", name, name+"-uid", "web"), pod: pod()}
	l.pod.Name, l.pod.UID, l.pod.Spec.TerminationGracePeriodSeconds = name, types.UID(name+"-uid"), &seconds
	l.Registrar, l.gate, _ = start(t, address, l.pod, agentlet.Config{Agent: client, View: client, Catalog: client})
	return l
}

func awaitUntil(t *testing.T, bound time.Duration, what string, so func() bool) (took time.Duration) {
	t.Helper()
	began := time.Now()
	for !so() {
		if time.Since(began) > bound {
			t.Errorf("%s did not come in %s", what, bound)
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	return time.Since(began)
}

// TestLateIsNotUnreachable: that an agent takes its time is told from that it can't be reached.
func TestLateIsNotUnreachable(t *testing.T) {
	agent := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { hang(r) }))
	t.Cleanup(agent.Close)
	gone := httptest.NewServer(http.NotFoundHandler())
	gone.Close()
	for name, c := range map[string]struct {
		address string
		bound   time.Duration
		late    bool
	}{
		"hangs":               {agent.Listener.Addr().String(), 200 * time.Millisecond, true},
		"gone":                {gone.Listener.Addr().String(), 200 * time.Millisecond, false},
		"takes no connection": {full(t), time.Minute, false}, // until the client's own bound for that
	} {
		client, err := consul.New(consul.Config{Address: c.address, Scheme: "http", HostIP: "127.0.0.1"})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), c.bound)
		err = client.Update(ctx, "web:heartbeat", contract.Passing, "")
		cancel()
		if !errors.Is(err, agentlet.ErrUnreachable) || errors.Is(err, agentlet.ErrLate) != c.late {
			t.Errorf("%s: %v, want an ErrUnreachable that is late: %t", name, err, c.late)
		}
	}
}

// full is an address that answers no connection: its queue of those that nobody has accepted has no place left.
func full(t *testing.T) string {
	t.Helper()
	socket, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(socket) })
	if err := errors.Join(syscall.Bind(socket, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), syscall.Listen(socket, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for range 10 {
		connection, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { _ = connection.Close() })
	}
	t.Fatal("the queue is not full after ten connections")
	return ""
}

// TestSickAgent puts the real loop, with pods that run, start and end, before an agent that answers in every wrong way.
func TestSickAgent(t *testing.T) {
	const sickness = 10 * time.Second
	server := consultest.Start(t)
	status := func(code int, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { http.Error(w, body, code) }
	}
	for name, answer := range map[string]http.HandlerFunc{
		"403":                   status(http.StatusForbidden, "Permission denied: token lacks permission"),
		"404 of something else": status(http.StatusNotFound, "no such page"),
		"429":                   status(http.StatusTooManyRequests, "Your IP is issuing too many concurrent connections, please rate limit your calls"),
		"500":                   status(http.StatusInternalServerError, "rpc error: No cluster leader"),
		"503 of a proxy":        status(http.StatusServiceUnavailable, "<html>upstream connect error</html>"),
		"garbage":               func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("<html>welcome</html>")) },
		"an empty answer":       func(http.ResponseWriter, *http.Request) {},
		"it hangs":              func(_ http.ResponseWriter, r *http.Request) { hang(r) },
		"it hangs in the answer": func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet { // 200 for a change would say that it was made
				w.Header().Set("Content-Length", "100")
				_, _ = w.Write([]byte("{"))
				w.(http.Flusher).Flush()
			}
			hang(r)
		},
		"it closes connections": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"half an answer": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte("{"))
			panic(http.ErrAbortHandler)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sick := newSickAgent(t, server)
			pod := strings.ToLower(strings.ReplaceAll(name, " ", "-"))
			passing := func(l *life) bool {
				checks, _, err := server.Client.Health().Checks("web", nil)
				n := 0
				for _, c := range checks {
					if c.ServiceID == l.id && c.Status == "passing" {
						n++
					}
				}
				return err == nil && n == 2
			}
			running, ending := begin(t, sick.address(), pod+"-running"), begin(t, sick.address(), pod+"-ending")
			awaitUntil(t, 30*time.Second, "the open gates", func() bool { return running.gate.Open() && ending.gate.Open() })

			sick.fall(answer)
			before, began := sick.requests.Load(), time.Now()
			starting := begin(t, sick.address(), pod+"-starting")
			gone := ending.pod.DeepCopy()
			now := metav1.Now()
			gone.DeletionTimestamp = &now
			ending.OnUpdate(gone)
			if !ending.Drain(t.Context(), time.Second) {
				t.Error("the drain hook was answered before the drain was over")
			}
			drained := time.Since(began)
			if drained > grace*2/3+time.Second {
				t.Errorf("the drain took %s of a grace period of %s", drained, grace)
			}
			time.Sleep(sickness - time.Since(began)) // the sickness lasts; nothing may hurry meanwhile
			requests := sick.requests.Load() - before
			// Three registrars; each retries soon at first, and then every 2 to 4 seconds.
			if requests > 3*20 {
				t.Errorf("%d requests of three registrars in %s", requests, sickness)
			}
			if !running.gate.Open() || starting.gate.Open() {
				t.Errorf("gates: the running pod's is open: %v, the starting one's: %v", running.gate.Open(), starting.gate.Open())
			}

			sick.fall(nil)
			// A refusal is tried again after 15 to 30 seconds at the most, anything else after 4.
			opened := awaitUntil(t, 40*time.Second, "the starting pod's gate", starting.gate.Open)
			awaitUntil(t, 40*time.Second, "the running pod's passing", func() bool { return passing(running) && passing(starting) })
			awaitUntil(t, 40*time.Second, "the ending pod's removal", func() bool {
				_, _, err := server.Client.Agent().Service(ending.id, nil)
				return err != nil && strings.Contains(err.Error(), "404")
			})
			if err := server.Client.Agent().ServiceDeregister(running.id); err != nil {
				t.Fatal(err)
			}
			back := awaitUntil(t, 40*time.Second, "a lost instance's return", func() bool { return passing(running) })
			t.Logf("drained after %s; %d requests of three registrars in %s; healed: gate open after %s, a loss put right after %s",
				drained.Round(time.Millisecond), requests, sickness, opened.Round(time.Millisecond), back.Round(time.Millisecond))
			running.Terminate()
			starting.Terminate()
		})
	}
}
