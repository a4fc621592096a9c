package manifests

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/injector"
	"github.com/agentlet/agentlet/internal/golden"
)

func TestSplitPutTogetherIsTheStream(t *testing.T) {
	for name, test := range map[string]struct {
		stream string
		lines  []int
	}{
		"empty":                    {"", []int{1}},
		"one":                      {"a: 1\n", []int{1}},
		"one, separated":           {"---\na: 1\n", []int{2}},
		"two":                      {"a: 1\n---\nb: 2\n", []int{1, 3}},
		"comments":                 {"# head\n--- # one\na: 1\n---\n# two\nb: 2", []int{1, 3, 5}},
		"on the separator's line":  {"a: 1\n--- {b: 2}\n---\nc: 3\n", []int{1, 2, 4}},
		"block of text":            {"a: |\n  ---\n  x\n---\nb: 2\n", []int{1, 5}},
		"carriage returns":         {"a: 1\r\n---\r\nb: 2\r\n", []int{1, 3}},
		"four dashes are no end":   {"a: 1\n---- \nb: 2\n", []int{1}},
		"separators after another": {"---\n---\na: 1\n", []int{2, 3}},
	} {
		var together bytes.Buffer
		var lines []int
		for _, c := range split([]byte(test.stream)) {
			together.Write(c.separator)
			together.Write(c.body)
			lines = append(lines, c.line)
		}
		if together.String() != test.stream {
			t.Errorf("%s: %q became %q", name, test.stream, together.String())
		}
		if diff := cmp.Diff(test.lines, lines); diff != "" {
			t.Errorf("%s: lines (-want +got):\n%s", name, diff)
		}
	}
}

// small decides on a patch that shows every way of adding something, and doesn't change when the agentlet's container does.
type small struct{}

func (small) Decide(request injector.Request) injector.Decision {
	pod := request.Pod
	if !registration.Wanted(pod) {
		return injector.Decision{Outcome: injector.Skipped, Reason: injector.ReasonNotAnnotated}
	}
	container := corev1.Container{Name: "agentlet", Args: []string{"010", "true", "# no comment"}}
	patch := []jsonpatch.Operation{
		{Operation: "add", Path: "/spec/initContainers", Value: []corev1.Container{container}},
		{Operation: "add", Path: "/spec/readinessGates", Value: []corev1.PodReadinessGate{{ConditionType: "registered"}}},
		{Operation: "add", Path: "/spec/containers/-", Value: corev1.Container{Name: "last"}},
	}
	if len(pod.Spec.InitContainers) > 0 {
		patch[0].Path, patch[0].Value = "/spec/initContainers/0", container
	}
	return injector.Decision{Outcome: injector.Injected, Patch: patch}
}

// TestOutput compares testdata/NAME.yaml with testdata/NAME.out.yaml, text for text.
func TestOutput(t *testing.T) {
	for _, name := range []string{"stream", "indented", "anchors", "json"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name+".yaml")
			got, _ := inject(t, path, read(t, path), small{})
			golden.Check(t, filepath.Join("testdata", name+".out.yaml"), got)
		})
	}
}

func TestSecondPassChangesNothing(t *testing.T) {
	for _, name := range []string{"stream", "indented", "anchors", "json"} {
		path := filepath.Join("testdata", name+".yaml")
		once, n := inject(t, path, read(t, path), testDecider(t))
		twice, _ := inject(t, path, once, testDecider(t))
		if n == 0 || once != twice {
			t.Errorf("%s: %d injected; a second pass changed something:\n%s", name, n, cmp.Diff(once, twice))
		}
	}
}

// inject returns the output, and in how many pods something was injected.
func inject(t *testing.T, path, text string, decider Decider) (out string, injected int) {
	t.Helper()
	file, diagnostics := Parse(path, []byte(text))
	if len(diagnostics) > 0 {
		t.Fatal(diagnostics)
	}
	judgements := file.Judge(decider, "shop")
	for _, j := range judgements {
		if j.Outcome == injector.Injected {
			injected++
		}
	}
	got, _, err := file.Injected(judgements)
	if err != nil {
		t.Fatal(err)
	}
	return string(got), injected
}

func TestNotesNameTheLine(t *testing.T) {
	path := filepath.Join("testdata", "errors.yaml")
	file, notes := Parse(path, []byte(read(t, path)))
	for _, j := range file.Judge(testDecider(t), "") {
		notes = append(append(notes, j.Errors...), j.Warnings...)
	}
	var text strings.Builder
	for _, note := range notes {
		text.WriteString(note.String() + "\n")
	}
	golden.Check(t, filepath.Join("testdata", "errors.txt"), text.String())
}

// An error has its line in the file, wherever its document begins, and a text that looks like one has not.
func TestLinesOfErrors(t *testing.T) {
	for name, test := range map[string]struct{ document, want string }{
		"a syntax error":            {"a: 1\nb: [\n", "in.yaml:5: read document: line 5: did not find expected node content"},
		"a key that is there twice": {"a: 1\nb: 2\na: 3\n", `in.yaml:6: read document: line 6: mapping key "a" already defined at line 4`},
		"twice, within":             {"a:\n  b: {c: 1, c: 2}\n", `in.yaml:5: read document: line 5: mapping key "c" already defined at line 5`},
		"of a text":                 {"'line 1:': 1\n\"x\\nline 1:\": 2\n\"x\\nline 1:\": 3\n", `in.yaml:6: read document: line 6: mapping key "x\nline 1:" already defined at line 5`},
		"an unknown anchor":         {"a: *b\n", "in.yaml:4: read document: unknown anchor 'b' referenced"},
		"a Deployment's":            {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n", "in.yaml:4: read Deployment web at line 4: it has no spec.template"},
		"two of a List": {
			"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}\n- {apiVersion: apps/v1, kind: Deployment, metadata: {name: b}}\n",
			"in.yaml:7: read Deployment a at line 7: it has no spec.template; in.yaml:8: read Deployment b at line 8: it has no spec.template",
		},
		"keys of two maps": {"a: {b: 1}\nc: {b: 1}\n", ""},
		"a merged key":     {"a: &a {b: 1}\nc: {<<: *a, b: 2}\n", ""},
	} {
		_, diagnostics := Parse("in.yaml", []byte("# 1\n# 2\n---\n"+test.document))
		var got []string
		for _, diagnostic := range diagnostics {
			got = append(got, diagnostic.String())
		}
		if got := strings.Join(got, "; "); got != test.want {
			t.Errorf("%s: %s\nwant %s", name, got, test.want)
		}
	}
}

func TestNonceIsOfTheObject(t *testing.T) {
	web := &Pod{Kind: "Deployment", Name: "web"}
	if again := nonce("shop", &Pod{Kind: "Deployment", Name: "web"}); again != nonce("shop", web) {
		t.Error("two runs give two nonces")
	}
	for name, other := range map[string]string{
		"another namespace": nonce("bank", web),
		"another kind":      nonce("shop", &Pod{Kind: "Job", Name: "web"}),
		"another name":      nonce("shop", &Pod{Kind: "Deployment", Name: "we"}),
	} {
		if other == nonce("shop", web) {
			t.Errorf("%s has the same nonce", name)
		}
	}
}

func TestRead(t *testing.T) {
	folder := t.TempDir()
	for path, text := range map[string]string{"b.yaml": "b: 1\n", "a.json": "{}", "note.txt": "x", "below/c.yml": "c: 1\n"} {
		path = filepath.Join(folder, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for name, test := range map[string]struct {
		names     []string
		recursive bool
		want      string
		fails     bool
	}{
		"folder":         {names: []string{folder}, want: "{}\n---\nb: 1\n"},
		"folder, deep":   {names: []string{folder}, recursive: true, want: "{}\n---\nb: 1\n---\nc: 1\n"},
		"file and stdin": {names: []string{filepath.Join(folder, "b.yaml"), "-"}, want: "b: 1\n---\nin: 1"},
		"no such file":   {names: []string{filepath.Join(folder, "x.yaml")}, fails: true},
		"no manifests":   {names: []string{t.TempDir()}, fails: true},
		"nothing named":  {fails: true},
	} {
		files, diagnostics, err := Read(t.Context(), test.names, test.recursive, strings.NewReader("in: 1"))
		if (err != nil) != test.fails || len(diagnostics) > 0 {
			t.Errorf("%s: %v, %v", name, err, diagnostics)
		}
		var outputs [][]byte
		for _, file := range files {
			out, _, err := file.Injected(nil)
			if err != nil {
				t.Fatal(err)
			}
			outputs = append(outputs, out)
		}
		if got := string(Join(outputs)); got != test.want {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}
