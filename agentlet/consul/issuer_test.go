package consul_test

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/consul/consultest"
)

// TestMethodByAPublicIssuer runs the documentation's script as for EKS, GKE and AKS, whose issuers have addresses that Consul's
// servers reach, and certificates that they trust. The scenarios run it as for other clusters.
func TestMethodByAPublicIssuer(t *testing.T) {
	i := newIssuer(t)
	public := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/.well-known/openid-configuration":
			_, _ = fmt.Fprint(w, i.discovery())
		case "/openid/v1/jwks":
			_, _ = fmt.Fprint(w, i.keys())
		default:
			http.NotFound(w, r)
		}
	}))
	defer public.Close()
	i.url = public.URL
	folder := t.TempDir()
	write(t, filepath.Join(folder, "issuer.crt"), certificatePEM(public.Certificate()))
	t.Setenv("SSL_CERT_FILE", filepath.Join(folder, "issuer.crt")) // of Consul
	server := startSecured(t)

	// A kubectl that knows nothing but the discovery document.
	write(t, filepath.Join(folder, "discovery.json"), i.discovery())
	program := "#!/bin/sh\n[ \"$*\" = 'get --raw /.well-known/openid-configuration' ] && exec cat discovery.json\nexit 1\n"
	if err := os.WriteFile(filepath.Join(folder, "kubectl"), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, script := range []string{"method-jwt.sh", "rule-jwt.sh"} {
		text, err := os.ReadFile(filepath.Join("../../docs/consul", script))
		if err != nil {
			t.Fatal(err)
		}
		command := exec.CommandContext(t.Context(), "bash", "-euo", "pipefail", "-c", string(text))
		command.Dir = folder
		command.Env = append(os.Environ(), "PUBLIC_ISSUER=1", "PATH="+folder+":"+filepath.Dir(os.Getenv(consultest.Binary))+":"+os.Getenv("PATH"),
			"CONSUL_HTTP_ADDR=https://"+server.Address, "CONSUL_CACERT="+written(t, string(server.authority.PEM)),
			"CONSUL_TLS_SERVER_NAME=localhost", "CONSUL_HTTP_TOKEN="+consultest.ManagementToken)
		if out, err := command.CombinedOutput(); err != nil {
			t.Fatalf("%s: %v\n%s", script, err, out)
		}
	}
	client := server.client(t, consul.ACL{AuthMethod: "agentlet", BearerFile: written(t, i.token(t, "consul", "shop", "web"))})
	if _, err := client.Login(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := live(t.Context(), client); err != nil {
		t.Fatal(err)
	}
}

// discovery is the issuer's document as an API server writes it.
func (i issuer) discovery() string {
	return fmt.Sprintf(`{"issuer":%q,"jwks_uri":%q,"response_types_supported":["id_token"],"subject_types_supported":["public"],`+
		`"id_token_signing_alg_values_supported":["ES256"]}`, i.url, i.url+"/openid/v1/jwks")
}

// keys is the set with its public key.
func (i issuer) keys() string {
	point, err := i.key.PublicKey.Bytes() // 4, x, y
	if err != nil {
		return err.Error()
	}
	encoded := func(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }
	set, err := json.Marshal(map[string]any{"keys": []any{map[string]string{
		"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "x": encoded(point[1:33]), "y": encoded(point[33:]),
	}}})
	if err != nil {
		return err.Error()
	}
	return string(set)
}

func certificatePEM(certificate *x509.Certificate) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw}))
}
