package registration

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

func TestNamedPorts(t *testing.T) {
	const second = 10 * time.Second
	for name, c := range map[string]struct {
		service  string
		want     Service
		warnings []string
	}{
		"one port that the pod declares, and one that it doesn't": {
			"{name: web, ports: [{name: http, port: 8080, default: true}, {name: admin, port: 9091}]}",
			Service{Name: "web", Port: 8080, Ports: []Port{{"http", 8080, true}, {"admin", 9091, false}}},
			nil,
		},
		"by the names of container ports, the default last": {
			"{name: web, ports: [{name: prom-x, port: metrics}, {name: web, port: http, default: true}]}",
			Service{Name: "web", Port: 8080, Ports: []Port{{"prom-x", 9090, false}, {"web", 8080, true}}},
			nil,
		},
		"null is no port": {
			"{name: web, port: ~, ports: [{name: http, port: http, default: true}]}",
			Service{Name: "web", Port: 8080, Ports: []Port{{"http", 8080, true}}},
			nil,
		},
		"a name for which DNS isn't asked": {
			"{name: web, ports: [{name: h_2, port: 1, default: true}]}",
			Service{Name: "web", Port: 1, Ports: []Port{{"h_2", 1, true}}},
			[]string{`port "h_2": it may not be found by DNS; use lower case letters`},
		},
		"a name that DNS makes lower case": {
			"{name: web, ports: [{name: Web, port: 1, default: true}]}",
			Service{Name: "web", Port: 1, Ports: []Port{{"Web", 1, true}}},
			[]string{`port "Web": it may not be found by DNS`},
		},
		"checks by the names, also before them": {
			"{name: web, checks: [{http: 'http://:adm/x', interval: 10s}, {http: /, interval: 10s}, {h2ping: ':metrics', interval: 10s}], " +
				"ports: [{name: adm, port: 9091}, {name: metrics, port: 9092}, {name: web, port: http, default: true}]}",
			Service{
				Name: "web", Port: 8080, Ports: []Port{{"adm", 9091, false}, {"metrics", 9092, false}, {"web", 8080, true}},
				Checks: []Check{
					{HTTP: "http://:9091/x", Interval: second},
					{HTTP: "http://:8080/", Interval: second},
					{H2PING: ":9092", H2PingUseTLS: true, Interval: second},
				},
			},
			nil,
		},
		"at the node's address, where checks go to the pod": {
			"{name: web, address: '${HOST_IP}', checks: [{tcp: ':web', interval: 10s}, {tcp: ':node', interval: 10s}, {http: /, interval: 10s}], " +
				"ports: [{name: web, port: http, default: true}, {name: node, port: 30000}], tagged_addresses: {lan: {}}}",
			Service{
				Name: "web", Port: 18080, Address: HostIP, Ports: []Port{{"web", 18080, true}, {"node", 30000, false}},
				TaggedAddresses: map[string]TaggedAddress{"lan": {"", 8080}},
				Checks: []Check{
					{TCP: ":8080", Interval: second}, {TCP: ":30000", Interval: second}, {HTTP: "http://:8080/", Interval: second},
				},
			},
			nil,
		},
		"a hostPort by its number": {
			"{name: web, address: '${HOST_IP}', checks: [{tcp: ':web', interval: 10s}, {http: /, interval: 10s}], ports: [{name: web, port: 18080, default: true}]}",
			Service{
				Name: "web", Port: 18080, Address: HostIP, Ports: []Port{{"web", 18080, true}},
				Checks: []Check{{TCP: ":8080", Interval: second}, {HTTP: "http://:8080/", Interval: second}},
			},
			nil,
		},
		"a container's number at the node's address": {
			"{name: web, address: '${HOST_IP}', ports: [{name: web, port: http, default: true}, {name: m, port: 9090}]}",
			Service{Name: "web", Port: 18080, Address: HostIP, Ports: []Port{{"web", 18080, true}, {"m", 9090, false}}},
			[]string{"${HOST_IP}:9090 is registered, and 9090 is a container's port"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg, warnings := mustParse(t, hostPorts(c.service), nil)
			if diff := cmp.Diff([]Service{c.want}, reg.Services); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
			wantWarnings(t, warnings, c.warnings...)
			if len(reg.DefaultPort) > 0 {
				t.Errorf("the pod's first port was taken for %q", reg.DefaultPort)
			}
		})
	}
}

func TestNamedPortsErrors(t *testing.T) {
	const notOne = "one of the ports needs default: true"
	for name, c := range map[string]struct {
		service string
		want    []string
	}{
		"no list":          {"{name: a, ports: 8080}", []string{`ports: Invalid value: "8080": must be a list of ports`}},
		"empty":            {"{name: a, ports: []}", []string{"ports: Required value: " + notOne}},
		"no mapping":       {"{name: a, ports: [8080]}", []string{`ports[0]: Invalid value: "8080": must be a mapping`, notOne}},
		"no default":       {"{name: a, ports: [{name: x, port: 1}, {name: y, port: 2, default: false}]}", []string{notOne}},
		"two defaults":     {"{name: a, ports: [{name: x, port: 1, default: true}, {name: y, port: 2, default: true}]}", []string{"ports[1].default: Forbidden: another port is the default already"}},
		"nothing in one":   {"{name: a, ports: [{default: true}]}", []string{"ports[0].name: Required", "ports[0].port: Required"}},
		"a name twice":     {"{name: a, ports: [{name: x, port: 1, default: true}, {name: X, port: 2}]}", []string{`ports[1].name: Duplicate value: "X"`}},
		"names":            {"{name: a, ports: [{name: a.b, port: 1, default: true}, {name: '80', port: 2}, {name: '', port: 3}, {name: -a, port: 4}, {name: " + strings.Repeat("x", 64) + ", port: 5}]}", []string{`ports[0].name: Invalid value: "a.b": must be a name of at most 63 letters`, `[1].name: Invalid value: "80"`, "[2].name", "[3].name", "[4].name"}},
		"numbers":          {"{name: a, ports: [{name: x, port: 0, default: true}, {name: y, port: 65536}, {name: z, port: nope}, {name: w, port: none}]}", []string{`ports[0].port: Invalid value: "0": must be a port number (1-65535) or the name`, "[1].port", `no container declares a port "nope"`, `no container declares a port "none"`}},
		"no boolean":       {"{name: a, ports: [{name: x, port: 1, default: yes}]}", []string{`ports[0].default: Invalid value: "yes": must be true or false`, notOne}},
		"unknown key":      {"{name: a, ports: [{name: x, port: 1, dflt: true}]}", []string{"ports[0].dflt: Invalid value: \"true\": unknown key; known are default, name, port", notOne}},
		"an aliased key":   {"{name: &ports a, ? *ports : [1, 2], address: '${HOST_IP}', ports: [{name: x, port: http, default: true}]}", []string{"a key must be a word", "ports: Duplicate value"}},
		"beside a port":    {"{name: a, port: http, ports: [{name: x, port: 1, default: true}]}", []string{"port: Forbidden: not together with ports"}},
		"beside no port":   {"{name: a, port: none, ports: [{name: x, port: 1, default: true}], checks: [{http: /, interval: 1s}]}", []string{"port: Forbidden: not together with ports"}},
		"in the mesh":      {"{name: a, ports: [{name: x, port: 1, default: true}], checks: [{http: /, interval: 1s}], connect: {sidecar_service: {}}}", []string{"connect: Forbidden: not together with ports: Consul's mesh knows one port"}},
		"native":           {"{name: a, ports: [{name: x, port: 1, default: true}], connect: {native: true}}", []string{"connect: Forbidden: not together with ports"}},
		"without hostPort": {"{name: a, address: '${HOST_IP}', ports: [{name: x, port: http, default: true}, {name: y, port: metrics}]}", []string{`ports[1].port: Invalid value: "metrics": must be a port number (1-65535) or the name of a declared container port: this container port has no hostPort`}},
		"too many":         {"{name: a, ports: [" + strings.Repeat("{name: x, port: 1},", 33) + "]}", []string{"ports: Too many: 33: must have at most 32 items"}},
		"a check's own":    {"{name: a, ports: [{name: x, port: 1, default: true}], checks: [{tcp: ':y', interval: 1s}]}", []string{`checks[0].tcp: Invalid value: ":y": must be a port with an empty host, such as ":6379" or ":http": no container declares a port "y"`}},
		"told once":        {"{name: a, ports: [{name: x, port: nope, default: true}], checks: [{tcp: ':x', interval: 1s}]}", []string{"ports[0].port: Invalid"}},
	} {
		t.Run(name, func(t *testing.T) { wantErrors(t, hostPorts(c.service), c.want...) })
	}
}

// TestNoPort: a service without a port gets none by default either.
func TestNoPort(t *testing.T) {
	worker := Service{Name: "worker"}
	named := func(pod *corev1.Pod) *corev1.Pod {
		pod.Spec.Containers[0].Ports[0].Name = "none"
		return pod
	}
	for name, c := range map[string]struct {
		pod      *corev1.Pod
		defaults Defaults
		want     []Service
		warnings []string
	}{
		"flat":                {newPod(annotations{"service-names": "worker", "service-port": " none"}), nil, []Service{worker}, nil},
		"of one service":      {newPod(annotations{"service-names": "web,worker", "service-port.worker": "none"}), nil, []Service{{Name: "web", Port: 8080}, worker}, nil},
		"an installation's":   {newPod(annotations{"service-names": "worker"}), Defaults{"service-port": "none"}, []Service{worker}, nil},
		"structured":          {newPod(annotations{"services": "[{name: worker, port: none}]"}), nil, []Service{worker}, nil},
		"at the node's":       {newPod(annotations{"services": "[{name: worker, port: none, address: '${HOST_IP}'}]"}), nil, []Service{{Name: "worker", Address: HostIP}}, nil},
		"with addresses":      {newPod(annotations{"services": "[{name: worker, port: none, tagged_addresses: {a: {}, b: {address: '${HOST_IP}'}, c: {port: http}}}]"}), nil, []Service{{Name: "worker", TaggedAddresses: map[string]TaggedAddress{"a": {}, "b": {HostIP, 0}, "c": {"", 8080}}}}, nil},
		"with a port's check": {newPod(annotations{"services": "[{name: worker, port: none, checks: [{tcp: ':metrics', interval: 1s}]}]"}), nil, []Service{{Name: "worker", Checks: []Check{{TCP: ":9090", Interval: time.Second}}}}, nil},
		"a port is called so": {named(newPod(annotations{"service-names": "web,worker", "service-port.web": "8080", "service-port.worker": "none"})), nil, []Service{{Name: "web", Port: 8080}, worker}, []string{`service "worker" has no port: the port none is none, and not that of container port 8080`}},
	} {
		t.Run(name, func(t *testing.T) {
			reg, warnings := mustParse(t, c.pod, c.defaults)
			if diff := cmp.Diff(c.want, reg.Services); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
			wantWarnings(t, warnings, c.warnings...)
		})
	}
	for service, want := range map[string][]string{
		"{name: a, port: none, checks: [{tcp: ':1', interval: 1s}, {http: /x, interval: 1s}]}": {`checks[1].http: Invalid value: "/x": must be "http://:8080/path" or "https://:8443/path": the service has no port`},
		"{name: a, port: none, connect: {sidecar_service: {}}}":                                {"connect: Forbidden: not with port none: Consul's mesh goes to a service's port"},
		"{name: a, port: none, connect: {sidecar_service: {proxy: {local_service_port: 1}}}}":  {"connect: Forbidden: not with port none"},
		"{name: a, port: none, connect: {native: true}, checks: [{http: /, interval: 1s}]}":    {"connect: Forbidden: not with port none", "checks[0].http"},
		"{name: a, port: None}": {`port: Invalid value: "None": must be a port number (1-65535), the name of a declared container port, or none`},
		"{name: a, port: 0}":    {`port: Invalid value: "0": must be a port number (1-65535), the name of a declared container port, or none`},
		"{name: a, connect: {sidecar_service: {port: none, proxy: {upstreams: [{destination_name: b, local_bind_port: none}]}}}}": {`sidecar_service.port: Invalid value: "none": must be a port number (1-65535) or the name`, "local_bind_port"},
	} {
		t.Run(service, func(t *testing.T) { wantErrors(t, newPod(annotations{"services": "[" + service + "]"}), want...) })
	}
	wantErrors(t, newPod(annotations{"service-names": "/", "service-port": "none", "service-port.a": "nope"}), "service-names", "service-port.a")
}

// TestWarningOfAUDPCheck: what Consul makes of one whose application doesn't answer isn't what its author expects.
func TestWarningOfAUDPCheck(t *testing.T) {
	for status, want := range map[string][]string{
		"":                   {"udp: the check stays critical until the application answers an empty datagram"},
		", status: critical": {"udp: the check stays critical"},
		", status: passing":  nil,
	} {
		_, warnings := mustParse(t, newPod(annotations{"services": "[{name: a, checks: [{tcp: ':1', interval: 1s}, {udp: ':1', interval: 1s" + status + "}]}]"}), nil)
		wantWarnings(t, warnings, want...)
		if len(warnings) > 0 && warnings[0].Field != "metadata.annotations[agentlet.dev/services][0].checks[1].udp" {
			t.Errorf("it is about %s", warnings[0].Field)
		}
	}
}
