package main

import (
	"bytes"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/contract"
)

func environment() map[string]string {
	return map[string]string{
		contract.EnvPodName: "web-1", contract.EnvPodNamespace: "shop", contract.EnvPodUID: "uid",
		contract.EnvNodeName: "node1", contract.EnvHostIP: "10.0.0.1", contract.EnvPodIP: "10.1.0.5", contract.EnvNonce: "nonce",
	}
}

func TestParse(t *testing.T) {
	env := environment()
	o, err := parse([]string{
		"--consul-port=8501", "--consul-scheme=https", "--cluster-name=eu", "--port=19501", "--log-level=debug",
		"--default=drain-delay=7s", "--default=agentlet.dev/gate=registered", "--allowed-services=web, shop-*", `--allowed-tags=!a\,b`, "--other-gate=example.com/a", "--other-gate=b",
	}, func(name string) string { return env[name] }, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if o.consul.Address != "10.0.0.1:8501" || o.consul.Scheme != "https" || o.identity.Cluster != "eu" || o.port != 19501 ||
		o.defaults["drain-delay"] != "7s" || o.defaults[contract.Gate] != "registered" || o.nonce != "nonce" ||
		o.allowed.Services.String() != "web,shop-*" || o.allowed.Tags.String() != `!a\,b` || !slices.Equal(o.gates, []string{"example.com/a", "b"}) {
		t.Errorf("options = %+v", o)
	}
}

func TestParseOfIPv6(t *testing.T) {
	env := environment()
	env[contract.EnvHostIP] = "fd00::1"
	o, err := parse(nil, func(name string) string { return env[name] }, io.Discard)
	if err != nil || o.consul.Address != "[fd00::1]:8500" {
		t.Errorf("address = %q, %v", o.consul.Address, err)
	}
}

func TestParseOfTLSAndACLs(t *testing.T) {
	env := environment()
	env[contract.EnvConsulCA] = "-----BEGIN CERTIFICATE-----"
	parsed := func(args ...string) (options, error) {
		return parse(args, func(name string) string { return env[name] }, io.Discard)
	}
	o, err := parsed("--consul-ca-file=/ca", "--consul-client-cert=/crt", "--consul-client-key=/key", "--consul-tls-server-name=client.dc1.consul",
		"--consul-auth-method=agentlet", "--consul-bearer-token-file=/bearer")
	if err != nil {
		t.Fatal(err)
	}
	if o.consul.TLS != (consul.TLS{CA: env[contract.EnvConsulCA], CAFile: "/ca", CertFile: "/crt", KeyFile: "/key", ServerName: "client.dc1.consul"}) {
		t.Errorf("TLS: %+v", o.consul.TLS)
	}
	if acl := o.consul.ACL; acl.AuthMethod != "agentlet" || acl.BearerFile != "/bearer" || acl.Meta["pod"] != "shop/web-1" || !acl.Enabled() {
		t.Errorf("ACL: %+v", acl)
	}
	if o, err := parsed(); err != nil || o.consul.ACL.Enabled() {
		t.Errorf("without flags: %+v, %v", o.consul.ACL, err)
	}
	for _, args := range [][]string{
		{"--consul-auth-method=a"}, {"--consul-bearer-token-file=/b"}, {"--consul-token-file=/t", "--consul-auth-method=a", "--consul-bearer-token-file=/b"},
	} {
		if _, err := parsed(args...); err == nil || !strings.Contains(err.Error(), "want the first alone, or the others together") {
			t.Errorf("%q: %v", args, err)
		}
	}
}

func TestParseOfNoGlobs(t *testing.T) {
	env := environment()
	if o, err := parse(nil, func(name string) string { return env[name] }, io.Discard); err != nil || !o.allowed.Services.All() || !o.allowed.Tags.All() {
		t.Errorf("without the flag: %v, %v", o.allowed, err)
	}
	for _, arg := range []string{"services=", "services=web,", "services=[a]", "tags=", "tags=web,", "tags=!"} {
		if _, err := parse([]string{"--allowed-" + arg}, func(name string) string { return env[name] }, io.Discard); err == nil {
			t.Errorf("%q is accepted", arg)
		}
	}
}

func TestParseOfNoCondition(t *testing.T) {
	env := environment()
	if _, err := parse([]string{"--other-gate=no condition"}, func(name string) string { return env[name] }, io.Discard); err == nil {
		t.Error("accepted")
	}
}

func TestParseReportsEveryError(t *testing.T) {
	_, err := parse([]string{"--consul-port=0", "--consul-scheme=ftp", "--log-format=xml", "more"}, func(string) string { return "" }, io.Discard)
	if err == nil {
		t.Fatal("accepted")
	}
	wanted := []string{"--consul-port=0", `"ftp"`, `"xml"`, `"more"`}
	wanted = slices.AppendSeq(wanted, maps.Keys(environment()))
	for _, part := range wanted {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("the error does not say %s: %v", part, err)
		}
	}
}

func TestUnknownCommand(t *testing.T) {
	var stderr bytes.Buffer
	if err := command(t.Context(), []string{"sing"}, os.Getenv, io.Discard, &stderr); err == nil || !strings.Contains(stderr.String(), "usage") {
		t.Errorf("error %v, output %q", err, stderr.String())
	}
}

func TestDrainFindsTheOtherProcessOfItsMountNamespace(t *testing.T) {
	proc := t.TempDir()
	process := func(pid int, mount string) {
		folder := filepath.Join(proc, strconv.Itoa(pid), "ns")
		if err := os.MkdirAll(folder, 0o700); err != nil {
			t.Fatal(err)
		}
		if mount != "" {
			if err := os.Symlink(mount, filepath.Join(folder, "mnt")); err != nil {
				t.Fatal(err)
			}
		}
	}
	process(1, "mnt:[1]") // the sandbox, in a shared process namespace
	process(7, "")        // a process of another container, not readable
	process(20, "mnt:[2]")
	process(30, "mnt:[3]")
	process(40, "mnt:[2]") // this process itself
	if got, err := registrar(proc, 40); err != nil || got != 20 {
		t.Errorf("registrar = %d, %v, want 20", got, err)
	}
	if got, err := registrar(proc, 30); err == nil {
		t.Errorf("alone in its namespace it found %d", got)
	}
}

// TestLinks checks that the agentlet, which runs in every pod, doesn't link packages that only the webhook needs.
func TestLinks(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", ".").Output()
	if err != nil {
		t.Fatal(err)
	}
	for pkg := range strings.FieldsSeq(string(out)) {
		for _, unwanted := range []string{
			"github.com/agentlet/agentlet/webhook", "github.com/agentlet/agentlet/certs", "github.com/agentlet/agentlet/injector",
			"github.com/cert-manager/", "github.com/prometheus/client_golang", "github.com/spf13/cobra", "k8s.io/client-go/kubernetes",
			"k8s.io/api/admission", "gomodules.xyz/",
		} {
			if pkg == strings.TrimSuffix(unwanted, "/") || strings.HasPrefix(pkg, strings.TrimSuffix(unwanted, "/")+"/") {
				t.Errorf("the agentlet links %s", pkg)
			}
		}
	}
}
