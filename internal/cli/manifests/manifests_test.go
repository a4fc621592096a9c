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
		"JSON objects":             {"{\"a\": 1}\n\n{\"b\": 2} {}\n\n", []int{1, 1, 3}},
		"JSON, then YAML":          {" {\"a\": 1} \n---\nb: 2\n", []int{1, 3}},
		"braces, but YAML":         {"\n {a: 1}\n---\nb: 2\n", []int{1, 2, 4}},
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

// TestOutput compares testdata/NAME.EXT with testdata/NAME.out.EXT, text for text.
func TestOutput(t *testing.T) {
	for _, name := range []string{"stream.yaml", "indented.yaml", "anchors.yaml", "json.yaml", "json-stream.json", "json-list.json", "kept.yaml"} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join("testdata", name)
			got, _ := inject(t, path, read(t, path), small{})
			extension := filepath.Ext(name)
			golden.Check(t, filepath.Join("testdata", strings.TrimSuffix(name, extension)+".out"+extension), got)
		})
	}
}

// Line ends, and that the last line has none, are kept, too.
func TestLineEndsAreKept(t *testing.T) {
	for _, name := range []string{"kept.yaml", "anchors.yaml", "stream.yaml", "json-stream.json"} { // of anchors all is written anew
		path, extension := filepath.Join("testdata", name), filepath.Ext(name)
		in, want := read(t, path), read(t, strings.TrimSuffix(path, extension)+".out"+extension)
		got, _ := inject(t, path, strings.ReplaceAll(in, "\n", "\r\n"), small{})
		if diff := cmp.Diff(strings.ReplaceAll(want, "\n", "\r\n"), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	const pod = "kind: Pod\napiVersion: v1\nmetadata: {annotations: {agentlet.dev/service-names: web}}\nspec:\n  containers:\n  - name: web"
	want := strings.Replace(pod, "- name: web", "- name: web\n  - name: last\n    resources: {}", 1)
	if got, _ := inject(t, "in", pod, small{}); !strings.HasPrefix(got, want) || strings.HasSuffix(got, "\n") {
		t.Errorf("%q, want %q, …", got, want)
	}
}

// Whatever stands where something is added, the text says afterwards what the tree says, and has lost nothing but a word for nothing.
func TestAdditionsInAllPlaces(t *testing.T) {
	for name, test := range map[string]struct{ spec, want string }{
		"null":               {"spec:\n  initContainers: null # none\n  containers: [{name: a}]\n", "  initContainers: # none\n  - name: agentlet\n"},
		"nothing at all":     {"spec:\n  initContainers:\n  containers: [{name: a}]\n", "  initContainers:\n  - name: agentlet\n"},
		"an empty list":      {"spec:\n  initContainers: []\n  containers: [{name: a}]\n", "  initContainers:\n  - name: agentlet\n"},
		"a trailing comma":   {"spec: {containers: [{name: a}, ], }\n", "spec: {containers: [{name: a}, {name: last, resources: {}} ], initContainers:"},
		"brackets in texts":  {"spec: {containers: [{name: 'a]''}', args: [\"}\\\"]\", b'c, d\"e]}]} # }\n", "b'c, d\"e]}, {name: last, resources: {}}], initContainers"},
		"two on a line":      {"spec:\n  containers:\n  - name: a\n    args: [x,\n  z\n  ]\n  hostname: b\n", "  z\n  ]\n  - name: last\n    resources: {}\n  hostname: b\n"},
		"a text, kept whole": {"spec:\n  containers:\n  - name: a\n    args:\n    - |+\n      x\n\n\n", "- name: last"},
		"a comment within":   {"spec:\n  containers:\n  - name: a\n    # of a\n  # at the end\n# afterwards\n", "    # of a\n"},
	} {
		in := "apiVersion: v1\nkind: Pod\nmetadata: {annotations: {agentlet.dev/service-names: web}}\n" + test.spec
		got, n := inject(t, "in", in, small{})
		if n != 1 || !strings.Contains(got, test.want) {
			t.Errorf("%s:\n%s\nlacks %q", name, got, test.want)
		}
	}
}

func TestSpaced(t *testing.T) {
	for in, want := range map[string]string{
		`{"a":[1,2],"b:,":"x\",:\\"}`: `{"a": [1, 2], "b:,": "x\",:\\"}`, `"a:b"`: `"a:b"`, `[]`: `[]`,
	} {
		if got := string(spaced([]byte(in))); got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}
}

func TestSecondPassChangesNothing(t *testing.T) {
	for _, name := range []string{"stream.yaml", "indented.yaml", "anchors.yaml", "json.yaml", "json-stream.json", "json-list.json", "kept.yaml"} {
		path := filepath.Join("testdata", name)
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
	judgements := file.Judge(decider, "shop", nil)
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

// ofNamespace decides as if the pods' namespace had these annotations in the cluster.
type ofNamespace struct {
	Decider
	annotations map[string]string
}

func (o ofNamespace) Decide(request injector.Request) injector.Decision {
	request.NamespaceAnnotations = o.annotations
	return o.Decider.Decide(request)
}

// A namespace's annotation that isn't in the files has the line of the pod for which it has no effect.
func TestWarningsOfANamespaceElsewhere(t *testing.T) {
	const pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop, annotations: {agentlet.dev/service-names: web}}\nspec: {containers: [{name: web, image: web, ports: [{containerPort: 80}]}]}\n"
	const warning = `Pod shop/web: namespace "shop": annotation agentlet.dev/gate: "ajar" has no effect: must be passing, registered or off`
	for name, test := range map[string]struct{ before, want string }{
		"in no file":                    {"", "in.yaml:2: " + warning},
		"in a file without it":          {"apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n", "in.yaml:5: " + warning},
		"in a file, which tells itself": {"apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {agentlet.dev/gate: ajar}}\n", ""},
	} {
		file, notes := Parse("in.yaml", []byte(test.before+pod))
		files := []*File{file}
		for _, j := range file.Judge(ofNamespace{testDecider(t), map[string]string{"agentlet.dev/gate": "ajar"}}, "", Namespaces(files)) {
			notes = append(append(notes, j.Errors...), j.Warnings...)
		}
		var got []string
		for _, note := range notes {
			got = append(got, note.String())
		}
		if got := strings.Join(got, "; "); got != test.want {
			t.Errorf("%s: %s\nwant %s", name, got, test.want)
		}
		if names := PodNamespaces(files, "other"); len(names) != 1 || names[0] != "shop" {
			t.Errorf("%s: namespaces %q", name, names)
		}
	}
}

func TestNotesNameTheLine(t *testing.T) {
	path := filepath.Join("testdata", "errors.yaml")
	file, notes := Parse(path, []byte(read(t, path)))
	for _, j := range file.Judge(testDecider(t), "", nil) {
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
		"a syntax error":            {"a: 1\nb: [\n", "in.yaml:5: read document: did not find expected node content"},
		"far into a mapping":        {"a:\n  b: 1\n  c: 2\n d: 3\ne: 4\n", "in.yaml:7: read document: did not find expected key"},
		"a tab":                     {"a:\n  b: 1\n\tc: 2\n", "in.yaml:6: read document: found a tab character that violates indentation"},
		"a quote that stays open":   {"a: 1\nb: \"x\nc: 2\nd: 3\n", "in.yaml:5: read document: found unexpected end of stream"},
		"a value where none is":     {"a: 1\n\n\nb: c: d\ne: 1\n", "in.yaml:7: read document: mapping values are not allowed in this context"},
		"a key that is there twice": {"a: 1\nb: 2\na: 3\n", `in.yaml:6: read document: the key "a" is there already, at line 4`},
		"twice, within":             {"a:\n  b: {c: 1, c: 2}\n", `in.yaml:5: read document: the key "c" is there already, at line 5`},
		"of a text":                 {"'line 1:': 1\n\"x\\nline 1:\": 2\n\"x\\nline 1:\": 3\n", `in.yaml:6: read document: the key "x\nline 1:" is there already, at line 5`},
		"an unknown anchor":         {"b: 1\na: *b\n", "in.yaml:5: read document: unknown anchor 'b' referenced"},
		"an anchor within itself":   {"b: 1\na: &a {b: *a}\n", "in.yaml:4: read document: anchor 'a' value contains itself"},
		"a key that is a mapping":   {"a: 1\n? {b: 1}\n: 2\n", "in.yaml:5: read document: a key must be a text"},
		"a document behind dots":    {"kind: A\n# c\n...\n\nkind: B\n", "in.yaml:8: read document: kubectl reads no second document without a line --- before it"},
		"a second of braces":        {"{kind: A}\n\n{kind: B}\n", "in.yaml:6: read document: kubectl reads no second document without a line --- before it"},
		"on the separator's line":   {"kind: A\n--- {kind: B}\n", "in.yaml:5: read document: kubectl reads nothing but a comment after ---: write what follows on a line of its own"},
		"a template's value":        {"kind: A\nmetadata:\n  name: {{ .Values.name }}\n", "in.yaml:6: read document: a template that is not rendered: {{ .Values.name }} is Helm's; give the output of helm template"},
		"a template's control":      {"kind: A\n{{- if .Values.on }}\na: 1\n{{- end }}\n", "in.yaml:5: read document: a template that is not rendered: {{- if .Values.on }} is Helm's; give the output of helm template"},
		"a template's item":         {"kind: A\na:\n- {{ .Values.name }}\n", "in.yaml:6: read document: a template that is not rendered: {{ .Values.name }} is Helm's; give the output of helm template"},
		"a template's include":      {"kind: A\nmetadata:\n  labels:\n    {{- include \"x\" . | nindent 4 }}\n", "in.yaml:7: read document: a template that is not rendered: {{- include \"x\" . | nindent 4 }} is Helm's; give the output of helm template"},
		"a template within a text":  {"kind: A\na: |\n  {{ range .Alerts }}\n  x\n  {{ end }}\nb: 1\nc: [\n", "in.yaml:10: read document: did not find expected node content"},
		"braces in quotes":          {"kind: A\na: \"{{ x }}\"\nb: [\n", "in.yaml:6: read document: did not find expected node content"},
		"not an object":             {"- a\n", "in.yaml:4: read document: a Kubernetes object is a mapping"},
		"no kind":                   {"a: 1\n", "in.yaml:4: read document: a Kubernetes object has a kind"},
		"no template":               {"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\n", "in.yaml:4: Deployment web: it has no spec.template"},
		"two of a List": {
			"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: apps/v1, kind: Deployment, metadata: {name: a}}\n- {apiVersion: apps/v1, kind: Deployment, metadata: {name: b}}\n",
			"in.yaml:7: Deployment a: it has no spec.template; in.yaml:8: Deployment b: it has no spec.template",
		},
		"keys of two maps":    {"kind: A\na: {b: 1}\nc: {b: 1}\n", ""},
		"a merged key":        {"kind: A\na: &a {b: 1}\nc: {<<: *a, b: 2}\n", ""},
		"a name that is none": {"kind: Service\nmetadata:\n  name: 010\n", `in.yaml:6: Service: metadata.name: Invalid value: 010: must be a string: write "010"`},
		"a number and a boolean": {
			"apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web, labels: {tier: yes}}\nspec:\n  template:\n    metadata:\n      labels:\n        version: 1.10\n" +
				"      annotations:\n        agentlet.dev/service-names: web\n        agentlet.dev/service-port: 8080\n        agentlet.dev/drain-hook: false\n",
			`in.yaml:6: Deployment web: metadata.labels.tier: Invalid value: yes: must be a string: write "yes"; ` +
				`in.yaml:11: Deployment web: spec.template.metadata.labels.version: Invalid value: 1.10: must be a string: write "1.10"; ` +
				`in.yaml:14: Deployment web: spec.template.metadata.annotations[agentlet.dev/service-port]: Invalid value: 8080: must be a string: write "8080"; ` +
				`in.yaml:15: Deployment web: spec.template.metadata.annotations[agentlet.dev/drain-hook]: Invalid value: false: must be a string: write "false"`,
		},
		"a pod's fields": {
			"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  hostNetwork: \"true\"\n  containers:\n  - name: web\n    env:\n    - {name: A, value: x}\n    - {name: B, value: true}\n" +
				"    ports:\n    - {containerPort: \"8080\"}\n    - containerPort: http\n    args: x\n    readinessProbe: {httpGet: {port: [80]}}\n",
			`in.yaml:8: Pod web: spec.hostNetwork: Invalid value: "true": must be true or false: write true; ` +
				`in.yaml:13: Pod web: spec.containers[0].env[1].value: Invalid value: true: must be a string: write "true"; ` +
				`in.yaml:15: Pod web: spec.containers[0].ports[0].containerPort: Invalid value: "8080": must be a whole number: write 8080; ` +
				`in.yaml:16: Pod web: spec.containers[0].ports[1].containerPort: Invalid value: http: must be a whole number; ` +
				`in.yaml:17: Pod web: spec.containers[0].args: Invalid value: x: must be a list; ` +
				`in.yaml:18: Pod web: spec.containers[0].readinessProbe.httpGet.port: must be a number or a string`,
		},
		"quantities": {
			"apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec:\n  containers:\n  - name: web\n    resources:\n      limits:\n        cpu: Limit\n        memory: much\n",
			`in.yaml:12: Pod web: spec.containers[0].resources.limits.cpu: Invalid value: "Limit": must be a quantity such as 250m or 64Mi; ` +
				`in.yaml:13: Pod web: spec.containers[0].resources.limits.memory: Invalid value: "much": must be a quantity such as 250m or 64Mi`,
		},
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

func TestObjectsWithoutAPodThatAreWarnedOf(t *testing.T) {
	const containers = "spec: {containers: [{name: web}]}"
	for name, test := range map[string]struct{ document, want string }{
		"a Service": {
			"apiVersion: v1\nkind: Service\nmetadata:\n  name: web\n  annotations:\n    a: b\n    agentlet.dev/service-names: web\n",
			"in.yaml:7: Service web: annotation agentlet.dev/service-names: no effect on a Service; agentlet reads it from the annotations of pods",
		},
		"a label": {
			"apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: web\n  labels: {agentlet.dev/inject: enabled}\n",
			"in.yaml:5: ConfigMap web: label agentlet.dev/inject: no effect on a ConfigMap; agentlet reads it from the annotations of pods",
		},
		"a template elsewhere": {
			"apiVersion: keda.sh/v1alpha1\nkind: ScaledJob\nmetadata: {name: web}\nspec:\n  jobTargetRef:\n    template: {" + containers + "}\n",
			"in.yaml:6: ScaledJob web: not looked at: it has a pod template at spec.jobTargetRef.template; agentlet knows those at spec.template, spec.jobTemplate.spec.template, template",
		},
		"one of several": {
			"apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: a}, " + containers + "}\n- {apiVersion: a/v1, kind: B, parts: [{}, {" + containers + "}]}\n",
			"in.yaml:5: B: not looked at: it has a pod template at parts[1]; agentlet knows those at spec.template, spec.jobTemplate.spec.template, template",
		},
		"a pod without its version": {
			"kind: Pod\nmetadata: {name: web}\n" + containers + "\n",
			`in.yaml:1: Pod web: not looked at: it has spec.containers as a Pod has, and is of apiVersion "" and kind "Pod"; agentlet knows templates at spec.template, spec.jobTemplate.spec.template, template`,
		},
		"a Rollout":         {"apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web}\nspec: {template: {" + containers + "}}\n", ""},
		"a Namespace":       {"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: web\n  labels: {agentlet.dev/inject: enabled}\n", ""},
		"other annotations": {"apiVersion: v1\nkind: Service\nmetadata: {name: web, annotations: {a: b}}\n", ""},
	} {
		file, notes := Parse("in.yaml", []byte(test.document))
		var got []string
		for _, note := range append(notes, file.Warnings(nil)...) {
			got = append(got, note.String())
		}
		if got := strings.Join(got, "; "); got != test.want {
			t.Errorf("%s: %s\nwant %s", name, got, test.want)
		}
	}
}

// Templates of other kinds are judged and injected as those of Kubernetes' own; and so are items that have their kind from their
// list.
func TestTemplatesOfOtherKinds(t *testing.T) {
	template := "template:\n  metadata: {annotations: {agentlet.dev/service-names: web}}\n  spec:\n    containers:\n    - {name: web, image: web, ports: [{containerPort: 80}]}\n"
	spec := "spec:\n  " + strings.ReplaceAll(strings.TrimSpace(template), "\n", "\n  ") + "\n"
	for _, of := range []struct{ head, body, object string }{
		{"apiVersion: argoproj.io/v1alpha1\nkind: Rollout\nmetadata: {name: web}\n", spec, "Rollout web"},
		{"apiVersion: serving.knative.dev/v1\nkind: Service\nmetadata: {name: web}\n", spec, "Service web"},
		{"apiVersion: apps.kruise.io/v1alpha1\nkind: CloneSet\nmetadata: {name: web}\n", spec, "CloneSet web"},
		{"apiVersion: apps.openshift.io/v1\nkind: DeploymentConfig\nmetadata: {name: web}\n", spec, "DeploymentConfig web"},
		{"apiVersion: extensions/v1beta1\nkind: Deployment\nmetadata: {name: web}\n", spec, "Deployment web"},
		{"apiVersion: example.com/v1\nkind: Any\nmetadata: {name: web}\n", template, "Any web"},
		{"apiVersion: apps/v1\nkind: DeploymentList\nitems:\n- metadata: {name: web}\n  ", strings.ReplaceAll(spec, "\n", "\n  "), "Deployment web"},
	} {
		text := of.head + strings.TrimRight(of.body, " ")
		file, wrong := Parse("in.yaml", []byte(text))
		results := file.Judge(testDecider(t), "shop", nil)
		if len(wrong) > 0 || len(results) != 1 || results[0].String() != of.object || results[0].Outcome != injector.Injected {
			t.Errorf("%s: %v, %+v", of.object, wrong, results)
			continue
		}
		if out, _, err := file.Injected(results); err != nil || !strings.Contains(string(out), "readinessGates") {
			t.Errorf("%s: %v, %s", of.object, err, out)
		}
	}
}

// TestAChangedPortIsRenewed has manifests that were injected, changed and injected again. The second pass changes the record alone.
func TestAChangedPortIsRenewed(t *testing.T) {
	const annotations, container = `{"agentlet.dev/service-names": "web"}`, `{"name": "web", "ports": [{"containerPort": 8080}]}`
	for name, in := range map[string]string{
		"blocks": "# Of the shop.\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec:\n\n  template:\n    metadata:\n" +
			"      annotations: " + annotations + "\n    spec:\n      containers: [" + container + "] # one\n",
		"brackets": "apiVersion: v1\nkind: Pod\nmetadata: {annotations: " + annotations + "}\nspec: {containers: [" + container + "]} # all\n",
		"JSON":     `{"apiVersion":"v1","kind":"Pod","metadata":{"annotations":` + annotations + "},\n\t" + `"spec":{"containers":[` + container + "]}}\n",
	} {
		t.Run(name, func(t *testing.T) {
			inject := func(text string) (out string, warnings []Diagnostic) {
				t.Helper()
				file, wrong := Parse("in", []byte(text))
				results := file.Judge(testDecider(t), "shop", nil)
				injected, rewritten, err := file.Injected(results)
				if err != nil || len(wrong) > 0 || len(rewritten) > 0 || len(results) != 1 {
					t.Fatal(err, wrong, rewritten, results)
				}
				return string(injected), results[0].Warnings
			}
			once, _ := inject(in)
			twice, warnings := inject(once)
			if diff := cmp.Diff(once, twice); diff != "" || len(warnings) > 0 {
				t.Errorf("unchanged, and injected again: %v\n%s", warnings, diff)
			}
			changed := strings.Replace(once, `"containerPort": 8080`, `"containerPort": 9090`, 1)
			renewed, warnings := inject(changed)
			if diff := cmp.Diff(strings.Replace(changed, `"8080"`, `"9090"`, 1), renewed); diff != "" {
				t.Errorf("with another port, and injected again (-want +got):\n%s", diff)
			}
			if len(warnings) != 1 || !strings.Contains(warnings[0].Message, "9090 is registered now") || !strings.Contains(warnings[0].Message, "it was 8080 when") {
				t.Errorf("warnings: %v", warnings)
			}
		})
	}
}

func TestNonceIsOfTheObject(t *testing.T) {
	pod := func(kind, name string) *Pod { return &Pod{Object: Object{Kind: kind, Name: name}} }
	web := pod("Deployment", "web")
	if again := nonce("shop", pod("Deployment", "web")); again != nonce("shop", web) {
		t.Error("two runs give two nonces")
	}
	for name, other := range map[string]string{
		"another namespace": nonce("bank", web),
		"another kind":      nonce("shop", pod("Job", "web")),
		"another name":      nonce("shop", pod("Deployment", "we")),
	} {
		if other == nonce("shop", web) {
			t.Errorf("%s has the same nonce", name)
		}
	}
}

func TestRead(t *testing.T) {
	folder := t.TempDir()
	for path, text := range map[string]string{"b.yaml": "kind: B\n", "a.json": `{"kind":"A"}`, "note.txt": "x", "below/c.yml": "kind: C\n"} {
		path = filepath.Join(folder, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(folder, link); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		names     []string
		recursive bool
		want      string
		fails     bool
	}{
		"folder":         {names: []string{folder}, want: "{\"kind\":\"A\"}\n---\nkind: B\n"},
		"folder, deep":   {names: []string{folder}, recursive: true, want: "{\"kind\":\"A\"}\n---\nkind: B\n---\nkind: C\n"},
		"link":           {names: []string{link}, want: "{\"kind\":\"A\"}\n---\nkind: B\n"},
		"file and stdin": {names: []string{filepath.Join(folder, "b.yaml"), "-"}, want: "kind: B\n---\nkind: In"},
		"no such file":   {names: []string{filepath.Join(folder, "x.yaml")}, fails: true},
		"no manifests":   {names: []string{t.TempDir()}, fails: true},
		"nothing named":  {fails: true},
	} {
		files, diagnostics, err := Read(t.Context(), test.names, test.recursive, strings.NewReader("kind: In"))
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
