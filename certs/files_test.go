package certs

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// writeLeaf puts a serving certificate of the authority into a folder.
func writeLeaf(t *testing.T, folder string, by *ca, name string, notAfter time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := by.sign(&x509.Certificate{
		DNSNames: []string{name}, NotBefore: notAfter.Add(-24 * time.Hour), NotAfter: notAfter,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, key.Public())
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, folder, "tls.key", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	write(t, folder, "tls.crt", pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: leaf.Raw}))
}

func write(t *testing.T, folder, name string, content []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFilesAreJudged(t *testing.T) {
	name := ServerName(testService, testNamespace)
	for title, test := range map[string]struct {
		prepare func(t *testing.T, folder string, now time.Time)
		says    string // empty: trusted
	}{
		"nothing there": {func(*testing.T, string, time.Time) {}, "tls.crt and tls.key"},
		"authority unknown": {func(t *testing.T, folder string, now time.Time) {
			writeLeaf(t, folder, newCA(t, "any", now), name, now.Add(time.Hour))
		}, ""},
		"authority known": {func(t *testing.T, folder string, now time.Time) {
			authority := newCA(t, "any", now)
			writeLeaf(t, folder, authority, name, now.Add(time.Hour))
			write(t, folder, "ca.crt", authority.pem())
		}, ""},
		"another authority": {func(t *testing.T, folder string, now time.Time) {
			writeLeaf(t, folder, newCA(t, "any", now), name, now.Add(time.Hour))
			write(t, folder, "ca.crt", newCA(t, "another", now).pem())
		}, "unknown authority"},
		"empty authority": {func(t *testing.T, folder string, now time.Time) {
			writeLeaf(t, folder, newCA(t, "any", now), name, now.Add(time.Hour))
			write(t, folder, "ca.crt", nil)
		}, "holds no certificate"},
		"expired": {func(t *testing.T, folder string, now time.Time) {
			writeLeaf(t, folder, newCA(t, "any", now), name, now.Add(-time.Minute))
		}, "valid from"},
		"another name": {func(t *testing.T, folder string, now time.Time) {
			writeLeaf(t, folder, newCA(t, "any", now), "other.svc", now.Add(time.Hour))
		}, "other.svc"},
	} {
		t.Run(title, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				folder := t.TempDir()
				test.prepare(t, folder, time.Now())
				files := NewFiles(folder, name, discard)
				defer background(t, files.Run)()
				time.Sleep(time.Second)
				err := files.Trusted()
				if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
					t.Errorf("want %q, got: %v", test.says, err)
				}
			})
		})
	}
}

func TestFilesAreReadAgainAndOutliveALongAbsence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		folder, name := t.TempDir(), ServerName(testService, testNamespace)
		authority := newCA(t, "any", time.Now())
		files := NewFiles(folder, name, discard)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- files.Run(ctx) }()

		time.Sleep(10 * time.Minute) // sixty failures
		writeLeaf(t, folder, authority, name, time.Now().Add(24*time.Hour))
		time.Sleep(11 * time.Second)
		first, err := files.GetCertificate(nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(filepath.Join(folder, "tls.key")); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Minute)
		if still, err := files.GetCertificate(nil); err != nil || still != first {
			t.Errorf("the last good certificate is gone: %v", err)
		}
		writeLeaf(t, folder, authority, name, time.Now().Add(24*time.Hour))
		time.Sleep(11 * time.Second)
		if next, err := files.GetCertificate(nil); err != nil || next == first {
			t.Errorf("the new certificate is not served: %v", err)
		}
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
}
