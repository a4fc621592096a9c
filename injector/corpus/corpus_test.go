package corpus

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestParse(t *testing.T) {
	cases, err := parse("kinds", `### a pod
# expect: injected
# expect: warning: no port is given
# cli: warning: not looked at
# expect Job/worker: left alone: OptedOut
# flags: --default=gate=off --dialect=katalog-sync
# A comment of the manifest's own.
kind: Pod
---
### another
# expect: denied: one
# expect: denied: two: three
# cli: unread: four
kind: Job
`)
	if err != nil || len(cases) != 2 {
		t.Fatal(cases, err)
	}
	pod, other := &cases[0], &cases[1]
	if pod.Name != "kinds/a pod" || pod.Text != "# A comment of the manifest's own.\nkind: Pod\n---\n" || !slices.Equal(pod.Flags, []string{"--default=gate=off", "--dialect=katalog-sync"}) {
		t.Errorf("%+v", pod)
	}
	for name, test := range map[string]struct {
		of              *Case
		who, kind, name string
		want            Outcome
		words           []string
	}{
		"all":                 {pod, Pods, "Pod", "web", Injected, nil},
		"one object":          {pod, CLI, "Job", "worker", LeftAlone, []string{"OptedOut"}},
		"several errors":      {other, Workloads, "Job", "x", Denied, []string{"one", "two: three"}},
		"another for the CLI": {other, CLI, "Job", "x", Unread, []string{"four"}},
	} {
		if got, words := test.of.Outcome(test.who, test.kind, test.name); got != test.want || !slices.Equal(words, test.words) {
			t.Errorf("%s: %s, %q", name, got, words)
		}
	}
	for who, want := range map[string][]string{CLI: {"no port is given", "not looked at"}, Pods: {"no port is given"}} {
		if diff := cmp.Diff(want, pod.Warnings(who)); diff != "" {
			t.Errorf("warnings of %s: %s", who, diff)
		}
	}
	if got := other.Errors(); !slices.Equal(got, []string{"four"}) {
		t.Errorf("errors %q", got)
	}
}

// TestSlipsInHeaders: a case that says something else than it seems to tests nothing.
func TestSlipsInHeaders(t *testing.T) {
	for name, test := range map[string]struct{ text, says string }{
		"no case":               {"kind: Pod\n", "doesn't name a case"},
		"nothing expected":      {"### a\nkind: Pod\n", "nothing is expected"},
		"behind the header":     {"### a\nkind: Pod\n# expect: injected\n", "nothing is expected"},
		"no outcome":            {"### a\n# expect: injectd\nkind: Pod\n", "want warning or one of"},
		"an outcome of what":    {"### a\n# expect: denied\nkind: Pod\n", "denied of what?"},
		"a warning of nothing":  {"### a\n# expect: warning\nkind: Pod\n", "warning of what?"},
		"a second case without": {"### a\n# expect: injected\nkind: Pod\n### b\nkind: Pod\n", "x/b: nothing is expected"},
	} {
		if cases, err := parse("x", test.text); err == nil || !strings.Contains(err.Error(), test.says) {
			t.Errorf("%s: %+v, %v", name, cases, err)
		}
	}
}

func TestUnmatched(t *testing.T) {
	missing, unexpected := Unmatched([]string{"b", "a", "a"}, []string{"xa", "xb", "c"})
	if !slices.Equal(missing, []string{"a"}) || !slices.Equal(unexpected, []string{"c"}) {
		t.Errorf("%q, %q", missing, unexpected)
	}
}
