package release

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

// aRegistry starts a registry on the loopback, behind a password if there is one, and returns its host.
func aRegistry(t *testing.T, password string) string {
	t.Helper()
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, given, _ := r.BasicAuth(); given != password {
			w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		handler.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// publish publishes a release without anybody's credentials, and returns what it says.
func publish(t *testing.T, r *release, registry string) (string, error) {
	t.Helper()
	var said bytes.Buffer
	err := Publish(t.Context(), PublishOptions{Folder: r.Out, Version: r.Version, Registry: registry, Log: &said})
	return said.String(), err
}

func TestPublish(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	r, host := standIn(t, testChart), aRegistry(t, "")
	said, err := publish(t, r, host+"/team/")
	if err != nil {
		t.Fatal(err)
	}
	digests := read(t, r.Out, "agentlet-1.2.3-digests.txt")
	for _, repository := range []string{"agentlet", "charts/agentlet"} {
		tag, err := name.NewTag(host + "/team/" + repository + ":1.2.3")
		if err != nil {
			t.Fatal(err)
		}
		there, err := remote.Head(tag)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(said, tag.String()+"@"+there.Digest.String()+"\n") {
			t.Errorf("%s is %s there; it said %s", tag, there.Digest, said)
		}
		if !strings.Contains(string(digests), there.Digest.String()+"  "+repository+":1.2.3\n") {
			t.Errorf("%s is %s there; the digests are\n%s", tag, there.Digest, digests)
		}
	}
	index, err := remote.Index(mustTag(t, host+"/team/agentlet:1.2.3"))
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil || len(manifest.Manifests) != len(Architectures) {
		t.Errorf("the image has %v, %v; want one for each of %v", manifest, err, Architectures)
	}
	if again, err := publish(t, r, host+"/team"); err != nil || strings.Count(again, "is there already") != 2 {
		t.Errorf("a second time: %s, %v", again, err)
	}
	other := standIn(t, testChart+"home: https://example.org\n")
	if _, err := publish(t, other, host+"/team"); err == nil || !strings.Contains(err.Error(), "want another version") {
		t.Errorf("another chart under the same version: %v", err)
	}
}

// TestPublishPushesBothOrNeither publishes a release whose chart's version is taken, and whose image isn't there.
func TestPublishPushesBothOrNeither(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	r, host := standIn(t, testChart), aRegistry(t, "")
	other, err := random.Image(1, 1)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(mustTag(t, host+"/charts/agentlet:1.2.3"), other); err != nil {
		t.Fatal(err)
	}
	if _, err := publish(t, r, host); err == nil || !strings.Contains(err.Error(), "/charts/agentlet:1.2.3: this version is there as") {
		t.Errorf("got %v", err)
	}
	if _, err := remote.Head(mustTag(t, host+"/agentlet:1.2.3")); err == nil {
		t.Error("the image was pushed, and its chart wasn't")
	}
}

func mustTag(t *testing.T, text string) name.Tag {
	t.Helper()
	tag, err := name.NewTag(text)
	if err != nil {
		t.Fatal(err)
	}
	return tag
}

// TestPublishWithCredentials logs in as docker does.
func TestPublishWithCredentials(t *testing.T) {
	folder := t.TempDir()
	t.Setenv("DOCKER_CONFIG", folder)
	r, host := standIn(t, testChart), aRegistry(t, "secret")
	if _, err := publish(t, r, host); err == nil || !strings.Contains(err.Error(), "401") {
		t.Errorf("without credentials: %v", err)
	}
	login := `{"auths": {"` + host + `": {"username": "me", "password": "secret"}}}`
	if err := os.WriteFile(filepath.Join(folder, "config.json"), []byte(login), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := publish(t, r, host); err != nil {
		t.Error(err)
	}
}

func TestPublishIsRefused(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	for name, test := range map[string]struct {
		registry, version, want string
		change                  string
	}{
		"no registry":           {"", testVersion, "want a host", ""},
		"a path without a host": {"team", testVersion, "want a host", ""},
		"an address":            {"https://registry.example", testVersion, "want a host", ""},
		"a version of no form":  {"registry.example", "latest", "want one such as 1.2.3", ""},
		"another version":       {"registry.example", "1.2.4", "agentlet-1.2.4-image-oci.tar", ""},
		"a changed file":        {"registry.example", testVersion, "has the checksum", "agentlet-1.2.3.tgz"},
	} {
		t.Run(name, func(t *testing.T) {
			r := standIn(t, testChart)
			r.Version = test.version
			if test.change != "" {
				if err := os.WriteFile(filepath.Join(r.Out, test.change), []byte("x"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := publish(t, r, test.registry); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestPublishVerifies publishes what was changed after it was made, as one could who has the folder, but not the signing key.
func TestPublishVerifies(t *testing.T) {
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	key, other := newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	private, _ := forms(t, key)
	otherCurve := publicPEM(t, newKey(t, elliptic.P384()))
	without := func(archive string) func(*testing.T, string) {
		return func(t *testing.T, folder string) {
			t.Helper()
			var kept []string
			for line := range strings.Lines(string(read(t, folder, Checksums))) {
				if !strings.HasSuffix(line, "  "+archive+"\n") {
					kept = append(kept, line)
				}
			}
			replace(t, folder, Checksums, strings.Join(kept, ""))
		}
	}
	anew := func(file, content string) func(*testing.T, string) {
		return func(t *testing.T, folder string) { t.Helper(); replace(t, folder, file, content) }
	}
	for name, test := range map[string]struct {
		change func(t *testing.T, folder string)
		public []byte
		want   string // nothing: it is published
	}{
		"a right signature":              {nil, publicPEM(t, key), ""},
		"no key to verify with":          {nil, nil, ""},
		"another key":                    {nil, publicPEM(t, other), "is not a signature of this SHA256SUMS"},
		"another file's signature":       {otherSignature, publicPEM(t, key), "is not a signature of this SHA256SUMS"},
		"a signature of no form":         {anew(Checksums+Signature, "?"), publicPEM(t, key), "want a signature in base64"},
		"an absent signature":            {removed(Checksums + Signature), publicPEM(t, key), "read signature"},
		"a changed list":                 {without(chartArtifact.archive(testVersion)), publicPEM(t, key), "is not a signature of this SHA256SUMS"},
		"a key of no form":               {nil, []byte{}, "public key: want"},
		"the private key":                {nil, private, "public key: want"},
		"a key on another curve":         {nil, otherCurve, "public key: want"},
		"a list of nothing":              {anew(Checksums, ""), nil, "SHA256SUMS doesn't list agentlet-1.2.3-image-oci.tar"},
		"a list of nothing, as to chart": {anew(Checksums, ""), nil, "SHA256SUMS doesn't list agentlet-1.2.3-chart-oci.tar"},
		"a list without the chart":       {without(chartArtifact.archive(testVersion)), nil, "SHA256SUMS doesn't list agentlet-1.2.3-chart-oci.tar"},
		"a list without the image":       {without(imageArtifact.archive(testVersion)), nil, "SHA256SUMS doesn't list agentlet-1.2.3-image-oci.tar"},
		"no list":                        {removed(Checksums), nil, "read checksums"},
	} {
		t.Run(name, func(t *testing.T) {
			r, host := standIn(t, testChart), aRegistry(t, "")
			if err := Sign(r.Out, testVersion, private); err != nil {
				t.Fatal(err)
			}
			if test.change != nil {
				test.change(t, r.Out)
			}
			err := Publish(t.Context(), PublishOptions{
				Folder: r.Out, Version: testVersion, Registry: host, PublicKey: test.public, Log: io.Discard,
			})
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
			for _, repository := range []string{"/agentlet", "/charts/agentlet"} {
				if _, err := remote.Head(mustTag(t, host+repository+":1.2.3")); (err == nil) != (test.want == "") {
					t.Errorf("what the registry says of %s: %v", repository, err)
				}
			}
		})
	}
}

// publicPEM returns the public half of a key.
func publicPEM(t *testing.T, key *ecdsa.PrivateKey) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	return inPEM(t, "PUBLIC KEY", der, err)
}

func replace(t *testing.T, folder, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(folder, name), []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

// otherSignature puts the signature of the bill of materials in the place of that of the checksums.
func otherSignature(t *testing.T, folder string) {
	t.Helper()
	replace(t, folder, Checksums+Signature, string(read(t, folder, billName(testVersion)+Signature)))
}

// removed returns a change that removes a file.
func removed(name string) func(*testing.T, string) {
	return func(t *testing.T, folder string) {
		t.Helper()
		if err := os.Remove(filepath.Join(folder, name)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHelmPulls has Helm pull the chart, and compares it with the one of the release.
func TestHelmPulls(t *testing.T) {
	helm := os.Getenv("AGENTLET_TEST_HELM")
	if helm == "" {
		t.Skip("AGENTLET_TEST_HELM is not set; make unit sets it")
	}
	t.Setenv("DOCKER_CONFIG", t.TempDir())
	r, host := standIn(t, testChart), aRegistry(t, "")
	if _, err := publish(t, r, host+"/team"); err != nil {
		t.Fatal(err)
	}
	folder := t.TempDir()
	command := exec.CommandContext(t.Context(), helm, "pull", "oci://"+host+"/team/charts/agentlet", "--version", testVersion,
		"--plain-http", "--destination", folder)
	command.Env = append(os.Environ(), "HELM_CONFIG_HOME="+folder, "HELM_CACHE_HOME="+folder)
	if out, err := command.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if !bytes.Equal(read(t, folder, "agentlet-1.2.3.tgz"), read(t, r.Out, "agentlet-1.2.3.tgz")) {
		t.Error("Helm has pulled another chart than the release has")
	}
}
