package registration

import (
	"slices"
	"testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestUnknownKeys(t *testing.T) {
	for name, test := range map[string]struct {
		annotations, labels annotations
		want                []string
	}{
		"none":          {annotations: annotations{"gate": "off", "service-port.web": "http"}},
		"a slip":        {annotations: annotations{"drain-dealy": "5s"}, want: []string{"annotation agentlet.dev/drain-dealy is not known to agentlet; did you mean agentlet.dev/drain-delay?"}},
		"plural":        {annotations: annotations{"service-name": "a"}, want: []string{"did you mean agentlet.dev/service-names?"}},
		"per service":   {annotations: annotations{"service-prot.web": "1"}, want: []string{"did you mean agentlet.dev/service-port.web?"}},
		"not per":       {annotations: annotations{"gate.web": "off"}, want: []string{"annotation agentlet.dev/gate.web is not known to agentlet"}},
		"far from all":  {annotations: annotations{"colour": "red"}, want: []string{"annotation agentlet.dev/colour is not known to agentlet"}},
		"the namespace": {annotations: annotations{"allowed-services": "*"}, want: []string{"has no effect: it is a namespace annotation"}},
		"a label":       {labels: annotations{"service-names": "a"}, want: []string{"label agentlet.dev/service-names has no effect: agentlet reads it from the annotations"}},
		"a label's slip": {
			labels: annotations{"inejct": "false", "inject": "false"},
			want:   []string{"label agentlet.dev/inejct is not known to agentlet; did you mean agentlet.dev/inject?"},
		},
		"no answer": {
			annotations: annotations{"inject": "maybe", "service-names": "web"}, labels: annotations{"inject": "enabled"},
			want: []string{`annotation agentlet.dev/inject: "maybe" has no effect; only "false" opts a pod out`},
		},
		"a no in other words": {annotations: annotations{"inject": "Off"}, labels: annotations{"inject": "disabled"}},
		"a yes alone": {
			annotations: annotations{"inject": "true"},
			want:        []string{`annotation agentlet.dev/inject: "true" registers nothing: annotation agentlet.dev/service-names is missing`},
		},
		"a yes with names": {annotations: annotations{"inject": "true", "service-names": "web"}},
		"sorted":           {annotations: annotations{"b": "", "a": "", "c": ""}, want: []string{"/a ", "/b ", "/c "}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(test.annotations)
			for key, value := range test.labels {
				pod.Labels[contract.Prefix+key] = value
			}
			wantWarnings(t, UnknownKeys(pod), test.want...)
		})
	}
}

func TestDistance(t *testing.T) {
	for _, test := range []struct {
		a, b string
		want int
	}{
		{"", "", 0},
		{"", "abc", 3},
		{"abc", "abc", 0},
		{"abc", "acb", 1},
		{"abc", "ab", 1},
		{"abc", "axc", 1},
		{"kitten", "sitting", 3},
		{"ca", "abc", 3},
	} {
		for _, pair := range [][]string{{test.a, test.b}, {test.b, test.a}} {
			if got := distance(pair[0], pair[1]); got != test.want {
				t.Errorf("distance(%q, %q) = %d, want %d", pair[0], pair[1], got, test.want)
			}
		}
	}
	if got := nearest("", slices.Values([]string{"a"})); got != "" {
		t.Errorf("nearest to nothing: %q", got)
	}
}
