package docs

import (
	"reflect"
	"strings"
	"testing"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestRules(t *testing.T) {
	keys := map[string]contract.Key{}
	for _, key := range contract.Keys() {
		keys[key.Name] = key
	}
	for name, test := range map[string]struct {
		key  contract.Key
		want rule
		err  string
	}{
		"a duration": {
			key:  keys[contract.HeartbeatTTL],
			want: rule{Kind: "duration", Default: "30s", Least: "3s", Most: "24h"},
		},
		"a duration, or a word": {
			key: keys[contract.GateTimeout],
			want: rule{
				Kind: "duration", Default: "never", Words: []string{"never"}, Least: "0s", Most: "24h",
				Zero: "zero could mean never or at once; say never, or agentlet.dev/gate: off for a pod that doesn't wait",
			},
		},
		"a quantity":          {key: keys[contract.MemoryLimit], want: rule{Kind: "quantity", Default: "64Mi", Least: "8Mi"}},
		"a port":              {key: keys[contract.AgentletPort], want: rule{Kind: "port", Default: "19500", Ports: []string{"1024", "65535"}}},
		"a port, or its name": {key: keys[contract.ServicePort], want: rule{Kind: "port", Ports: []string{"1", "65535"}, Names: true}},
		"tags":                {key: keys[contract.ServiceTags], want: rule{Kind: "tags"}},
		"labels":              {key: keys[contract.TagsFromLabels], want: rule{Kind: "labels"}},
		"meta":                {key: keys[contract.ServiceMeta], want: rule{Kind: "meta", Reserved: contract.MetaKeys()}},
		"meta of labels":      {key: keys[contract.MetaFromLabels], want: rule{Kind: "metaLabels", Reserved: contract.MetaKeys()}},
		"words":               {key: keys[contract.GatePolicy], want: rule{Kind: "words", Default: "once", Words: []string{"once", "continuous"}}},
		"a form that nobody knows": {
			key: contract.Key{Name: contract.LogLevel, Form: "A WORD"}, err: `log-level: the chart can't check a value of the form "A WORD"`,
		},
		"a word that isn't one": {
			key: contract.Key{Name: contract.LogLevel, Form: "loud or info"}, err: `log-level: "loud" is a word of its form, and refused`,
		},
		"a duration without bounds": {
			key: contract.Key{Name: contract.LogLevel, Form: "a duration"}, err: "log-level: the bounds are not known",
		},
		"a quantity without a bound": {
			key: contract.Key{Name: contract.LogLevel, Form: "a quantity"}, err: "log-level: the bound is not known",
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ruleFor(test.key)
			if (err == nil) != (test.err == "") || err != nil && !strings.Contains(err.Error(), test.err) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			test.want.Form = test.key.Form
			if err == nil && !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
