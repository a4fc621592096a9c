package release

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func newKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func inPEM(t *testing.T, kind string, der []byte, err error) []byte {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// forms returns a key as openssl and Go write it.
func forms(t *testing.T, key *ecdsa.PrivateKey) (sec1, pkcs8 []byte) {
	t.Helper()
	der, err := x509.MarshalECPrivateKey(key)
	sec1 = inPEM(t, "EC PRIVATE KEY", der, err)
	der, err = x509.MarshalPKCS8PrivateKey(key)
	return sec1, inPEM(t, "PRIVATE KEY", der, err)
}

// signed returns a folder with what is signed, and signs it.
func signed(t *testing.T, key []byte) string {
	t.Helper()
	folder := t.TempDir()
	for name, content := range map[string]string{Checksums: "abc  file\n", billName(testVersion): "{}\n"} {
		if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sign(folder, testVersion, key); err != nil {
		t.Fatal(err)
	}
	return folder
}

func read(t *testing.T, folder, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(folder, name))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestSign(t *testing.T) {
	key := newKey(t, elliptic.P256())
	sec1, pkcs8 := forms(t, key)
	parameters := pem.EncodeToMemory(&pem.Block{Type: "EC PARAMETERS", Bytes: []byte{6, 8, 42, 134, 72, 206, 61, 3, 1, 7}})
	for name, form := range map[string][]byte{
		"EC": sec1, "PKCS #8": pkcs8, "EC after its parameters": append(parameters, sec1...),
	} {
		t.Run(name, func(t *testing.T) {
			folder, again := signed(t, form), signed(t, form)
			block, _ := pem.Decode(read(t, folder, PublicKey))
			if block == nil || block.Type != "PUBLIC KEY" {
				t.Fatalf("public key %v: want PEM", block)
			}
			if public, err := x509.ParsePKIXPublicKey(block.Bytes); err != nil || !key.PublicKey.Equal(public) {
				t.Errorf("public key: %v", err)
			}
			for _, file := range []string{Checksums, billName(testVersion)} {
				text := read(t, folder, file+Signature)
				signature, err := base64.StdEncoding.Strict().DecodeString(string(text))
				digest := sha256.Sum256(read(t, folder, file))
				if err != nil || !ecdsa.VerifyASN1(&key.PublicKey, digest[:], signature) {
					t.Errorf("the signature %q of %s is wrong: %v", text, file, err)
				}
				if !bytes.Equal(text, read(t, again, file+Signature)) {
					t.Errorf("a second signature of %s differs", file)
				}
				var b bundle
				if err := json.Unmarshal(read(t, folder, file+Bundle), &b); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(b.MessageSignature.Signature, signature) || !bytes.Equal(b.MessageSignature.MessageDigest.Digest, digest[:]) {
					t.Errorf("the bundle of %s says %+v", file, b)
				}
			}
		})
	}
}

// TestSignatureByOpenssl has openssl make the key and verify, with the commands of docs/releases.md.
func TestSignatureByOpenssl(t *testing.T) {
	openssl, err := exec.LookPath("openssl")
	if err != nil {
		t.Skip("openssl is not installed")
	}
	key, err := exec.CommandContext(t.Context(), openssl, "ecparam", "-genkey", "-name", "prime256v1").Output()
	if err != nil {
		t.Fatal(err)
	}
	folder := signed(t, key)
	verify := func() error {
		script := "base64 -d " + Checksums + Signature + " >sums.der &&" +
			openssl + " dgst -sha256 -verify " + PublicKey + " -signature sums.der " + Checksums
		command := exec.CommandContext(t.Context(), "sh", "-c", script)
		command.Dir = folder
		if out, err := command.CombinedOutput(); err != nil {
			return errors.New(string(out))
		}
		return nil
	}
	if err := verify(); err != nil {
		t.Error(err)
	}
	if err := os.WriteFile(filepath.Join(folder, Checksums), []byte("abd  file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if verify() == nil {
		t.Error("openssl takes the signature for that of a changed file")
	}
}

func TestKeyIsRefused(t *testing.T) {
	other, _ := forms(t, newKey(t, elliptic.P384()))
	_, edwards, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(edwards)
	for name, test := range map[string]struct {
		key  []byte
		want string
	}{
		"nothing":               {nil, "want an ECDSA key"},
		"another curve":         {other, "not on P-384"},
		"another kind of key":   {inPEM(t, "PRIVATE KEY", der, err), "not a ed25519.PrivateKey"},
		"cosign's own form":     {inPEM(t, "ENCRYPTED SIGSTORE PRIVATE KEY", []byte("x"), nil), "not an ENCRYPTED SIGSTORE PRIVATE KEY"},
		"a key that is damaged": {inPEM(t, "EC PRIVATE KEY", []byte("x"), nil), "want an ECDSA key"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := CheckKey(test.key); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
