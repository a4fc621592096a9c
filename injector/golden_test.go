package injector

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector/dialect"
	"github.com/agentlet/agentlet/injector/injectortest"
	"github.com/agentlet/agentlet/injector/workload"
	"github.com/agentlet/agentlet/internal/golden"
)

const nonce = "0123456789abcdef"

func testConfig() Config {
	return Config{
		Image: "registry.example/agentlet:1", ImagePullPolicy: corev1.PullIfNotPresent,
		ConsulPort: 8500, ConsulScheme: "http", ClusterName: "eu-1",
		Defaults: registration.Defaults{"gate-timeout": "10m", "drain-delay": "4s"},
		Dialects: dialect.All(),
		Connect:  Connect{Image: "registry.example/envoy:1", GRPCPort: 8502, CPURequest: "20m", MemoryRequest: "64Mi", MemoryLimit: "192Mi"},
	}
}

func testInjector(t testing.TB) *Injector {
	t.Helper()
	i, err := New(testConfig())
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// said is a decision as in its golden file.
type said struct {
	Outcome  Outcome  `json:"outcome"`
	Reason   Reason   `json:"reason"`
	Errors   []string `json:"errors,omitempty"`
	Warnings []string `json:"warnings,omitempty"`
}

// TestGolden decides on each testdata/NAME/pod.yaml, in the namespace of namespace.yaml, if any. Next to it are the decision and, where there is one, the patch and the
// patched pod; -update writes them.
func TestGolden(t *testing.T) {
	for _, name := range cases(t) {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join("testdata", name)
			raw := readPod(t, dir)
			request := Request{Namespace: "shop", Pod: decode(t, raw), Nonce: nonce}
			request.NamespaceAnnotations, request.NamespaceLabels = readNamespace(t, dir)
			d := testInjector(t).Decide(request)

			s := said{Outcome: d.Outcome, Reason: d.Reason}
			for _, err := range d.Errors {
				s.Errors = append(s.Errors, err.Error())
			}
			for _, warning := range d.Warnings {
				s.Warnings = append(s.Warnings, warning.Message)
			}
			golden.Check(t, filepath.Join(dir, "decision.yaml"), string(toYAML(t, s)))
			if d.Outcome != Injected {
				if len(d.Patch) > 0 {
					t.Errorf("%s with a patch", d.Outcome)
				}
				golden.CheckAbsent(t, filepath.Join(dir, "patch.json"))
				golden.CheckAbsent(t, filepath.Join(dir, "patched.yaml"))
				return
			}
			patched := apply(t, raw, d)
			golden.Check(t, filepath.Join(dir, "patch.json"), string(indent(t, d.Patch))+"\n")
			golden.Check(t, filepath.Join(dir, "patched.yaml"), string(jsonToYAML(t, patched)))
			checkPatched(t, raw, patched, &request, d)
		})
	}
}

// cases returns the names of the golden pods.
func cases(t testing.TB) (names []string) {
	t.Helper()
	entries, err := os.ReadDir("testdata")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := os.Stat(filepath.Join("testdata", e.Name(), "pod.yaml")); err == nil {
			names = append(names, e.Name())
		} else if e.Name() != "fuzz" {
			t.Errorf("testdata/%s has no pod.yaml", e.Name())
		}
	}
	return names
}

// readPod reads a pod as the API server would send it: JSON, with fields that this build may not know.
func readPod(t testing.TB, dir string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "pod.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	raw, err := yaml.YAMLToJSONStrict(text)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// readNamespace reads what a Request needs of a case's namespace; nothing where the case has none.
func readNamespace(t testing.TB, dir string) (annotations, labels map[string]string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "namespace.yaml"))
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		t.Fatal(err)
	}
	var namespace corev1.Namespace
	if err := yaml.UnmarshalStrict(text, &namespace); err != nil {
		t.Fatal(err)
	}
	return NamespaceAnnotations(namespace.Annotations), NamespaceLabels(namespace.Labels)
}

// decode decodes a pod as the webhook does.
func decode(t testing.TB, raw []byte) *corev1.Pod {
	t.Helper()
	pod, err := workload.Pod(raw)
	if err != nil {
		t.Fatal(err)
	}
	return pod
}

// whole decodes all fields of a pod.
func whole(t testing.TB, raw []byte) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := json.Unmarshal(raw, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

// apply applies a decision's patch to the raw pod, as the API server does.
func apply(t testing.TB, raw []byte, d Decision) []byte {
	t.Helper()
	return injectortest.Apply(t, raw, indent(t, d.Patch))
}

// checkPatched checks what holds for every injection: it only adds, it adds only the injected parts, and a second pass changes
// nothing, whatever its nonce is.
func checkPatched(t testing.TB, raw, patched []byte, request *Request, d Decision) {
	t.Helper()
	for _, op := range d.Patch {
		if op.Operation != "add" {
			t.Errorf("operation %s %s", op.Operation, op.Path)
		}
	}
	injectortest.CheckAdditions(t, raw, patched)
	second := *request
	second.Pod, second.Nonce = decode(t, patched), "another"
	again := testInjector(t).Decide(second)
	if again.Outcome != Skipped || again.Reason != ReasonAlreadyInjected || len(again.Patch) > 0 {
		t.Errorf("second pass: %s, %s, %s", again.Outcome, again.Reason, indent(t, again.Patch))
	}
	// Messages about another system's annotations appear once, when they are translated.
	translation := dialect.Translate(decode(t, raw).Annotations, dialect.All())
	ours := func(warnings []registration.Warning) []registration.Warning {
		return slices.DeleteFunc(slices.Clone(translation.MapWarnings(warnings)), func(w registration.Warning) bool {
			return strings.Contains(w.Field, "katalog-sync.wish.com/") || strings.Contains(w.Field, "consul.hashicorp.com/")
		})
	}
	if diff := cmp.Diff(ours(d.Warnings), ours(again.Warnings), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("warnings of the second pass (-first +second):\n%s", diff)
	}
	if diff := cmp.Diff(d.Bypasses, again.Bypasses); diff != "" {
		t.Errorf("bypasses of the second pass (-first +second):\n%s", diff)
	}
}

func toYAML(t testing.TB, v any) []byte {
	t.Helper()
	text, err := yaml.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func jsonToYAML(t testing.TB, raw []byte) []byte {
	t.Helper()
	text, err := yaml.JSONToYAML(raw)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func indent(t testing.TB, v any) []byte {
	t.Helper()
	text, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return text
}
