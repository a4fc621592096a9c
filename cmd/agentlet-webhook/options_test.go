package main

import (
	"bytes"
	"log/slog"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/agentlet/agentlet/agentlet/registration"
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

func TestEveryErrorIsNamedAtOnce(t *testing.T) {
	t.Setenv("POD_NAMESPACE", "")
	_, err := parse(t, "--listen=9443", "--metrics-listen=x", "--certs=vault", "--log-format=xml", "--log-level=loud",
		"--default=drain-delay", "--default=no-such-key=1", "--dialect=latin", "--allowed-services=web,", "--allowed-tags=!", "--shutdown-delay=-1s", "--consul-port=0", "--service=A_B", "--run-as-user=root")
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		`--listen "9443"`, `--metrics-listen "x"`, `--certs "vault"`, "--log-format", `--log-level "loud"`,
		`--default "drain-delay"`, "no-such-key", `--shutdown-delay "-1s"`, "--consul-port", "latin", "--allowed-services", "--allowed-tags", "--image", `--service "A_B"`, `--namespace ""`, "--run-as-user: Invalid value: \"root\"",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named", want)
		}
	}
}

// TestInjectorNamesTheWebhooksFlags checks that the flags that the injector names in its errors are defined by this command.
func TestInjectorNamesTheWebhooksFlags(t *testing.T) {
	flags := pflag.NewFlagSet("test", pflag.ContinueOnError)
	defaultOptions().addFlags(flags)
	named := map[string]bool{}
	for _, config := range []injector.Config{
		{
			ImagePullPolicy: "x", ImagePullSecrets: []string{"A"}, LogFormat: "x", ClusterName: strings.Repeat("x", 1000),
			RunAsUser: "x", Defaults: registration.Defaults{"x": "y"}, AllowedServices: ",", AllowedTags: ",", Dialects: []dialect.Dialect{"x"},
			ConsulTLS: injector.ConsulTLS{CA: "x", ConfigMap: "A", Secret: "A", ServerName: "A"},
			ConsulACL: injector.ConsulACL{Secret: "A", AuthMethod: "x", Audience: "x"},
			Connect: injector.Connect{
				Image: "x", ImagePullPolicy: "x", Proxy: "x", Secret: "A", AuthMethod: "x",
				CPURequest: "x", MemoryRequest: "x", CPULimit: "x", MemoryLimit: "x",
			},
		},
		{ConsulACL: injector.ConsulACL{Mode: "x"}},
		{ConsulACL: injector.ConsulACL{Mode: injector.ACLLogin}, Connect: injector.Connect{AuthMethod: "x", Secret: "a"}},
	} {
		_, err := injector.New(config)
		for _, name := range regexp.MustCompile(`--([a-z-]+[a-z])`).FindAllStringSubmatch(err.Error(), -1) {
			named[name[1]] = true
		}
	}
	for name := range named {
		if flags.Lookup(name) == nil && name != "consul-tls" { // --consul-tls-*
			t.Errorf("--%s is named and is no flag", name)
		}
	}
	if len(named) < 25 {
		t.Errorf("only these flags are named: %q", slices.Sorted(maps.Keys(named)))
	}
}

func TestCertificateFlagsCountOnlyWhereTheyAreUsed(t *testing.T) {
	base := []string{"--image=i", "--namespace=n"}
	for name, test := range map[string]struct {
		arguments []string
		says      string
	}{
		"self-signed":        {nil, ""},
		"self, no secret":    {[]string{"--ca-secret="}, "--ca-secret"},
		"self, no webhook":   {[]string{"--webhook-configuration="}, "--webhook-configuration"},
		"secret":             {[]string{"--certs=secret", "--ca-secret="}, ""},
		"secret, no name":    {[]string{"--certs=secret", "--cert-secret="}, "--cert-secret"},
		"secret, no webhook": {[]string{"--certs=secret", "--webhook-configuration="}, "--webhook-configuration"},
	} {
		_, err := parse(t, append(base, test.arguments...)...)
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: want %q, got: %v", name, test.says, err)
		}
	}
}

func TestGrantFlagsCountOnlyWhereTheyAreUsed(t *testing.T) {
	base := []string{"--image=i", "--namespace=n"}
	for name, test := range map[string]struct {
		arguments []string
		says      string
	}{
		"none":              {[]string{"--grant-role=", "--grant-policies="}, ""},
		"auto":              {[]string{"--grants=auto", "--excluded-namespaces=kube-system,n"}, ""},
		"another word":      {[]string{"--grants=list"}, `--grants "list"`},
		"auto, no binding":  {[]string{"--grants=auto", "--grant-binding="}, "--grant-binding"},
		"auto, no role":     {[]string{"--grants=auto", "--grant-role="}, "--grant-role"},
		"auto, no policies": {[]string{"--grants=auto", "--grant-policies="}, "--grant-policies"},
		"auto, no policy":   {[]string{"--grants=auto", "--grant-policies=a,A_B"}, `--grant-policies "A_B"`},
		"no such namespace": {[]string{"--grants=auto", "--excluded-namespaces=a,B_C"}, `--excluded-namespaces "B_C"`},
	} {
		_, err := parse(t, append(base, test.arguments...)...)
		if test.says == "" && err != nil || test.says != "" && (err == nil || !strings.Contains(err.Error(), test.says)) {
			t.Errorf("%s: want %q, got: %v", name, test.says, err)
		}
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
