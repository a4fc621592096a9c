package consul_test

import (
	"bytes"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/consul/consultest"
	"github.com/agentlet/agentlet/agentlet/contract"
)

func overTLS(t *testing.T, address string, tls consul.TLS) *consul.Client {
	t.Helper()
	client, err := consul.New(consul.Config{Address: address, Scheme: "https", HostIP: "127.0.0.1", Wait: 20 * time.Second, TLS: tls})
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func TestAgentThatIsNotTrusted(t *testing.T) {
	authority, stranger := consultest.NewAuthority(t), consultest.NewAuthority(t)
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(plain.Close)
	good := consultest.StartSecured(t, authority, authority.Issue(t, inAnHour(), "localhost", "client.dc1.consul"), false).Address
	expired := consultest.StartSecured(t, authority, authority.Issue(t, time.Now().Add(-time.Hour), "localhost"), false).Address
	mutual := consultest.StartSecured(t, authority, authority.Issue(t, inAnHour(), "localhost"), true).Address
	trusted := string(authority.PEM)
	strange := stranger.Issue(t, inAnHour(), "pod")
	file := func(content []byte) string { return written(t, string(content)) }
	for name, c := range map[string]struct {
		address string
		tls     consul.TLS
		says    string // empty: it answers
	}{
		"trusted":                        {good, consul.TLS{CA: trusted}, ""},
		"trusted by a file":              {good, consul.TLS{CAFile: file(authority.PEM)}, ""},
		"trusted by one of two":          {good, consul.TLS{CA: string(stranger.PEM), CAFile: file(authority.PEM)}, ""},
		"another of its names":           {good, consul.TLS{CA: trusted, ServerName: "client.dc1.consul"}, ""},
		"another authority":              {good, consul.TLS{CA: string(stranger.PEM)}, "authority that is not in --consul-ca-file or $AGENTLET_CONSUL_CA"},
		"no authority":                   {good, consul.TLS{CAFile: filepath.Join(t.TempDir(), "none")}, "authority that is not in --consul-ca-file or $AGENTLET_CONSUL_CA"},
		"an authority that is none":      {good, consul.TLS{CAFile: file([]byte("nothing"))}, "no certificate in --consul-ca-file"},
		"another name":                   {good, consul.TLS{CA: trusted, ServerName: "consul.example"}, "is for localhost, client.dc1.consul, not for consul.example: set --consul-tls-server-name"},
		"expired":                        {expired, consul.TLS{CA: trusted}, "valid from"},
		"plain HTTP":                     {strings.TrimPrefix(plain.URL, "http://"), consul.TLS{CA: trusted}, "--consul-scheme"},
		"client certificate wanted":      {mutual, consul.TLS{CA: trusted}, "client certificate"},
		"another authority's":            {mutual, consul.TLS{CA: trusted, CertFile: file(strange.Certificate), KeyFile: file(strange.Key)}, "client certificate"},
		"certificate and key of no pair": {mutual, consul.TLS{CA: trusted, CertFile: file(strange.Certificate), KeyFile: file(authority.Issue(t, inAnHour(), "pod").Key)}, "no pair"},
	} {
		t.Run(name, func(t *testing.T) {
			client := overTLS(t, c.address, c.tls)
			_, err := client.HasLeader(t.Context())
			if c.says == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if !errors.Is(err, agentlet.ErrUnreachable) || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "current time") {
				t.Fatalf("HasLeader = %v, want ErrUnreachable saying %q", err, c.says)
			}
			if _, again := client.HasLeader(t.Context()); again == nil || again.Error() != err.Error() {
				t.Errorf("the same failure is told differently:\n%v\n%v", err, again)
			}
		})
	}
}

func TestPlainHTTPToAnHTTPSPort(t *testing.T) {
	server := startSecured(t)
	if _, err := newClient(t, server.Address).HasLeader(t.Context()); !errors.Is(err, agentlet.ErrUnreachable) || !strings.Contains(err.Error(), "--consul-scheme") {
		t.Errorf("HasLeader = %v, want what to do", err)
	}
}

func TestFilesAreReadAnewForEachConnection(t *testing.T) {
	authority, stranger := consultest.NewAuthority(t), consultest.NewAuthority(t)
	server := consultest.StartSecured(t, authority, authority.Issue(t, inAnHour(), "localhost"), true)
	folder := t.TempDir()
	file := func(name string) string { return filepath.Join(folder, name) }
	client := overTLS(t, server.Address, consul.TLS{CAFile: file("ca"), CertFile: file("crt"), KeyFile: file("key")})
	answers := func() bool { leader, err := client.HasLeader(t.Context()); return err == nil && leader }
	wrong, right := stranger.Issue(t, inAnHour(), "pod"), authority.Issue(t, inAnHour(), "pod")
	write(t, file("ca"), string(stranger.PEM))
	if answers() {
		t.Error("trusted by another authority")
	}
	write(t, file("ca"), string(authority.PEM))
	write(t, file("crt"), string(wrong.Certificate))
	write(t, file("key"), string(wrong.Key))
	if answers() {
		t.Error("let in with another authority's certificate")
	}
	write(t, file("crt"), string(right.Certificate))
	write(t, file("key"), string(right.Key))
	if !answers() {
		t.Error("not let in with the right certificate")
	}
}

func TestHandshakeIsBounded(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close() // it accepts by the kernel, and says nothing
	began := time.Now()
	_, err = overTLS(t, listener.Addr().String(), consul.TLS{}).HasLeader(t.Context())
	if !errors.Is(err, agentlet.ErrUnreachable) || time.Since(began) > 10*time.Second {
		t.Errorf("HasLeader = %v after %s, want ErrUnreachable within seconds", err, time.Since(began))
	}
}

// What listens at Consul's port may be anything: what is told of its answer is bounded, and no token follows it elsewhere.
func TestAnswersThatAreNotConsuls(t *testing.T) {
	var followed atomic.Bool
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Store(true) }))
	t.Cleanup(elsewhere.Close)
	for name, answer := range map[string]http.HandlerFunc{
		"a long one": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write(bytes.Repeat([]byte("<p>ü</p>"), 100_000))
		},
		"a redirect": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		},
	} {
		t.Run(name, func(t *testing.T) {
			server := httptest.NewServer(answer)
			t.Cleanup(server.Close)
			client, err := consul.New(consul.Config{
				Address: strings.TrimPrefix(server.URL, "http://"), Scheme: "http", HostIP: "127.0.0.1",
				ACL: consul.ACL{TokenFile: written(t, "secret")},
			})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := client.Login(t.Context()); err != nil {
				t.Fatal(err)
			}
			_, leader := client.HasLeader(t.Context())
			for call, err := range map[string]error{
				"HasLeader":  leader,
				"Deregister": client.Deregister(t.Context(), "any"),
				"Update":     client.Update(t.Context(), "any", contract.Passing, ""),
				"Register":   client.Register(t.Context(), agentlet.Definition{}, contract.Passing, nil),
			} {
				if err == nil || len(err.Error()) > 2048 {
					t.Errorf("%s: %.200v", call, err)
				}
			}
		})
	}
	if followed.Load() {
		t.Error("a redirect was followed, with the token")
	}
}
