package webhook

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/agentlet/agentlet/internal/pkitest"
)

// clientAuthority signs client certificates.
type clientAuthority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newClientAuthority(t *testing.T) clientAuthority {
	t.Helper()
	certificate, key := pkitest.Sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "clients"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}, nil, nil)
	return clientAuthority{certificate, key}
}

func (a clientAuthority) pem() []byte {
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.certificate.Raw})
}

// client returns a client certificate for this usage and with this end.
func (a clientAuthority) client(t *testing.T, usage x509.ExtKeyUsage, until time.Time) *tls.Certificate {
	t.Helper()
	leaf, key := pkitest.Sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: "kube-apiserver"}, ExtKeyUsage: []x509.ExtKeyUsage{usage},
		NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
	}, a.certificate, a.key)
	return &tls.Certificate{Certificate: [][]byte{leaf.Raw}, PrivateKey: key}
}

func TestClientsNeedACertificate(t *testing.T) {
	ours, former, strange := newClientAuthority(t), newClientAuthority(t), newClientAuthority(t)
	file := filepath.Join(t.TempDir(), "ca.crt")
	write := func(text []byte) {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(former.pem())
	var log bytes.Buffer
	clientCA, err := NewClientCA(file, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	certificate, roots := selfSigned(t, "agentlet.test.svc", time.Now().Add(30*time.Minute))
	server := start(t, Config{Decider: realInjector(t), Certificates: &fakeCertificates{certificate: certificate}, ClientCA: clientCA}, roots)
	body := envelope(t, ordinaryPod(t), nil)
	// admits reports whether a client with this certificate gets an answer on a new connection.
	admits := func(shown *tls.Certificate) bool {
		t.Helper()
		config := &tls.Config{RootCAs: roots, ServerName: "agentlet.test.svc"}
		if shown != nil {
			config.Certificates = []tls.Certificate{*shown}
		}
		client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		response, err := client.Post(server.admission+MutatePath, "application/json", bytes.NewReader(body))
		if err != nil {
			return false
		}
		return response.Body.Close() == nil && response.StatusCode == http.StatusOK
	}
	hour := time.Now().Add(time.Hour)
	// later makes the next connection read the file again.
	later := func() {
		clientCA.mu.Lock()
		defer clientCA.mu.Unlock()
		clientCA.read = clientCA.read.Add(-clientCARead)
	}
	check := func(when string, oursCount, formerCount bool) {
		t.Helper()
		for name, test := range map[string]struct {
			shown *tls.Certificate
			want  bool
		}{
			"none":           {nil, false},
			"ours":           {ours.client(t, x509.ExtKeyUsageClientAuth, hour), oursCount},
			"the former":     {former.client(t, x509.ExtKeyUsageClientAuth, hour), formerCount},
			"another":        {strange.client(t, x509.ExtKeyUsageClientAuth, hour), false},
			"a server's":     {ours.client(t, x509.ExtKeyUsageServerAuth, hour), false},
			"one that ended": {ours.client(t, x509.ExtKeyUsageClientAuth, time.Now().Add(-time.Minute)), false},
		} {
			if got := admits(test.shown); got != test.want {
				t.Errorf("%s, %s: %t, want %t", when, name, got, test.want)
			}
		}
	}
	check("at first", false, true)
	write(append(ours.pem(), former.pem()...))
	check("changed a moment ago", false, true)
	later()
	check("with both", true, true)
	write(ours.pem())
	later()
	check("with ours", true, false)
	write([]byte("rubbish"))
	later()
	check("with rubbish", true, false)
	if !strings.Contains(log.String(), "holds no certificate in PEM form") {
		t.Errorf("the log does not say it: %s", &log)
	}
	if status, body := server.call(t, http.MethodGet, server.health+ReadyzPath, nil); status != http.StatusOK {
		t.Errorf("readyz: %d %s", status, body)
	}
}

func TestAFileThatIsNoClientCA(t *testing.T) {
	file := filepath.Join(t.TempDir(), "ca.crt")
	if _, err := NewClientCA(file, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("no file is taken")
	}
	if err := os.WriteFile(file, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := NewClientCA(file, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), file) {
		t.Errorf("rubbish: %v", err)
	}
}
