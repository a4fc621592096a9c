package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/internal/golden"
)

// call runs the command as a user would, without environment and kubeconfig.
func call(t *testing.T, stdin string, args ...string) (stdout, stderr string, err error) {
	t.Helper()
	t.Setenv("KUBECONFIG", filepath.Join(t.TempDir(), "none"))
	var out, errs bytes.Buffer
	command, err := newCommand(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	command.SetIn(strings.NewReader(stdin))
	command.SetOut(&out)
	command.SetErr(&errs)
	command.SetArgs(args)
	err = command.ExecuteContext(t.Context())
	return out.String(), errs.String(), err
}

func TestManifests(t *testing.T) {
	for name, test := range map[string]struct {
		args  []string
		fails bool
	}{
		"explain":          {[]string{"explain", "-f", "testdata/shop.yaml", "--default", "drain-delay=8s"}, false},
		"explain-errors":   {[]string{"explain", "-f", "testdata/errors.yaml"}, true},
		"explain-dialect":  {[]string{"explain", "-f", "testdata/katalog-sync.yaml", "--dialect", "katalog-sync"}, true},
		"explain-slips":    {[]string{"explain", "-f", "testdata/slips.yaml"}, false},
		"explain-types":    {[]string{"explain", "-f", "testdata/types.yaml"}, true},
		"inject-types":     {[]string{"inject", "-f", "testdata/types.yaml"}, true},
		"explain-hooks":    {[]string{"explain", "-f", "testdata/hooks.yaml"}, false},
		"explain-ports":    {[]string{"explain", "-f", "testdata/ports.yaml"}, true},
		"explain-meshes":   {[]string{"explain", "-f", "testdata/meshes.yaml"}, false},
		"explain-nothing":  {[]string{"explain", "-f", "testdata/nothing.yaml"}, false},
		"explain-defaults": {[]string{"explain", "-f", "testdata/namespaces.yaml", "--default", "readiness=probe", "--default", "log-level=warn"}, false},
		"explain-hostile":  {[]string{"explain", "-f", "testdata/hostile.yaml"}, true},
		"inject-hostile":   {[]string{"inject", "-f", "testdata/hostile.yaml"}, true},
		"explain-strict":   {[]string{"explain", "--strict", "testdata/slips.yaml"}, true},
		"explain-quiet":    {[]string{"explain", "-q", "testdata/shop.yaml", "testdata/slips.yaml"}, false},
		"explain-json":     {[]string{"explain", "-o", "json", "testdata/shop.yaml", "testdata/errors.yaml"}, true},
		"explain-yaml":     {[]string{"explain", "-o", "yaml", "testdata/hostile.yaml"}, true},
		"explain-sarif":    {[]string{"explain", "-o", "sarif", "testdata/slips.yaml", "testdata/errors.yaml"}, true},
		"inject-quiet":     {[]string{"inject", "-q", "testdata/slips.yaml"}, false},
		"inject-errors":    {[]string{"inject", "-f", "testdata/errors.yaml", "-f", "testdata/shop.yaml"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, err := call(t, "", test.args...)
			if test.fails != errors.Is(err, errSaid) {
				t.Fatalf("want failure: %v, got %v", test.fails, err)
			}
			golden.Check(t, filepath.Join("testdata", name+".out"), stdout)
			golden.Check(t, filepath.Join("testdata", name+".err"), stderr)
		})
	}
}

// TestInjectTakesTheFlags tests only the flags. Package manifests tests that the output equals the webhook's.
func TestInjectTakesTheFlags(t *testing.T) {
	stdout, _, err := call(t, "", "inject", "-f", "testdata/shop.yaml",
		"--image=registry.example/agentlet:2", "--image-pull-policy=Never", "--consul-port=8501", "--consul-scheme=https", "--cluster-name=eu-1", "--default=gate-policy=continuous")
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range []string{"image: registry.example/agentlet:2", "imagePullPolicy: Never", "--consul-port=8501", "--consul-scheme=https", "--cluster-name=eu-1", "--default=gate-policy=continuous"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("the output has no %s", part)
		}
	}
}

// TestInjectTakesTheNamespacesDefaults: those of a Namespace in the files are written down, as the webhook does.
func TestInjectTakesTheNamespacesDefaults(t *testing.T) {
	stdout, stderr, err := call(t, "", "inject", "-f", "testdata/namespaces.yaml")
	if err != nil || strings.Count(stdout, "--default=agentlet.dev/readiness=kubelet") != 2 || strings.Contains(stdout, "drain-delay=") {
		t.Errorf("%v\n%s", err, stdout)
	}
	if n := strings.Count(stderr, "drain-delay"); n != 1 || !strings.Contains(stderr, `testdata/namespaces.yaml:10: Namespace shop: annotation agentlet.dev/drain-delay: "8" has no effect`) {
		t.Errorf("told %d times:\n%s", n, stderr)
	}
}

func TestStandardInputIsUntouchedWithoutPods(t *testing.T) {
	const text = "# nothing\nkind:   ConfigMap\n---\n\n# more\n"
	stdout, stderr, err := call(t, text, "inject", "-f", "-")
	if stdout != text || stderr != "" || err != nil {
		t.Errorf("%q, %q, %v", stdout, stderr, err)
	}
}

// TestACopyIsExplained holds that a pod with another one's agentlet is not explained as one that would be registered.
func TestACopyIsExplained(t *testing.T) {
	text, err := os.ReadFile("../../injector/testdata/copy/pod.yaml")
	if err != nil {
		t.Fatal(err)
	}
	stdout, _, err := call(t, string(text), "explain", "-f", "-")
	if err != nil || !strings.Contains(stdout, "would be left alone: it is a copy of web-0") || strings.Contains(stdout, "SERVICE") {
		t.Errorf("%v\n%s", err, stdout)
	}
}

func TestErrorsOnTheCommandLine(t *testing.T) {
	for name, test := range map[string]struct {
		args []string
		says string
	}{
		"no file":         {[]string{"inject"}, "name the manifests: a file"},
		"an absent file":  {[]string{"explain", "-f", "absent.yaml"}, "absent.yaml"},
		"no pair":         {[]string{"inject", "-f", "-", "--default", "gate"}, `--default "gate"`},
		"a bad default":   {[]string{"inject", "-f", "-", "--default", "gate=ajar"}, "passing, registered or off"},
		"a bad port":      {[]string{"inject", "-f", "-", "--consul-port", "0"}, "--consul-port: Invalid"},
		"an unknown word": {[]string{"injekt"}, "injekt"},
		"no format":       {[]string{"explain", "-o", "wide", "-"}, `--output "wide": must be json, yaml or sarif`},
		"-f and -k":       {[]string{"explain", "-k", "base", "web.yaml"}, "goes neither with files"},
		"-k and -R":       {[]string{"inject", "-k", "base", "-R"}, "nor with --recursive"},
	} {
		if _, _, err := call(t, "", test.args...); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: want %q, got %v", name, test.says, err)
		}
	}
}

func TestEveryCommandHasExamples(t *testing.T) {
	root, err := newCommand(func(string) string { return "" })
	if err != nil {
		t.Fatal(err)
	}
	for _, command := range root.Commands() {
		if command.Example == "" && command.Name() != "help" && command.Name() != "completion" {
			t.Errorf("%s has no examples", command.Name())
		}
	}
}

// TestInjectOfADialectKeepsComments checks that a key with a slash is inserted into the existing text. Otherwise the document
// would be rewritten without its comments.
func TestInjectOfADialectKeepsComments(t *testing.T) {
	text, err := os.ReadFile("testdata/katalog-sync.yaml")
	if err != nil {
		t.Fatal(err)
	}
	first, _, _ := strings.Cut(string(text), "---\n")
	stdout, stderr, err := call(t, first, "inject", "-f", "-", "--dialect=katalog-sync")
	if err != nil {
		t.Fatal(err, stderr)
	}
	for _, part := range []string{"# two of them", `agentlet.dev/service-port.admin: "9090"`, "--other-gate=katalog-sync.wish.com/synced"} {
		if !strings.Contains(stdout, part) {
			t.Errorf("the output lacks %q:\n%s", part, stdout)
		}
	}
}
