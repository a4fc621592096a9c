package registration

import (
	"strings"
	"testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestParseAllowed(t *testing.T) {
	longest := strings.Repeat("a", contract.MaxServiceName)
	for name, test := range map[string]struct {
		text string
		want string // joined by a bar; empty: a mistake
	}{
		"all":                {"*", "*"},
		"several":            {" web , shop-* ,a.?", "web|shop-*|a.?"},
		"the longest":        {longest, longest},
		"as many as can be":  {strings.Repeat("a,", maxGlobs-1) + "a", strings.Repeat("a|", maxGlobs-1) + "a"},
		"too long":           {longest + "a", ""},
		"too many":           {strings.Repeat("a,", maxGlobs) + "a", ""},
		"empty":              {"", ""},
		"spaces":             {"  ", ""},
		"an empty item":      {"web,,shop", ""},
		"a comma at the end": {"web,", ""},
		"a comma in a glob":  {`web\,shop`, ""},
		"a class":            {"[a-z]*", ""},
		"a backslash":        {`we\b`, ""},
		"a slash":            {"shop/web", ""},
		"a negation":         {"!web", ""},
		"spaces inside":      {"web shop", ""},
		"a line's end":       {"web\nshop", ""},
		"another alphabet":   {"wéb", ""},
	} {
		t.Run(name, func(t *testing.T) {
			globs, err := ParseAllowed(test.text)
			if got := strings.Join(globs, "|"); got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestAllowed(t *testing.T) {
	for _, test := range []struct {
		globs, name string
		want        bool
	}{
		{"*", "web", true},
		{"*", "a.b_c-d", true},
		{"web", "web", true},
		{"web", "Web", true},
		{"Web", "web", true},
		{"web", "web2", false},
		{"web", "aweb", false},
		{"web?", "web", false},
		{"web?", "web2", true},
		{"web?", "web23", false},
		{"shop-*", "shop-", true},
		{"shop-*", "shop-web.a", true},
		{"shop-*", "shop", false},
		{"*-db", "shop-db", true},
		{"*-db", "shop-db-2", false},
		{"a.b", "axb", false},
		{"pay,shop-*", "shop-web", true},
		{"pay,shop-*", "payments", false},
		{strings.Repeat("*a", 31) + "b", strings.Repeat("a", 63), false},
	} {
		globs, err := ParseAllowed(test.globs)
		if err != nil {
			t.Fatal(err)
		}
		if got := Allowed(test.name, globs); got != test.want {
			t.Errorf("%s matches %s: %t", test.globs, test.name, got)
		}
	}
	if Allowed("web", nil) {
		t.Error("no glob allows a name")
	}
}

func TestNotAllowedNamesServiceGlobsAndSource(t *testing.T) {
	for name, test := range map[string]struct {
		annotations annotations
		want        []string
	}{
		"all allowed": {annotations{"service-names": "shop-web,shop-api"}, nil},
		"one of two":  {annotations{"service-names": "shop-web,pay"}, []string{`metadata.annotations[agentlet.dev/service-names]: Forbidden: service "pay"`}},
		"both":        {annotations{"service-names": "web,pay"}, []string{`service "web"`, `service "pay"`}},
		"structured": {
			annotations{"services": "[{name: shop-web}, {name: pay}]"},
			[]string{`metadata.annotations[agentlet.dev/services][1].name: Forbidden: service "pay"`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.annotations)
			reg, _, errs := Parse(pod, nil)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			got := NotAllowed(pod, reg, []string{"shop-*", "mail"}, "of a test")
			if len(got) != len(test.want) {
				t.Fatalf("got %v", got)
			}
			for i, err := range got {
				if text := err.Error(); !strings.Contains(text, test.want[i]) || !strings.HasSuffix(text, "may register only shop-*,mail (of a test)") {
					t.Errorf("got %s", text)
				}
			}
		})
	}
}
