package main

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/dialect"
)

// parse parses flags as the command does.
func parse(t *testing.T, arguments ...string) (*options, error) {
	t.Helper()
	o := defaultOptions()
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	o.addFlags(flags)
	if err := flags.Parse(arguments); err != nil {
		t.Fatal(err)
	}
	return o, o.check()
}

func TestFlags(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "")
	o, err := parse(t, "--image=agentlet/agentlet:1", "--namespace=agentlet-system", "--default=drain-delay=8s",
		"--default=service-tags=a,b", "--consul-port=8501", "--consul-scheme=https", "--log-level=debug", "--shutdown-delay=0",
		"--dialect=katalog-sync", "--dialect=consul-k8s", "--run-as-user=none")
	if err != nil {
		t.Fatal(err)
	}
	if o.injector.Image != "agentlet/agentlet:1" || o.injector.ConsulPort != 8501 || o.injector.ConsulScheme != "https" {
		t.Errorf("injector: %+v", o.injector)
	}
	if got, usual := o.injector.RunAsUser, defaultUser(t); got != injector.RunAsNone || usual != injector.RunAsAuto {
		t.Errorf("user %q, by default %q", got, usual)
	}
	if got := o.injector.Dialects; !slices.Equal(got, dialect.All()) {
		t.Errorf("dialects: %q", got)
	}
	if got := o.injector.Defaults; len(got) != 2 || got["drain-delay"] != "8s" || got["service-tags"] != "a,b" {
		t.Errorf("defaults: %q", got)
	}
	if o.level != slog.LevelDebug || o.shutdownDelay != 0 {
		t.Errorf("level %s, delay %s", o.level, o.shutdownDelay)
	}
	if defaults := defaultOptions(); defaults.shutdownDelay != 5*time.Second || defaults.certs != certsSelfSigned {
		t.Errorf("defaults: %+v", defaults)
	}
}

// defaultUser is the user without a flag for it.
func defaultUser(t *testing.T) injector.RunAsUser {
	t.Helper()
	o, err := parse(t, "--image=i", "--namespace=n")
	if err != nil {
		t.Fatal(err)
	}
	return o.injector.RunAsUser
}

func TestConsulFlags(t *testing.T) {
	o, err := parse(t, "--image=i", "--namespace=n", "--consul-scheme=https", "--consul-tls-configmap=ca", "--consul-tls-secret=pair",
		"--consul-tls-server-name=client.dc1.consul", "--consul-acl=login", "--consul-auth-method=agentlet", "--consul-audience=consul")
	if err != nil {
		t.Fatal(err)
	}
	if o.injector.ConsulTLS != (injector.ConsulTLS{ConfigMap: "ca", Secret: "pair", ServerName: "client.dc1.consul"}) ||
		o.injector.ConsulACL != (injector.ConsulACL{Mode: injector.ACLLogin, AuthMethod: "agentlet", Audience: "consul"}) {
		t.Errorf("TLS %+v, ACL %+v", o.injector.ConsulTLS, o.injector.ConsulACL)
	}
}

// TestFlagsCountOnlyWhereTheyAreUsed has flags that would be refused, were they read. What is refused is in refusals.
func TestFlagsCountOnlyWhereTheyAreUsed(t *testing.T) {
	for name, arguments := range map[string][]string{
		"certificates of its own":       nil,
		"a Secret's, and no authority":  {"--certs=secret", "--ca-secret="},
		"no grants":                     {"--grant-role=", "--grant-policies="},
		"grants, and namespaces of all": {"--grants=auto", "--excluded-namespaces=kube-system,n"},
		"no proxy, and no port for one": {"--connect-grpc-port=0"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := parse(t, append([]string{"--image=i", "--namespace=n"}, arguments...)...); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestVersionAndErrorsOnTheCommandLine(t *testing.T) {
	var out bytes.Buffer
	command := newCommand()
	command.SetOut(&out)
	command.SetArgs([]string{"version"})
	if err := command.ExecuteContext(t.Context()); err != nil || !strings.HasPrefix(out.String(), "agentlet-webhook dev go") {
		t.Errorf("version: %q, %v", &out, err)
	}
	command.SetArgs([]string{"--certs=vault"})
	if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), "vault") {
		t.Errorf("a wrong flag: %v", err)
	}
}

func TestLogFormats(t *testing.T) {
	for format, want := range map[string]string{"text": "level=WARN msg=hello", "json": `"level":"WARN","msg":"hello"`} {
		var out bytes.Buffer
		o := &options{logFormat: format, level: slog.LevelWarn}
		o.logger(&out).Info("quiet")
		o.logger(&out).Warn("hello")
		if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "quiet") {
			t.Errorf("%s: %s", format, &out)
		}
	}
}
