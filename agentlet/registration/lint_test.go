package registration

import (
	"strings"
	"testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestLint(t *testing.T) {
	const annotation = "metadata.annotations[agentlet.dev/"
	for name, test := range map[string]struct {
		annotations annotations
		grace       *int64
		want        []Warning // with parts of the messages
	}{
		"stray name": {
			annotations: annotations{"service-names": "web,api", "service-port.wbe": "1", "service-tags.zzzzzz": "x"},
			want: []Warning{
				{annotation + "service-port.wbe]", `agentlet.dev/service-port.wbe has no effect: agentlet.dev/service-names names no service "wbe"; did you mean "web"?`},
				{annotation + "service-tags.zzzzzz]", `no service "zzzzzz"`},
			},
		},
		"DNS": {
			annotations: annotations{"service-names": "a_b,a.b,A-b"},
			want: []Warning{
				{annotation + "service-names]", `service "a_b": with '_' it may not be found by DNS`},
				{annotation + "service-names]", `'.'`},
			},
		},
		"DNS, structured": {
			annotations: annotations{"services": "[{name: ab}, {name: a_b}]"},
			want:        []Warning{{annotation + "services][1].name", `service "a_b"`}},
		},
		"exclude": {
			annotations: annotations{"service-names": "a", "container-exclude": "app,nobody,agentlet"},
			want: []Warning{
				{annotation + "container-exclude]", `the pod has no container "nobody"`},
				{annotation + "container-exclude]", `"agentlet" never counts`},
			},
		},
		"all excluded": {
			annotations: annotations{"service-names": "a", "container-exclude": "app,proxy"},
			want:        []Warning{{annotation + "container-exclude]", "no container is left, so the pod counts as ready from its start on"}},
		},
		"the agentlet's port": {
			annotations: annotations{"service-names": "a,b", "service-port": "19500", "service-port.b": "80"},
			want:        []Warning{{annotation + "service-names]", `service "a": port 19500 is the agentlet's own`}},
		},
		"the agentlet's port, named": {
			annotations: annotations{"services": "[{name: a, ports: [{name: x, port: 80, default: true}, {name: y, port: 19600}]}]", "agentlet-port": "19600"},
			want:        []Warning{{annotation + "services][0].name", `service "a": port 19600 is the agentlet's own`}},
		},
		"drain beyond grace": {
			annotations: annotations{"service-names": "a", "drain-delay": "15s", "drain-timeout": "6s"},
			want:        []Warning{{annotation + "drain-delay]", "ask for 21s together, but terminationGracePeriodSeconds 30 leaves them 20s"}},
		},
		"drain timeout beyond grace": {
			annotations: annotations{"service-names": "a", "drain-timeout": "16s"},
			want:        []Warning{{annotation + "drain-timeout]", "ask for 21s together"}},
		},
		"grace too short to drain": {
			annotations: annotations{"service-names": "a", "heartbeat-ttl": "3s"},
			grace:       new(int64(6)),
			want:        []Warning{{"spec.terminationGracePeriodSeconds", "ask for 15s together, but terminationGracePeriodSeconds 6 leaves them 4s"}},
		},
		"grace shorter than the heartbeat": {
			annotations: annotations{"service-names": "a", "drain-delay": "0s", "drain-timeout": "5s"},
			grace:       new(int64(20)),
			want:        []Warning{{"spec.terminationGracePeriodSeconds", "agentlet.dev/heartbeat-ttl 30s is longer"}},
		},
		"heartbeat longer than grace": {
			annotations: annotations{"service-names": "a", "heartbeat-ttl": "40s"},
			want:        []Warning{{annotation + "heartbeat-ttl]", "agentlet.dev/heartbeat-ttl 40s is longer"}},
		},
		"unknown, first": {
			annotations: annotations{"service-names": "a_b", "colour": "red"},
			want:        []Warning{{annotation + "colour]", "is not known"}, {annotation + "service-names]", "a_b"}},
		},
		"drain within grace": {annotations: annotations{"service-names": "a", "drain-delay": "15s", "drain-timeout": "5s"}},
		"nothing of its own": {annotations: annotations{"service-names": "a"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.annotations)
			pod.Spec.TerminationGracePeriodSeconds = test.grace
			_, warnings := mustParse(t, pod, Defaults{"container-exclude": "only-of-some", "drain-timeout": "10s"})
			var messages []string
			for _, w := range test.want {
				messages = append(messages, w.Message)
			}
			wantWarnings(t, warnings, messages...)
			for i, w := range test.want {
				if warnings[i].Field != w.Field {
					t.Errorf("warning %q is about %s, want %s", warnings[i], warnings[i].Field, w.Field)
				}
			}
		})
	}
}

// TestLintWithErrors holds that there are warnings beside errors, and about names that are wrong, too.
func TestLintWithErrors(t *testing.T) {
	pod := newPod(annotations{"service-names": "web,consul", "service-port.consul": "1", "colour": "red", "gate": "x"})
	reg, warnings, errs := Lint(pod, nil, nil)
	if reg == nil || len(errs) != 2 {
		t.Errorf("%v, %v", reg, errs)
	}
	wantWarnings(t, warnings, "colour is not known")
}

// TestOrigins holds that messages say the keys and forms of the system from which annotations were translated.
func TestOrigins(t *testing.T) {
	origins := Origins{
		contract.ServiceNames: {Key: "old/names"}, contract.HeartbeatTTL: {Key: "old/ttl"}, contract.ContainerExclude: {Key: "old/exclude"},
		contract.ServiceTags: {Key: "old/tags", Form: "tags with spaces"}, contract.Services: {Key: "old/service"},
	}
	for name, test := range map[string]struct {
		annotations annotations
		want        []string // errors and warnings, by a part of their messages
	}{
		"a form":         {annotations{"service-names": "web", "service-tags": "a,"}, []string{"must be tags with spaces: one of the items is empty"}},
		"of one service": {annotations{"service-names": "web", "service-tags.web": "a,"}, []string{`must be comma-separated tags, \, for a comma: `}},
		"a stray name":   {annotations{"service-names": "web", "service-port.x": "1"}, []string{`agentlet.dev/service-port.x has no effect: old/names names no service "x"`}},
		"excluded":       {annotations{"service-names": "web", "container-exclude": "x"}, []string{`old/exclude: the pod has no container "x"`}},
		"reaped":         {annotations{"service-names": "web", "heartbeat-ttl": "2m", "deregister-after": "1m"}, []string{"must not be less than old/ttl (2m)", "old/ttl 2m is longer than"}},
		"both forms":     {annotations{"services": "[{name: web}]", "service-port": "1"}, []string{"not together with old/service, which"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, warnings, errs := Lint(newPod(test.annotations), nil, origins)
			var messages []string
			for _, err := range errs {
				messages = append(messages, err.Error())
			}
			for _, w := range warnings {
				messages = append(messages, w.Message)
			}
			if len(messages) != len(test.want) {
				t.Fatalf("%q, want %q", messages, test.want)
			}
			for i, part := range test.want {
				if !strings.Contains(messages[i], part) {
					t.Errorf("%s\nwithout %q", messages[i], part)
				}
			}
		})
	}
}

// TestParseSeeksNoHint holds that the agentlet, which nobody asks, compares no words.
func TestParseSeeksNoHint(t *testing.T) {
	_, errs := Parse(newPod(annotations{"services": "[{name: web, prot: 80}]"}), nil)
	if len(errs) != 1 || !strings.Contains(errs[0].Detail, "unknown key; known are address, checks,") {
		t.Errorf("errors %v", errs.ToAggregate())
	}
	_, _, errs = Lint(newPod(annotations{"services": "[{name: web, prot: 80}]"}), nil, nil)
	if len(errs) != 1 || errs[0].Detail != `unknown key; did you mean "port"?` {
		t.Errorf("errors %v", errs.ToAggregate())
	}
}

func TestUnclosed(t *testing.T) {
	for text, want := range map[string]rune{
		"": 0, "v1": 0, "it's": 0, "rule=Host(`a`)": 0, "a=(b[c]{d})": 0, `say="x, y"`: 0, "a) b": 0, "`(`": 0,
		"rule=Host(`a`": '(', "rule=Host(`a": '(', "`a": '`', `"a`: '"', "'a": '\'', "[a": '[', "{a:{b}": '{', "(a]": '(',
	} {
		if got := unclosed(text); got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}

// A tag that a comma has cut is told once, whatever number of services have it; a list of YAML has no such commas.
func TestTagsThatACommaCuts(t *testing.T) {
	const rule = "v1,rule=Host(`a`, `b`)"
	_, warnings := mustParse(t, newPod(annotations{"service-names": "a,b", "service-tags": rule}), nil)
	wantWarnings(t, warnings, "tag \"rule=Host(`a`\" opens ( and does not close it; a comma in a tag is written \\,")
	_, warnings = mustParse(t, newPod(annotations{"service-names": "a", "service-tags": strings.ReplaceAll(rule, ", ", `\,`)}), nil)
	wantWarnings(t, warnings)
	_, warnings = mustParse(t, newPod(annotations{"services": `[{name: a, tags: ["(", b]}]`}), nil)
	wantWarnings(t, warnings)
}
