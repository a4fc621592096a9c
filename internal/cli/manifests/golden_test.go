package manifests

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/injector/dialect"
)

// webhookCases are the golden pods of the injector, with what the webhook makes of them.
const webhookCases = "../../../injector/testdata"

// fixed decides as the injector's golden test does.
type fixed struct{ *injector.Injector }

func (f fixed) Decide(request injector.Request) injector.Decision {
	request.Nonce = "0123456789abcdef"
	return f.Injector.Decide(request)
}

func testDecider(t testing.TB) fixed {
	t.Helper()
	i, err := injector.New(injector.Config{
		Image: "registry.example/agentlet:1", ImagePullPolicy: corev1.PullIfNotPresent,
		ConsulPort: 8500, ConsulScheme: "http", ClusterName: "eu-1",
		Defaults: registration.Defaults{"gate-timeout": "10m", "drain-delay": "4s"},
		Dialects: dialect.All(),
		Connect:  injector.Connect{Image: "registry.example/envoy:1", GRPCPort: 8502, CPURequest: "20m", MemoryRequest: "64Mi", MemoryLimit: "192Mi"},
	})
	if err != nil {
		t.Fatal(err)
	}
	return fixed{i}
}

// shell is an object of one kind around a pod's text; the pod stands at the place of POD, indented.
type shell struct{ head, indent string }

var shells = map[string]shell{
	"Pod":                   {"", ""},
	"Deployment":            {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n  template:\n", "    "},
	"StatefulSet":           {"apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: web}\nspec:\n  template:\n", "    "},
	"DaemonSet":             {"apiVersion: apps/v1\nkind: DaemonSet\nmetadata: {name: web}\nspec:\n  template:\n", "    "},
	"ReplicaSet":            {"apiVersion: apps/v1\nkind: ReplicaSet\nmetadata: {name: web}\nspec:\n  template:\n", "    "},
	"ReplicationController": {"apiVersion: v1\nkind: ReplicationController\nmetadata: {name: web}\nspec:\n  template:\n", "    "},
	"PodTemplate":           {"apiVersion: v1\nkind: PodTemplate\nmetadata: {name: web}\ntemplate:\n", "  "},
	"Job":                   {"apiVersion: batch/v1\nkind: Job\nmetadata: {name: web}\nspec:\n  template:\n", "    "},
	"CronJob":               {"apiVersion: batch/v1\nkind: CronJob\nmetadata: {name: web}\nspec:\n  jobTemplate:\n    spec:\n      template:\n", "        "},
	"List":                  {"apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: ConfigMap\n-\n", "  "},
}

func (s shell) around(pod string) string {
	var out strings.Builder
	out.WriteString(s.head)
	for line := range strings.Lines(pod) {
		out.WriteString(s.indent + line)
	}
	return out.String()
}

// TestSameAsTheWebhook holds that every golden pod of the injector, alone and in every kind of workload, becomes what the
// webhook makes of it, or is left byte for byte, or is refused with the same errors.
func TestSameAsTheWebhook(t *testing.T) {
	entries, err := os.ReadDir(webhookCases)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		for kind, shell := range shells {
			t.Run(entry.Name()+"/"+kind, func(t *testing.T) {
				folder := filepath.Join(webhookCases, entry.Name())
				in := shell.around(read(t, filepath.Join(folder, "pod.yaml")))
				file, diagnostics := Parse("in.yaml", []byte(in))
				if len(diagnostics) > 0 {
					t.Fatal(diagnostics)
				}
				var around []*File
				if text, err := os.ReadFile(filepath.Join(folder, "namespace.yaml")); err == nil {
					namespace, _ := Parse("namespace.yaml", text)
					around = append(around, namespace)
				}
				judgements := file.Judge(testDecider(t), "shop", Namespaces(around))
				if len(judgements) != 1 {
					t.Fatalf("%d pods found, want 1", len(judgements))
				}
				checkDecision(t, folder, &judgements[0])
				out, _, err := file.Injected(judgements)
				if err != nil {
					t.Fatal(err)
				}
				want := in
				if judgements[0].Outcome == injector.Injected {
					want = shell.around(unnamed(read(t, filepath.Join(folder, "patched.yaml"))))
					if diff := cmp.Diff(generic(t, want), generic(t, string(out))); diff != "" {
						t.Errorf("other than the webhook's (-webhook +plugin):\n%s", diff)
					}
					if !addsOnly(withoutHooks(in), string(out)) {
						t.Errorf("something else than additions:\n%s", cmp.Diff(in, string(out)))
					}
				} else if diff := cmp.Diff(want, string(out)); diff != "" {
					t.Errorf("an untouched document was changed:\n%s", diff)
				}
			})
		}
	}
}

// withoutHooks is a text without the containers' own preStop hooks, in whose place others may come.
func withoutHooks(text string) string {
	var out strings.Builder
	hook := -1 // the indent of the line before it
	for line := range strings.Lines(text) {
		indent := len(line) - len(strings.TrimLeft(line, " "))
		if hook >= 0 && indent > hook {
			continue
		}
		hook = -1
		if strings.TrimSpace(line) == "preStop:" {
			hook = indent
		}
		out.WriteString(line)
	}
	return out.String()
}

// addsOnly reports whether a text is another one with additional lines. What was empty may have got something, and a list of ports
// more of them.
func addsOnly(text, longer string) bool {
	left := slices.Collect(strings.Lines(longer))
	for line := range strings.Lines(text) {
		same := func(other string) bool {
			return other == line || ports.MatchString(line) && strings.HasPrefix(other, strings.TrimRight(line, "\"\n")+",")
		}
		if i := slices.IndexFunc(left, same); i >= 0 {
			left = left[i+1:]
		} else if !regexp.MustCompile(`(: null|\[\]|\{\})\n$`).MatchString(line) {
			return false
		}
	}
	return true
}

var ports = regexp.MustCompile(`(Ports|-ports): "?[0-9, -]+"?\n$`)

// unnamed is an injected pod as the plugin makes it: for which pod it is isn't known there.
func unnamed(patched string) string { return injectedFor.ReplaceAllString(patched, "") }

var injectedFor = regexp.MustCompile(`(?m)^ +- name: ` + contract.EnvInjectedFor + `\n +value: .*\n`)

// checkDecision compares with the webhook's decision.
func checkDecision(t *testing.T, folder string, j *Result) {
	t.Helper()
	var want struct {
		Outcome          injector.Outcome
		Errors, Warnings []string
	}
	if err := yaml.Unmarshal([]byte(read(t, filepath.Join(folder, "decision.yaml"))), &want); err != nil {
		t.Fatal(err)
	}
	if j.Outcome != want.Outcome {
		t.Errorf("%s, the webhook says %s", j.Outcome, want.Outcome)
	}
	var errs []string
	for _, err := range j.Decision.Errors {
		errs = append(errs, err.Error())
	}
	if diff := cmp.Diff(want.Errors, errs); diff != "" {
		t.Errorf("errors (-webhook +plugin):\n%s", diff)
	}
	var warnings []string
	for _, warning := range j.Decision.Warnings {
		warnings = append(warnings, warning.Message)
	}
	if diff := cmp.Diff(want.Warnings, warnings); diff != "" {
		t.Errorf("warnings (-webhook +plugin):\n%s", diff)
	}
	if len(j.Errors) != len(want.Errors) || len(j.Warnings) != len(want.Warnings) {
		t.Errorf("%d and %d notes for %d errors and %d warnings", len(j.Errors), len(j.Warnings), len(want.Errors), len(want.Warnings))
	}
}

func read(t testing.TB, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func generic(t *testing.T, text string) (v any) {
	t.Helper()
	raw, err := yaml.YAMLToJSONStrict([]byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}
