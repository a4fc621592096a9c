package current

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const kubeconfig = `apiVersion: v1
kind: Config
clusters:
- {name: a, cluster: {server: "https://a.example:6443"}}
- {name: b, cluster: {server: "https://b.example:6443"}}
contexts:
- {name: first, context: {cluster: a, user: me}}
- {name: second, context: {cluster: b, user: me}}
users:
- {name: me, user: {token: x}}
`

func TestOpen(t *testing.T) {
	for name, test := range map[string]struct {
		current, name          string
		context, server, wrong string
	}{
		"the current context": {current: "second", context: "second", server: "https://b.example:6443"},
		"another":             {current: "second", name: "first", context: "first", server: "https://a.example:6443"},
		"none":                {wrong: "no current context"},
		"one that is missing": {name: "third", wrong: "read context third"},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "config")
			if err := os.WriteFile(file, []byte(kubeconfig+"current-context: \""+test.current+"\"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("KUBECONFIG", file)
			t.Setenv("CONSUL_HTTP_TOKEN", "of another Consul")
			c, err := Open(test.name, io.Discard)
			if _, set := os.LookupEnv("CONSUL_HTTP_TOKEN"); set {
				t.Error("a token for another Consul is still set")
			}
			if test.wrong != "" {
				if err == nil || !strings.Contains(err.Error(), test.wrong) {
					t.Errorf("the error is %v, want %q", err, test.wrong)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if c.Context != test.context || c.Server != test.server {
				t.Errorf("context %s at %s, want %s at %s", c.Context, c.Server, test.context, test.server)
			}
		})
	}
}

// TestKubectl tells what kubectl prints from what it says beside that.
func TestKubectl(t *testing.T) {
	dir := t.TempDir()
	program := "#!/bin/sh\necho \"$*\"\necho warning >&2\ntest \"$2\" != fail\n"
	if err := os.WriteFile(filepath.Join(dir, "kubectl"), []byte(program), 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	c := &Cluster{Context: "mine", Root: dir}
	if out, err := c.Kubectl(t.Context(), "get"); err != nil || out != "--context=mine get\n" {
		t.Errorf("Kubectl = %q, %v", out, err)
	}
	if out, err := c.KubectlSays(t.Context(), "get"); err != nil || out != "--context=mine get\nwarning\n" {
		t.Errorf("KubectlSays = %q, %v", out, err)
	}
	if _, err := c.Kubectl(t.Context(), "fail"); err == nil || !strings.Contains(err.Error(), "\n--context=mine fail\nwarning\n") {
		t.Errorf("the error is %v, want it with all that kubectl says", err)
	}
}
