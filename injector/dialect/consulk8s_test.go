package dialect

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestFromConsulK8s(t *testing.T) {
	type service = registration.Service
	for name, test := range map[string]struct {
		pod  annotations
		want service
	}{
		"name":                {annotations{consulName: " web "}, service{Name: "web", Port: 8080}},
		"the longest":         {annotations{consulName: strings.Repeat("a", 63)}, service{Name: strings.Repeat("a", 63), Port: 8080}},
		"sync":                {annotations{consulSync: "T"}, service{Name: "web", Port: 8080}},
		"port":                {annotations{consulPort: "65535"}, service{Name: "web", Port: 65535}},
		"port in hexadecimal": {annotations{consulPort: "0x50"}, service{Name: "web", Port: 80}},
		"port by name":        {annotations{consulPort: "admin"}, service{Name: "web", Port: 9090}},
		"empty port":          {annotations{consulPort: ""}, service{Name: "web", Port: 8080}},
		"tags":                {annotations{consulTags: `a, b c,,x\,y,`}, service{Name: "web", Port: 8080, Tags: []string{"a", "b c", "x,y"}}},
		"a tag twice":         {annotations{consulTags: "a,b, a"}, service{Name: "web", Port: 8080, Tags: []string{"a", "b"}}},
		"tags in numbers":     {annotations{consulTags: "1.10,true"}, service{Name: "web", Port: 8080, Tags: []string{"1.10", "true"}}},
		"no tags":             {annotations{consulTags: " , "}, service{Name: "web", Port: 8080}},
		"weight 1":            {annotations{consulWeight: "1"}, service{Name: "web", Port: 8080, Weights: &registration.Weights{Passing: 1, Warning: 1}}},
		"weight 65535":        {annotations{consulWeight: " 65535 "}, service{Name: "web", Port: 8080, Weights: &registration.Weights{Passing: 65535, Warning: 1}}},
		"empty weight":        {annotations{consulWeight: ""}, service{Name: "web", Port: 8080}},
		"meta":                {annotations{consulMeta + "a": `<b>: "c", \`, consulMeta + "d": "1"}, service{Name: "web", Port: 8080, Meta: map[string]string{"a": `<b>: "c", \`, "d": "1"}}},
		"pod name":            {annotations{consulTags: "v1,$POD_NAME", consulMeta + "pod": "$POD_NAME"}, service{Name: "web", Port: 8080, Tags: []string{"v1", "${POD_NAME}"}, Meta: map[string]string{"pod": "${POD_NAME}"}}},
		"a part of a tag":     {annotations{consulTags: "pod-$POD_NAME"}, service{Name: "web", Port: 8080, Tags: []string{"pod-$POD_NAME"}}},
		"others' keys":        {annotations{consulPrefix + "service-metrics-port": "x", consulPrefix + "transparent-proxy": "x"}, service{Name: "web", Port: 8080}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, there := test.pod[consulName]; !there {
				test.pod[consulName] = "web"
			}
			got := services(t, test.pod.pod(), ConsulK8s).Services
			if len(got[0].Meta) == 0 {
				got[0].Meta = nil
			}
			if diff := cmp.Diff([]service{test.want}, got); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
		})
	}
}

func TestErrorsOfConsulK8s(t *testing.T) {
	for name, test := range map[string]struct {
		pod  annotations
		want []string
	}{
		"no name":        {annotations{consulSync: "true"}, []string{consulName + ": Required value: a service needs a name"}},
		"empty name":     {annotations{consulName: " "}, []string{consulName + ": Required value"}},
		"bad name":       {annotations{consulName: "a/b"}, []string{consulName + `: Invalid value: "a/b": must be a service name`}},
		"a long name":    {annotations{consulName: strings.Repeat("a", 64)}, []string{consulName + ": a service name has at most 63 characters"}},
		"the longest":    {annotations{consulName: strings.Repeat("a", 255)}, []string{consulName + ": a service name has at most 63 characters"}},
		"port":           {annotations{consulName: "web", consulPort: "65536"}, []string{consulPort + `: Invalid value: "65536": must be a port number`}},
		"negative port":  {annotations{consulName: "web", consulPort: "-1"}, []string{consulPort + `: Invalid value: "-1"`}},
		"port by name":   {annotations{consulName: "web", consulPort: "gone"}, []string{consulPort + `: no container declares a port "gone"`}},
		"weight 0":       {annotations{consulName: "web", consulWeight: "0"}, []string{consulWeight + `: Invalid value: "0": must be a number (1-65535)`}},
		"weight 65536":   {annotations{consulName: "web", consulWeight: "65536"}, []string{consulWeight + `: Invalid value: "65536"`}},
		"no weight":      {annotations{consulName: "web", consulWeight: "heavy"}, []string{consulWeight + `: Invalid value: "heavy"`}},
		"meta key":       {annotations{consulName: "web", consulMeta + "a.b": "c"}, []string{consulMeta + `a.b: Invalid value: "c"`}},
		"reserved meta":  {annotations{consulName: "web", consulMeta + "managed-by": "c"}, []string{consulMeta + "managed-by: is set by agentlet"}},
		"meta value":     {annotations{consulName: "web", consulMeta + "a": strings.Repeat("x", 513)}, []string{consulMeta + "a: has 513 characters, Consul takes 512"}},
		"tag":            {annotations{consulName: "web", consulTags: "a,b\x01"}, []string{consulTags + ": holds a control character"}},
		"sync":           {annotations{consulName: "web", consulSync: "yes"}, []string{consulSync + `: Invalid value: "yes": must be true or false`}},
		"ours beside it": {annotations{consulName: "web", contract.ServiceTags: "a"}, []string{contract.ServiceTags + ": Forbidden: not together with " + consulName}},
		"all at once":    {annotations{consulName: "-", consulPort: "0", consulWeight: "x", consulSync: "?"}, []string{consulSync, consulName, consulPort, consulWeight}},
	} {
		t.Run(name, func(t *testing.T) {
			wantErrors(t, errorsOf(test.pod.pod(), ConsulK8s), test.want...)
		})
	}
	undeclared := annotations{consulName: "web"}.pod()
	undeclared.Spec.Containers[0].Ports = nil
	wantErrors(t, errorsOf(undeclared, ConsulK8s), consulPort+": Required value")
	many := annotations{consulName: "web"}
	for i := range 60 {
		many[consulMeta+strings.Repeat("a", i+1)] = ""
	}
	wantErrors(t, errorsOf(many.pod(), ConsulK8s), consulMeta+"KEY: Too many: 60")
}

func TestWarningsOfConsulK8s(t *testing.T) {
	translation, _ := read(annotations{consulName: "web", consulTags: "a,k8s"}.pod(), ConsulK8s)
	wantWarnings(t, translation.Warnings, `deregisters what has the tag "k8s"`)
}

func TestSplitTags(t *testing.T) {
	for text, want := range map[string][]string{
		"": nil, ",": nil, "a": {"a"}, "a,b": {"a", "b"}, `a\,b`: {"a,b"}, `a\,b\,c,d`: {"a,b,c", "d"}, `a\,`: {"a,"}, `a\`: {`a\`}, `\,`: {","}, "a , b": {"a", "b"},
	} {
		if got := splitTags(text); !slices.Equal(got, want) {
			t.Errorf("splitTags(%q) = %q, want %q", text, got, want)
		}
	}
}
