package manifests

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"gomodules.xyz/jsonpatch/v2"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/injector"
)

// Lines that small adds to a pod in compact style.
const (
	addedLast     = "+ - name: last\n+   resources: {}\n"
	addedInit     = "+ initContainers:\n"
	addedAgentlet = "+ - name: agentlet\n+   args:\n+   - \"010\"\n+   - \"true\"\n+   - '# no comment'\n+   resources: {}\n"
	addedGates    = "+ readinessGates:\n+ - conditionType: registered\n"
)

// annotated is the head of a pod that asks for the agentlet.
const annotated = "apiVersion: v1\nkind: Pod\nmetadata:\n  annotations: {agentlet.dev/service-names: web}\n"

// TestEveryLineStays has something added to documents as people write them. Each line that was there is there afterwards, byte for
// byte and in its order; added are the lines that begin with a plus.
func TestEveryLineStays(t *testing.T) {
	for name, marked := range map[string]string{
		"blank lines and comments": `

spec:

  # The first.
  containers:   # all of them

  # The application.
  - name: web   # its name
    # It is large.
    image:   "web"
` + addedLast + addedInit + addedAgentlet + addedGates + `
# The end.
`,
		"what follows, and its comment": `
spec:
  containers:
  - name: web
` + addedLast + `
  # Where it runs.
  nodeSelector: {a: b}
` + addedInit + addedAgentlet + addedGates + `status: {}
`,
		"a first place": `
spec:
  initContainers: # in this order
` + addedAgentlet + `  # Before all others.
  - name: first
  containers:
  - name: web
` + addedLast + addedGates,
		"deep lists": `
spec:
    containers:
      -   name: web
          command: ["a",   'b']
+     - name: last
+       resources: {}
+   initContainers:
+     - name: agentlet
+       args:
+         - "010"
+         - "true"
+         - '# no comment'
+       resources: {}
+   readinessGates:
+     - conditionType: registered
`,
		"a block of text at the end": `
spec:
  containers:
  - name: web
    command:
    - |
      text

      # of the text
` + addedLast + addedInit + addedAgentlet + addedGates,
		"no value at the end": `
spec:

  containers:
  - name:   web
` + addedLast + `  # Before all others.
  initContainers:
` + addedAgentlet + addedGates,
		"anchors that nothing refers to": `
spec:
  containers: &all
  - &web
    name: &name web   # an anchor
    image: "web"
` + addedLast + addedInit + addedAgentlet + addedGates,
		"anchors elsewhere": `
x-env: &env
  A: "1"
spec:
  containers:
  - name: &name web
    labels: {app: *name, <<: *env}
  - &second
    name: second
  - <<: *second
    name: third
` + addedLast + addedInit + addedAgentlet + addedGates,
	} {
		for ending, newline := range map[string]string{"line feeds": "\n", "carriage returns": "\r\n"} {
			t.Run(name+"/"+ending, func(t *testing.T) {
				var in, want strings.Builder
				for line := range strings.Lines(annotated + marked[1:]) {
					line = strings.TrimSuffix(line, "\n") + newline
					if rest, added := strings.CutPrefix(line, "+"); added {
						want.WriteString(" " + rest)
						continue
					}
					in.WriteString(line)
					want.WriteString(line)
				}
				got, warnings := injectWithWarnings(t, "in.yaml", in.String(), small{})
				if diff := cmp.Diff(want.String(), got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if len(warnings) > 0 {
					t.Errorf("warned: %v", warnings)
				}
			})
		}
	}
}

// TestAReplacedValueAtTheEnd has more keys added behind a list whose brackets go.
func TestAReplacedValueAtTheEnd(t *testing.T) {
	const head = "spec:\n\n  containers:\n  - name:   web\n"
	got, _ := injectWithWarnings(t, "in.yaml", annotated+head+"  initContainers: []  # none\n# The end.\n", small{})
	want := annotated + strings.ReplaceAll(head+addedLast+"  initContainers:  # none\n"+addedAgentlet+addedGates+"# The end.\n", "\n+", "\n ")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestEndsOfDocuments(t *testing.T) {
	for name, c := range map[string]struct{ end, next, last string }{
		"no line end":            {"", "\n", "registered"},
		"blank lines":            {"\n\n\n", "\n", "registered\n\n\n"},
		"an end of the document": {"\n...\n", "\n", "registered\n...\n"},
		"a comment of the list":  {"\n  # no more\n", "\n", "registered\n  # no more\n"},
		"a comment at the end":   {"\n# the end\n", "\n", "registered\n# the end\n"},
	} {
		t.Run(name, func(t *testing.T) {
			in := annotated + "spec:\n  containers:\n  - name:   web" // encoded anew, the blanks would be one
			got, _ := injectWithWarnings(t, "in.yaml", in+c.end, small{})
			if !strings.HasPrefix(got, in+c.next+"  - name: last\n") || !strings.HasSuffix(got, c.last) {
				t.Errorf("%q became %q", in+c.end, got)
			}
		})
	}
}

// TestWhatLinesCannotHold is about documents that are encoded anew: with their comments where their tree can be changed, and else
// without, which the person is told.
func TestWhatLinesCannotHold(t *testing.T) {
	const comment = "# A comment.\n"
	for name, c := range map[string]struct {
		in       string
		comments bool
		warning  string
	}{
		"a list in flow style":            {"spec: {containers: [{name: web}]}\n", true, ""},
		"an empty list":                   {"spec:\n  initContainers: []\n  containers:\n  - name: web\n", true, ""},
		"a path that crosses an alias":    {"x-containers: &all\n- name: web\nspec:\n  containers: *all\n", false, "alias"},
		"a path that crosses a merge":     {"x-spec: &spec\n  containers:\n  - name: web\nspec:\n  <<: *spec\n", false, "alias"},
		"an addition that an alias shows": {"spec: &spec\n  containers:\n  - name: web\nx-spec: *spec\n", false, "alias"},
	} {
		t.Run(name, func(t *testing.T) {
			in := "kind: A\n---\n" + comment + annotated + c.in
			got, warnings := injectWithWarnings(t, "in.yaml", in, small{})
			if kept := strings.Contains(got, comment); kept != c.comments {
				t.Errorf("comments kept: %t\n%s", kept, got)
			}
			if !strings.HasPrefix(got, "kind: A\n---\n") {
				t.Errorf("the document before was changed:\n%s", got)
			}
			for _, part := range []string{"name: last", "name: agentlet", "conditionType: registered"} {
				if n := strings.Count(got, part); n != 1 {
					t.Errorf("%q is there %d times:\n%s", part, n, got)
				}
			}
			told := slices.ContainsFunc(warnings, func(w Diagnostic) bool {
				return w.File == "in.yaml" && w.Line == 3 && strings.Contains(w.Message, c.warning)
			})
			if told != (c.warning != "") || len(warnings) > 1 {
				t.Errorf("warned %v, want %q", warnings, c.warning)
			}
		})
	}
}

// hooking replaces the first container's preStop hook.
type hooking struct{}

func (hooking) Decide(injector.Request) injector.Decision {
	hook := &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: 1}}
	return injector.Decision{Outcome: injector.Injected, Patch: []jsonpatch.Operation{
		{Operation: "add", Path: "/spec/containers/0/lifecycle/preStop", Value: hook},
	}}
}

// TestReplacedHook has a preStop hook replaced in documents as people write them. Lines that begin with a minus go, those that begin
// with a plus come, and each other one stays byte for byte.
func TestReplacedHook(t *testing.T) {
	for name, marked := range map[string]string{
		"a block": `
spec:
  containers:

  - name:   web
    lifecycle:
      # Before the end.
      preStop:   # for clients
-       # Not less.
-       httpGet:
-         path: /stop
-
-         port: 80
+       sleep:
+         seconds: 1
        # More to come.

      postStart: {sleep: {seconds:   2}}
`,
		"a block at the end": `
spec:
  containers:
  - name:   web
    lifecycle:
      preStop:
-       exec: {command: [a,
-         b]}
+       sleep:
+         seconds: 1
`,
		"nothing": `
spec:
  containers:
  - name:   web
    lifecycle:
      preStop:
+       sleep:
+         seconds: 1
        # No hook.
      postStart: {sleep: {seconds:   2}}
`,
		"brackets in a block": `
spec:
  containers:
  - name:   web
    lifecycle:
-     preStop: {exec: {command: ["}"]}} # for clients
+     preStop:  # for clients
+       sleep:
+         seconds: 1
      postStart: {sleep: {seconds:   2}}
`,
		"brackets in brackets": `
spec:
  containers:
  - name:   web
-   lifecycle: {preStop: {sleep: {seconds:   2}}, postStart: {sleep: {seconds:   2}}} # both
+   lifecycle: {preStop: {sleep: {seconds: 1}}, postStart: {sleep: {seconds:   2}}} # both
    image: web
`,
	} {
		for ending, newline := range map[string]string{"line feeds": "\n", "carriage returns": "\r\n"} {
			t.Run(name+"/"+ending, func(t *testing.T) {
				var in, want strings.Builder
				for line := range strings.Lines(annotated + marked[1:]) {
					line = strings.TrimSuffix(line, "\n") + newline
					rest, added := strings.CutPrefix(line, "+")
					gone, removed := strings.CutPrefix(line, "-")
					switch {
					case added:
						want.WriteString(" " + rest)
					case removed:
						in.WriteString(" " + gone)
					default:
						in.WriteString(line)
						want.WriteString(line)
					}
				}
				got, warnings := injectWithWarnings(t, "in.yaml", in.String(), hooking{})
				if diff := cmp.Diff(want.String(), got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
				if len(warnings) > 0 {
					t.Errorf("warned: %v", warnings)
				}
			})
		}
	}
}

func injectWithWarnings(t *testing.T, name, text string, decider Decider) (out string, warnings []Diagnostic) {
	t.Helper()
	file, diagnostics := Parse(name, []byte(text))
	if len(diagnostics) > 0 {
		t.Fatal(diagnostics)
	}
	got, warnings, err := file.Injected(file.Judge(decider, "shop", nil))
	if err != nil {
		t.Fatal(err)
	}
	return string(got), warnings
}

// TestATextIsReplacedInItsPlace has a mesh's list of ports extended. Quotes, comments and blanks stay as they were.
func TestATextIsReplacedInItsPlace(t *testing.T) {
	const head, tail = "apiVersion: v1\nkind: Pod\nmetadata:\n\n  labels: {sidecar.istio.io/inject: \"true\"}\n  annotations:",
		"\nspec:\n\n  containers:\n  - name: web   # first\n    ports: [{containerPort: 80}]\n"
	for name, test := range map[string]struct{ in, want string }{
		"in double quotes":      {"\n    KEY: \"80\"", "\n    KEY: \"80,19500\"\n"},
		"in single quotes":      {"\n    KEY: '80, 81'  ", "\n    KEY: '80, 81,19500'  \n"},
		"without quotes":        {"\n    KEY:  80,81", "\n    KEY:  80,81,19500\n"},
		"before a comment":      {"\n    KEY: 80,81  # own", "\n    KEY: 80,81,19500  # own\n"},
		"quoted, a comment":     {"\n    KEY: \"80\" # own", "\n    KEY: \"80,19500\" # own\n"},
		"between brackets":      {" {KEY:  \"80\", agentlet.dev/service-names: web}", " {KEY:  \"80,19500\", agentlet.dev/service-names: web"},
		"last between brackets": {" { agentlet.dev/service-names: web, KEY: '80' }", " { agentlet.dev/service-names: web, KEY: '80,19500'"},
	} {
		t.Run(name, func(t *testing.T) {
			const key = "traffic.sidecar.istio.io/excludeInboundPorts"
			in := head + strings.ReplaceAll(test.in, "KEY", key)
			if !strings.Contains(in, "service-names") {
				in += "\n    agentlet.dev/service-names: web"
			}
			out, warnings := injectWithWarnings(t, "in.yaml", in+tail, testDecider(t))
			want := head + strings.ReplaceAll(test.want, "KEY", key)
			if !strings.HasPrefix(out, want) || !strings.Contains(out, "\nspec:\n\n  containers:\n  - name: web   # first\n") || len(warnings) > 0 {
				t.Errorf("want a beginning of %q, got %v and\n%s", want, warnings, out)
			}
		})
	}
}
