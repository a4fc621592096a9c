package registration

import (
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestHasControl(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want bool
	}{
		"nothing":           {"", false},
		"a text":            {"Liveness of \"web\", 5 % — é 漢字 🚀", false},
		"an escape":         {"a\x1b[2J", true},
		"a line break":      {"a\nb", true},
		"a carriage return": {"a\rb", true},
		"a tab":             {"a\tb", true},
		"NUL":               {"a\x00", true},
		"DEL":               {"a\x7f", true},
		"C1":                {"a\u009b2J", true},
		"next line":         {"a\u0085b", true},
		"a line's end":      {"a\u2028b", true},
		"a paragraph's end": {"a\u2029b", true},
		"right to left":     {"a\u202eb", true},
		"an isolate":        {"a\u2066b\u2069", true},
		"a mark":            {"a\u200fb", true},
		"no width":          {"we\u200bb", true},
		"a byte order mark": {"\ufeffweb", true},
	} {
		if got := HasControl(test.text); got != test.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// TestNothingRegisteredHoldsControlCharacters holds that no text of the contract's can hold one, wherever it stands. Consul
// takes them all, and whatever shows them obeys them.
func TestNothingRegisteredHoldsControlCharacters(t *testing.T) {
	structured := func(text string) map[string]string {
		return map[string]string{contract.Services: "[{name: web, port: 80, " + text + "}]"}
	}
	check := func(text string) map[string]string {
		return structured("checks: [{http: /, interval: 1s, " + text + "}]")
	}
	flat := func(key, value string) map[string]string {
		return map[string]string{contract.ServiceNames: "web", contract.ServicePort: "80", key: value}
	}
	at := func(path string) string { return "metadata.annotations[" + contract.Services + "][0]." + path }
	for name, test := range map[string]struct {
		annotations, labels map[string]string
		field               string // of the error; empty: there is none
	}{
		"a check's name":      {annotations: check(`name: "ok\nforged"`), field: at("checks[0].name")},
		"a check's path":      {annotations: structured(`checks: [{http: "/\u202e", interval: 1s}]`), field: at("checks[0].http")},
		"a check's query":     {annotations: structured(`checks: [{http: "http://:80/?a=\x85", interval: 1s}]`), field: at("checks[0].http")},
		"a gRPC service":      {annotations: structured(`checks: [{grpc: ":1/\e", interval: 1s}]`), field: at("checks[0].grpc")},
		"a header":            {annotations: check(`header: {A: ["\e[2J"]}`), field: at("checks[0].header[A][0]")},
		"a header's name":     {annotations: check(`header: {"A\e": [b]}`), field: at("checks[0].header")},
		"a body":              {annotations: check(`body: "\e[2J"`), field: at("checks[0].body")},
		"a body of lines":     {annotations: check(`body: "{\n\t\"a\": 1\r\n}\n"`)},
		"a method":            {annotations: check(`method: "GET\n"`), field: at("checks[0].method")},
		"a check's key":       {annotations: check(`"na\u200bme": x`), field: at("checks[0]")},
		"a tag":               {annotations: structured(`tags: [a, "b\u2028"]`), field: at("tags[1]")},
		"a meta value":        {annotations: structured(`meta: {a: "b\x7f"}`), field: at("meta[a]")},
		"a meta key":          {annotations: structured(`meta: {"a\e": b}`), field: at("meta")},
		"a name":              {annotations: map[string]string{contract.Services: `[{name: "we\u200bb", port: 80}]`}, field: at("name")},
		"a key":               {annotations: structured(`"\e[2J": 1`), field: strings.TrimSuffix(at(""), ".")},
		"a tagged address":    {annotations: structured(`tagged_addresses: {"a\n": {}}`), field: at("tagged_addresses")},
		"a namespace":         {annotations: structured(`namespace: "a\n"`), field: at("namespace")},
		"a proxy's tag":       {annotations: structured(`connect: {sidecar_service: {tags: ["\a"]}}`), field: at("connect.sidecar_service.tags[0]")},
		"a proxy's check":     {annotations: structured(`connect: {sidecar_service: {checks: [{name: "\a", tcp: ":1", interval: 1s}]}}`), field: at("connect.sidecar_service.checks[0].name")},
		"an upstream":         {annotations: structured(`connect: {sidecar_service: {proxy: {upstreams: [{destination_name: a, local_bind_port: 9, datacenter: "\b"}]}}}`), field: at("connect.sidecar_service.proxy.upstreams[0].datacenter")},
		"flat tags":           {annotations: flat(contract.ServiceTags, "a,b\u202e"), field: "metadata.annotations[" + contract.ServiceTags + "]"},
		"flat meta":           {annotations: flat(contract.ServiceMeta, "a:b\x1b"), field: "metadata.annotations[" + contract.ServiceMeta + "]"},
		"excluded containers": {annotations: flat(contract.ContainerExclude, "a\x1b"), field: "metadata.annotations[" + contract.ContainerExclude + "]"},
		"a label of a tag":    {annotations: flat(contract.TagsFromLabels, "version"), labels: map[string]string{"version": "1\n2"}, field: "metadata.annotations[" + contract.TagsFromLabels + "]"},
		"a label of meta":     {annotations: flat(contract.MetaFromLabels, "version"), labels: map[string]string{"version": "1\x1b"}, field: "metadata.annotations[" + contract.MetaFromLabels + "]"},
		"another label":       {annotations: flat(contract.MetaFromLabels, "version"), labels: map[string]string{"other": "1\x1b"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Annotations: maps.Clone(test.annotations), Labels: test.labels}}
			_, errs := Parse(pod, nil)
			switch {
			case test.field == "" && len(errs) > 0:
				t.Errorf("refused: %v", errs)
			case test.field != "" && (len(errs) == 0 || errs[0].Field != test.field):
				t.Errorf("want an error at %s, got %v", test.field, errs)
			}
			for _, err := range errs {
				if HasControl(err.Error()) {
					t.Errorf("the error %q is more than a line of text", err.Error())
				}
			}
		})
	}
}
