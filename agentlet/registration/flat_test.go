package registration

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestFlat(t *testing.T) {
	for name, test := range map[string]struct {
		annotations annotations
		defaults    Defaults
		want        []Service
	}{
		"first declared port": {
			annotations: annotations{"service-names": "web"},
			want:        []Service{{Name: "web", Port: 8080}},
		},
		"number": {
			annotations: annotations{"service-names": "web", "service-port": " 65535 "},
			want:        []Service{{Name: "web", Port: 65535}},
		},
		"declared name": {
			annotations: annotations{"service-names": "web", "service-port": "metrics"},
			want:        []Service{{Name: "web", Port: 9090}},
		},
		"a native sidecar's port": {
			annotations: annotations{"service-names": "web", "service-port": "admin"},
			want:        []Service{{Name: "web", Port: 9901}},
		},
		"own value before the common one": {
			annotations: annotations{
				"service-names": "web, web-metrics", "service-port.web-metrics": "metrics",
				"service-tags": "v1,edge", "service-tags.web": "", "service-meta": "team:core", "service-meta.web": "team:edge",
				"service-health.web-metrics": "warning",
			},
			want: []Service{
				{Name: "web", Port: 8080, Meta: map[string]string{"team": "edge"}},
				{
					Name: "web-metrics", Port: 9090, Tags: []string{"v1", "edge"}, Meta: map[string]string{"team": "core"},
					Health: contract.Warning,
				},
			},
		},
		"defaults": {
			annotations: annotations{"service-names": "a,b", "service-tags.b": "own"},
			defaults:    Defaults{"service-tags": "k8s", "service-port": "metrics"},
			want:        []Service{{Name: "a", Port: 9090, Tags: []string{"k8s"}}, {Name: "b", Port: 9090, Tags: []string{"own"}}},
		},
		"commas and backslashes": {
			annotations: annotations{
				"service-names": "web", "service-tags": `rule=Path(\d),a\,b,a\,b,last`,
				"service-meta": `url:http://x:1/,list:a\,b,empty:`,
			},
			want: []Service{{
				Name: "web", Port: 8080, Tags: []string{`rule=Path(\d)`, "a,b", "last"},
				Meta: map[string]string{"url": "http://x:1/", "list": "a,b", "empty": ""},
			}},
		},
		"a name of 63 characters": {
			annotations: annotations{"service-names": strings.Repeat("a", 63)},
			want:        []Service{{Name: strings.Repeat("a", 63), Port: 8080}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg, warnings := mustParse(t, newPod(test.annotations), test.defaults)
			if diff := cmp.Diff(test.want, reg.Services); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
			wantWarnings(t, warnings)
		})
	}
}

func TestFlatErrors(t *testing.T) {
	many := make([]string, 57)
	for i := range many {
		many[i] = strings.Repeat("k", i+1) + ":v"
	}
	for name, test := range map[string]struct {
		annotations annotations
		want        []string
	}{
		"no name":         {annotations{"service-names": " "}, []string{`service-names]: Invalid value: " ": must be comma-separated service names: it names no service`}},
		"an empty name":   {annotations{"service-names": "a,,b"}, []string{"one of the items is empty"}},
		"bad names":       {annotations{"service-names": "-a,b/c,_,ok"}, []string{`"-a": a service name consists of`, `"b/c"`, `"_"`}},
		"Consul's own":    {annotations{"service-names": "web,Consul"}, []string{`service-names]: Invalid value: "web,Consul": must be comma-separated service names: "Consul": it is the service of Consul's own servers`}},
		"a name too long": {annotations{"service-names": strings.Repeat("a", 64)}, []string{"at most 63 characters"}},
		"twice":           {annotations{"service-names": "web,Web"}, []string{`service-names]: Duplicate value: "Web"`}},
		"port 0":          {annotations{"service-names": "a", "service-port": "0"}, []string{`service-port]: Invalid value: "0": must be a port number (1-65535)`}},
		"port 65536":      {annotations{"service-names": "a", "service-port": "65536"}, []string{`"65536"`}},
		"port octal":      {annotations{"service-names": "a", "service-port": "080"}, []string{`"080"`}},
		"port negative":   {annotations{"service-names": "a", "service-port": "-80"}, []string{`"-80"`}},
		"port unknown":    {annotations{"service-names": "a", "service-port.a": "htpp"}, []string{`service-port.a]: Invalid value: "htpp": must be a port number (1-65535), the name of a declared container port, or none: no container declares a port "htpp"`}},
		"port of one that ends": {
			annotations{"service-names": "a,b", "service-port.a": "gone", "service-port.b": "agentlet"},
			[]string{`port "gone"`, `port "agentlet"`},
		},
		"a common error once":       {annotations{"service-names": "a,b,c", "service-port": "x y"}, []string{`"x y"`}},
		"tags":                      {annotations{"service-names": "a", "service-tags": "x,,y"}, []string{"service-tags]: Invalid value"}},
		"health":                    {annotations{"service-names": "a", "service-health": "ok"}, []string{`service-health]: Invalid value: "ok": must be passing, warning or critical`}},
		"meta without colon":        {annotations{"service-names": "a", "service-meta": "x"}, []string{`"x" has no colon`}},
		"meta key":                  {annotations{"service-names": "a", "service-meta": "a.b:c"}, []string{`"a.b": a meta key consists of`}},
		"meta key too long":         {annotations{"service-names": "a", "service-meta": strings.Repeat("k", 129) + ":c"}, []string{"has 129 characters, Consul takes 128"}},
		"meta value too long":       {annotations{"service-names": "a", "service-meta": "k:" + strings.Repeat("v", 513)}, []string{"has 513 characters, Consul takes 512"}},
		"meta twice":                {annotations{"service-names": "a", "service-meta": "k:1,k:2"}, []string{`"k" is there twice`}},
		"meta of Consul":            {annotations{"service-names": "a", "service-meta": "consul-x:1"}, []string{"Consul keeps keys"}},
		"meta of an older agentlet": {annotations{"service-names": "a", "service-meta": contract.MetaNudge + ":-1"}, []string{`"agentlet-nudge" is set by agentlet`}},
		"meta of agentlet":          {annotations{"service-names": "a", "service-meta": contract.MetaPod + ":1"}, []string{`"k8s-pod" is set by agentlet`}},
		"meta too many":             {annotations{"service-names": "a", "service-meta": strings.Join(many, ",")}, []string{"a service may have 56 pairs"}},
		"a comma too many, and two more": {
			annotations{"service-names": "web,", "service-port": "70000", "service-tags": "a,,b"},
			[]string{"service-names]", "service-port]", "service-tags]"},
		},
		"a bad name, and its own values": {
			annotations{"service-names": "web,we/b", "service-port.we/b": "gone", "service-port.web": "http", "service-health": "ok", "service-meta.web": "x"},
			[]string{"service-meta.web]", "service-health]", "service-names]", `service-port.we/b]: Invalid value: "gone"`},
		},
		"all at once": {
			annotations{"service-names": "a,b", "service-port.a": "0", "service-tags.b": ",", "gate": "open", "heartbeat-ttl": "1s"},
			[]string{"heartbeat-ttl]", "gate]", "service-port.a]", "service-tags.b]"},
		},
	} {
		t.Run(name, func(t *testing.T) { wantErrors(t, newPod(test.annotations), test.want...) })
	}
}

func TestNoDeclaredPort(t *testing.T) {
	pod := newPod(annotations{"service-names": "a,b"})
	pod.Spec.Containers[0].Ports = nil
	if reg, _ := mustParse(t, pod, nil); reg.Services[0].Port != 9901 {
		t.Errorf("port %d, want the native sidecar's", reg.Services[0].Port)
	}
	pod.Spec.InitContainers[2].Ports = nil
	wantErrors(t, pod, "service-port]: Required value: must be a port number (1-65535), the name of a declared container port, or none: no container declares a port")
}

func TestNotWanted(t *testing.T) {
	pod := newPod(nil)
	if Wanted(pod) {
		t.Error("wanted without annotations")
	}
	wantErrors(t, pod, "service-names]: Required value: or agentlet.dev/services")
}

func TestFromLabels(t *testing.T) {
	pod := newPod(annotations{
		"service-names": "db", "service-tags": "primary,v1", "service-meta": "role:unknown,zone:none",
		"tags-from-labels": "role,app.kubernetes.io/version,absent,empty,same",
		"meta-from-labels": "role,zone=topology.kubernetes.io/zone,app.kubernetes.io/part.of,empty",
	})
	labels := map[string]string{
		"role": "primary", "app.kubernetes.io/version": "2.0", "empty": "", "same": "2.0",
		"topology.kubernetes.io/zone": "eu-1", "app.kubernetes.io/part.of": "shop",
	}
	pod.Labels = labels
	reg, _ := mustParse(t, pod, nil)
	want := []Service{{
		Name: "db", Port: 8080, Tags: []string{"primary", "v1", "2.0"},
		Meta: map[string]string{"role": "primary", "zone": "eu-1", "part_of": "shop"},
	}}
	if diff := cmp.Diff(want, reg.Services); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
	}

	labels["role"] = "replica"
	delete(labels, "topology.kubernetes.io/zone")
	reg, _ = mustParse(t, pod, nil)
	want[0].Tags = []string{"primary", "v1", "replica", "2.0"}
	want[0].Meta = map[string]string{"role": "replica", "zone": "none", "part_of": "shop"}
	if diff := cmp.Diff(want, reg.Services); diff != "" {
		t.Errorf("services of the relabelled pod (-want +got):\n%s", diff)
	}
}

func TestFromLabelsErrors(t *testing.T) {
	for name, test := range map[string]struct{ key, value, want string }{
		"no label":        {"tags-from-labels", "a b", `tags-from-labels]: Invalid value: "a b": must be comma-separated pod label keys: "a b" is no label key`},
		"empty label":     {"tags-from-labels", "a,,b", "one of the items is empty"},
		"no meta label":   {"meta-from-labels", "x=", "is no label key"},
		"no meta key":     {"meta-from-labels", "=role", "a meta key consists of"},
		"bad meta key":    {"meta-from-labels", "a.b=role", `"a.b": a meta key`},
		"reserved":        {"meta-from-labels", "k8s-pod=role", "is set by agentlet"},
		"the same twice":  {"meta-from-labels", "role,x/role", `"role" is there twice; name it as in key=label`},
		"more than fit":   {"meta-from-labels", strings.TrimPrefix(numbered(57), ","), "a service may have 56 pairs"},
		"a label key too": {"meta-from-labels", "k=" + strings.Repeat("x", 64), "is no label key"},
	} {
		t.Run(name, func(t *testing.T) {
			wantErrors(t, newPod(annotations{"service-names": "a", test.key: test.value}), test.want)
		})
	}
}

// numbered is a list of n different labels.
func numbered(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(",l" + strings.Repeat("x", i))
	}
	return b.String()
}

// TestKeysWithoutADot holds that another system's form of KEY.NAME is no unknown key: the service would get what is for all.
func TestKeysWithoutADot(t *testing.T) {
	for name, c := range map[string]struct {
		annotations annotations
		errs        []string
		warnings    []string
	}{
		"port":        {annotations{"service-names": "web,admin", "service-port-admin": "9090"}, []string{"service-port-admin]: Forbidden: is not known to agentlet; did you mean agentlet.dev/service-port.admin?"}, nil},
		"all keys":    {annotations{"service-names": "web", "service-tags-web": "a", "service-meta-web": "a:b", "service-health-web": "passing", "service-port-web": "1"}, []string{"service-health.web?", "service-meta.web?", "service-port.web?", "service-tags.web?"}, nil},
		"a low bar":   {annotations{"service-names": "web", "service-port_web": "1"}, []string{"did you mean agentlet.dev/service-port.web?"}, nil},
		"a case":      {annotations{"service-names": "Admin", "service-port-admin": "1"}, []string{"did you mean agentlet.dev/service-port.Admin?"}, nil},
		"dashes":      {annotations{"service-names": "web-v-2", "service-port-web-v-2": "1"}, []string{"did you mean agentlet.dev/service-port.web-v-2?"}, nil},
		"no service":  {annotations{"service-names": "web", "service-port-other": "1"}, nil, []string{"service-port-other is not known"}},
		"no such key": {annotations{"service-names": "web", "service-names-web": "1"}, nil, []string{"service-names-web is not known"}},
		"structured":  {annotations{"services": "[{name: web}]", "service-port-web": "1"}, []string{"service-port-web]: Forbidden: not together with"}, []string{"service-port-web is not known"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(c.annotations)
			if len(c.errs) > 0 {
				wantErrors(t, pod, c.errs...)
			}
			_, warnings, errs := Lint(pod, nil, nil)
			wantWarnings(t, warnings, c.warnings...)
			if _, alone := Parse(pod, nil); len(alone) != len(errs) {
				t.Errorf("a running pod has %v, at admission %v", alone, errs)
			}
		})
	}
}
