package registration

import (
	"strconv"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestParseServiceGlobs(t *testing.T) {
	longest := strings.Repeat("a", contract.MaxServiceName)
	for name, test := range map[string]struct {
		text string
		want string // empty: an error
	}{
		"all":                {"*", "*"},
		"several":            {" web , shop-* ,a.?", "web,shop-*,a.?"},
		"the longest":        {longest, longest},
		"as many as can be":  {strings.Repeat("a,", maxGlobs-1) + "a", strings.Repeat("a,", maxGlobs-1) + "a"},
		"a denial":           {"!web, ! shop-*", "!web,!shop-*"},
		"the longest denial": {"!" + longest, "!" + longest},
		"a mark alone":       {"!", ""},
		"two marks":          {"!!web", ""},
		"a mark inside":      {"we!b", ""},
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
		"spaces inside":      {"web shop", ""},
		"a line's end":       {"web\nshop", ""},
		"another alphabet":   {"wéb", ""},
	} {
		t.Run(name, func(t *testing.T) {
			globs, err := ParseServiceGlobs(test.text, "a test")
			if got := globs.String(); got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestParseTagGlobs(t *testing.T) {
	longest := strings.Repeat("a", maxTagGlob)
	for name, test := range map[string]struct {
		text string
		want string // empty: an error
	}{
		"all":              {"*", "*"},
		"those of routers": {"!urlprefix-*, !traefik.*", "!urlprefix-*,!traefik.*"},
		"a rule":           {"traefik.http.routers.*.rule=Host(`*.shop.example`)", "traefik.http.routers.*.rule=Host(`*.shop.example`)"},
		"a comma":          {`a\,b,c`, `a\,b,c`},
		"spaces inside":    {"a b", "a b"},
		"a class is none":  {"[a-z]", "[a-z]"},
		"another alphabet": {"é*", "é*"},
		"the longest":      {longest, longest},
		"too long":         {longest + "a", ""},
		"too many":         {strings.Repeat("a,", maxGlobs) + "a", ""},
		"empty":            {"", ""},
		"a mark alone":     {"a,!", ""},
		"an empty item":    {"a,,b", ""},
		"a reference":      {"$(POD_NAME)", ""},
		"a control":        {"a\x00b", ""},
		"a line's end":     {"a\nb", ""},
	} {
		t.Run(name, func(t *testing.T) {
			globs, err := ParseTagGlobs(test.text, "a test")
			if got := globs.String(); got != test.want || (err == nil) != (test.want != "") {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestGlobs(t *testing.T) {
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
		{"!vault,!*-sidecar-proxy", "web", true},
		{"!vault,!*-sidecar-proxy", "Vault", false},
		{"!vault,!*-sidecar-proxy", "web-sidecar-proxy", false},
		{"shop-*,!shop-admin", "shop-web", true},
		{"shop-*,!shop-admin", "shop-admin", false},
		{"!shop-admin,shop-*", "shop-admin", false},
		{"shop-*,!shop-admin", "web", false},
		{"*,!web", "web", false},
		{"!*", "web", false},
		{"!urlprefix-*", "urlprefix-example.com/a/b", false},
		{"!urlprefix-*", "\t urlprefix-:80 ", false},
		{"!urlprefix-*", "a urlprefix-", true},
		{"!urlprefix-*", "urlprefix", true},
		{"!TRAEFIK.*", "traefik.enable=true", false},
		{"a/?/b", "a/é/b", true},
		{"a/?/b", "a//b", false},
		{`a\,*`, "a,b", true},
		{"é", "É", true},
		{"[a-z]", "a", false},
		{`\*`, `\a`, true},
		{"*", "", true},
	} {
		globs, err := ParseTagGlobs(test.globs, "a test")
		if err != nil {
			t.Fatal(err)
		}
		if got := globs.Refusal(test.name) == ""; got != test.want {
			t.Errorf("%s allows %q: %t", test.globs, test.name, got)
		}
	}
}

func TestGlobsThatAllowEverything(t *testing.T) {
	for text, want := range map[string]bool{"*": true, "a,*": true, "**": false, "a": false, "!a": false, "*,!a": false} {
		if globs, err := ParseServiceGlobs(text, "a test"); err != nil || globs.All() != want {
			t.Errorf("%s: %t, %v", text, globs.All(), err)
		}
	}
	if none := (Globs{}); !none.All() || none.Refusal("web") != "" || none.String() != "" {
		t.Error("no globs allow everything")
	}
}

func TestRefusalNamesTheGlobs(t *testing.T) {
	long := strings.Repeat(strings.Repeat("a", 60)+",", 20) + "b"
	for name, test := range map[string]struct{ globs, text, want string }{
		"none matches":     {"shop-*,!shop-admin,mail", "pay", "pods of this namespace may register only shop-*,mail (a test)"},
		"a denied one":     {"shop-*,!shop-admin", "shop-admin", "pods of this namespace may not register shop-admin (a test)"},
		"one that is long": {long, "pay", "pods of this namespace may register only " + long[:200] + "… (a test)"},
	} {
		t.Run(name, func(t *testing.T) {
			globs, err := ParseServiceGlobs(test.globs, "a test")
			if err != nil {
				t.Fatal(err)
			}
			if got := globs.Refusal(test.text); got != test.want {
				t.Errorf("got  %s\nwant %s", got, test.want)
			}
		})
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
			reg, errs := Parse(pod, nil)
			if len(errs) > 0 {
				t.Fatal(errs)
			}
			globs, err := ParseServiceGlobs("shop-*,mail", "of a test")
			if err != nil {
				t.Fatal(err)
			}
			got, tags := (&Allowed{Services: globs}).NotAllowed(pod, reg)
			if len(got) != len(test.want) || len(tags) > 0 {
				t.Fatalf("got %v, and %v", got, tags)
			}
			for i, err := range got {
				if text := err.Error(); !strings.Contains(text, test.want[i]) || !strings.HasSuffix(text, "may register only shop-*,mail (of a test)") {
					t.Errorf("got %s", text)
				}
			}
		})
	}
}

// TestProxyFollowsItsService: what keeps pods from posing as another service's mesh proxy doesn't keep them from their own.
func TestProxyFollowsItsService(t *testing.T) {
	globs, err := ParseServiceGlobs("!*-sidecar-proxy", "of a test")
	if err != nil {
		t.Fatal(err)
	}
	for yaml, want := range map[string]int{"[{name: web, connect: {sidecar_service: {}}}]": 0, "[{name: pay-sidecar-proxy}]": 1} {
		pod := newPod(annotations{"services": yaml})
		reg, _ := mustParse(t, pod, nil)
		if got, _ := (&Allowed{Services: globs}).NotAllowed(pod, reg); len(got) != want {
			t.Errorf("%s: %v", yaml, got)
		}
	}
}

// TestTagsNotAllowed holds that a tag is found wherever a pod may ask for it, and is said to be there.
func TestTagsNotAllowed(t *testing.T) {
	for name, test := range map[string]struct {
		annotations annotations
		defaults    Defaults
		want        []string
	}{
		"all allowed": {annotations{"service-names": "web", "service-tags": "v1,blue"}, nil, nil},
		"no tags":     {annotations{"service-names": "web"}, nil, nil},
		"flat": {
			annotations{"service-names": "web,api", "service-tags": "v1,urlprefix-/a", "service-tags.api": "urlprefix-/b"},
			nil,
			[]string{`[agentlet.dev/service-tags]: Forbidden: tag "urlprefix-/a": pods`, `[agentlet.dev/service-tags.api]: Forbidden: tag "urlprefix-/b": pods`},
		},
		"once for all services": {annotations{"service-names": "web,api", "service-tags": "urlprefix-/"}, nil, []string{"service-tags]"}},
		"the installation's": {
			annotations{"service-names": "web"},
			Defaults{"service-tags": "urlprefix-/"},
			[]string{`service-tags]: Forbidden: tag "urlprefix-/" (this value is the installation's default): pods`},
		},
		"the installation's, which the pod replaces": {annotations{"service-names": "web", "service-tags": ""}, Defaults{"service-tags": "urlprefix-/"}, nil},
		"a label's": {
			annotations{"service-names": "web", "tags-from-labels": "app,route"},
			nil,
			[]string{`tags-from-labels]: Forbidden: tag "URLprefix-label" (the value of label route): pods`},
		},
		"a label's, by the installation": {
			annotations{"service-names": "web"},
			Defaults{"tags-from-labels": "route"},
			[]string{`tags-from-labels]: Forbidden: tag "URLprefix-label" (the value of label route): pods`},
		},
		"structured": {
			annotations{"services": "- {name: web, tags: [v1, v1, urlprefix-/]}\n- {name: api, tags: [' urlprefix-/b']}"},
			nil,
			[]string{`services][0].tags[2]: Forbidden: tag "urlprefix-/": pods`, `services][1].tags[0]: Forbidden: tag " urlprefix-/b": pods`},
		},
		"a mesh proxy's": {
			annotations{"services": "- {name: web, connect: {sidecar_service: {tags: [urlprefix-/]}}}"},
			nil,
			[]string{`services][0].connect.sidecar_service.tags[0]: Forbidden: tag "urlprefix-/": pods`},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.annotations)
			pod.Labels["route"] = "URLprefix-label"
			reg, _ := mustParse(t, pod, test.defaults)
			globs, err := ParseTagGlobs("!urlprefix-*", "of a test")
			if err != nil {
				t.Fatal(err)
			}
			services, got := (&Allowed{Tags: globs}).NotAllowed(pod, reg)
			if len(got) != len(test.want) || len(services) > 0 {
				t.Fatalf("got %v, and %v", got, services)
			}
			for i, err := range got {
				if text := err.Error(); !strings.Contains(text, test.want[i]) || !strings.HasSuffix(text, "may not register urlprefix-* (of a test)") {
					t.Errorf("got %s", text)
				}
			}
		})
	}
}

func TestTagsNotAllowedAreSaidUpToABound(t *testing.T) {
	var tags []string
	for i := range maxItems {
		tags = append(tags, "t"+strconv.Itoa(i))
	}
	pod := newPod(annotations{"service-names": "web", "service-tags": strings.Join(tags, ",")})
	reg, _ := mustParse(t, pod, nil)
	globs, err := ParseTagGlobs("v*", "of a test")
	if err != nil {
		t.Fatal(err)
	}
	if _, got := (&Allowed{Tags: globs}).NotAllowed(pod, reg); len(got) != maxErrors+1 {
		t.Errorf("%d errors", len(got))
	}
}

// TestTagsWithThePodsNamesAreReviewedWhenTheyAreKnown: before the pod has its names nobody can tell whether its tags are allowed.
func TestTagsWithThePodsNamesAreReviewedWhenTheyAreKnown(t *testing.T) {
	globs, err := ParseTagGlobs("v*,web-*,!*prod*", "test")
	if err != nil {
		t.Fatal(err)
	}
	allowed := Allowed{Tags: globs}
	for name, c := range map[string]struct {
		pod, node string
		denied    bool
	}{
		"at admission":           {"", "", false},
		"an allowed name":        {"web-0", "node-1", false},
		"a denied one":           {"db-0", "node-1", true},
		"a denied name of nodes": {"web-0", "prod-1", true},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(annotations{"service-names": "web", "service-tags": "${POD_NAME},v-${NODE_NAME}"})
			pod.Name, pod.Spec.NodeName = c.pod, c.node
			reg, errs := Parse(pod, nil)
			if len(errs) > 0 {
				t.Fatal(errs.ToAggregate())
			}
			if _, tags := allowed.NotAllowed(pod, reg); (len(tags) > 0) != c.denied {
				t.Errorf("denied: %v, want %t", tags, c.denied)
			}
		})
	}
}
