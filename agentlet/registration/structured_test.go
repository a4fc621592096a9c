package registration

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestStructured(t *testing.T) {
	for name, test := range map[string]struct {
		yaml string
		want []Service
	}{
		"least":        {"- name: web", []Service{{Name: "web", Port: 8080}}},
		"JSON":         {`[{"name":"web","port":"metrics"}]`, []Service{{Name: "web", Port: 9090}}},
		"one document": {"---\n- name: web\n...\n", []Service{{Name: "web", Port: 8080}}},
		"null is absent": {
			"- {name: web, port: , tags: ~, meta: null, checks: , weights: , address: }",
			[]Service{{Name: "web", Port: 8080}},
		},
		"all of it": {
			`
- name: web
  port: 30080
  tags: [v1, edge, v1]
  meta: {team: core}
  weights: {passing: 10, warning: 0}
  address: ${HOST_IP}
  tagged_addresses:
    lan: {address: "${POD_IP}", port: metrics}
    wan: {address: "${HOST_IP}"}
  enable_tag_override: true
  namespace: shop
  partition: eu
- name: ` + strings.Repeat("long", 15) + `
  port: 1
`,
			[]Service{
				{
					Name: "web", Port: 30080, Tags: []string{"v1", "edge"}, Meta: map[string]string{"team": "core"},
					Weights: &Weights{Passing: 10}, Address: HostIP, EnableTagOverride: true, Namespace: "shop", Partition: "eu",
					TaggedAddresses: map[string]TaggedAddress{"lan": {PodIP, 9090}, "wan": {HostIP, 30080}},
				},
				{Name: strings.Repeat("long", 15), Port: 1},
			},
		},
		"scalars as they are written": {
			"- {name: 007, tags: [1.10, yes, true, 0x1F, 2020-01-01, 1e3], meta: {build: 0123, on: off}, weights: {warning: 2}}",
			[]Service{{
				Name: "007", Port: 8080, Tags: []string{"1.10", "yes", "true", "0x1F", "2020-01-01", "1e3"},
				Meta: map[string]string{"build": "0123", "on": "off"}, Weights: &Weights{Passing: 1, Warning: 2},
			}},
		},
		"checks": {
			`
- name: web
  checks:
  - {http: /health, interval: 10s}
  - {http: "https://${POD_IP}:8443/x?y=z", interval: 1s, timeout: 1s, tls_skip_verify: true, method: POST, body: ping, header: {X-A: [b, c]}}
  - {name: cache, tcp: ":6379", interval: 1m, status: passing, success_before_passing: 1, failures_before_warning: 1, failures_before_critical: 3}
  - {grpc: "${POD_IP}:9090/pkg.Service", interval: 5s, grpc_use_tls: true}
  - {http: "http://[${POD_IP}]:80", interval: 5s}
  - {http: "https://:metrics/", interval: 5s}
  - {udp: ":5353", interval: 5s, status: passing}
  - {h2ping: ":http", interval: 5s, tls_skip_verify: true, tls_server_name: web.example.com}
  - {h2ping: "${POD_IP}:http", interval: 5s, h2ping_use_tls: false}
`,
			[]Service{{Name: "web", Port: 8080, Checks: []Check{
				{HTTP: "http://:8080/health", Interval: 10 * time.Second},
				{
					HTTP: "https://:8443/x?y=z", Interval: time.Second, Timeout: time.Second, TLSSkipVerify: true,
					Method: "POST", Body: "ping", Header: map[string][]string{"X-A": {"b", "c"}},
				},
				{
					Name: "cache", TCP: ":6379", Interval: time.Minute, Status: contract.Passing,
					SuccessBeforePassing: 1, FailuresBeforeWarning: 1, FailuresBeforeCritical: 3,
				},
				{GRPC: ":9090/pkg.Service", GRPCUseTLS: true, Interval: 5 * time.Second},
				{HTTP: "http://:80", Interval: 5 * time.Second},
				{HTTP: "https://:9090/", Interval: 5 * time.Second},
				{UDP: ":5353", Interval: 5 * time.Second, Status: contract.Passing},
				{H2PING: ":8080", H2PingUseTLS: true, TLSSkipVerify: true, TLSServerName: "web.example.com", Interval: 5 * time.Second},
				{H2PING: ":8080", Interval: 5 * time.Second},
			}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg, warnings := mustParse(t, newPod(annotations{"services": test.yaml}), Defaults{"service-tags": "flat only"})
			if diff := cmp.Diff(test.want, reg.Services); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
			wantWarnings(t, warnings)
		})
	}
}

func TestStructuredErrors(t *testing.T) {
	for name, test := range map[string]struct {
		yaml string
		want []string
	}{
		"syntax":        {"- name: [", []string{"services]: Invalid value: \"- name: [\": must be a YAML list of Consul service definitions: yaml: line 1"}},
		"documents":     {"- name: a\n---\n- name: b", []string{"more than one YAML document"}},
		"no list":       {"name: a", []string{`services]: Invalid value: "a mapping": must be a YAML list of Consul service definitions`}},
		"empty list":    {"[]", []string{"names no service"}},
		"no mapping":    {"- web", []string{`services][0]: Invalid value: "web": must be a mapping`}},
		"no name":       {"- port: 1", []string{"services][0].name: Required value"}},
		"bad name":      {"- name: a/b", []string{`services][0].name: Invalid value: "a/b"`}},
		"Consul's own":  {"- name: CONSUL", []string{`services][0].name: Invalid value: "CONSUL": must be a service name: "CONSUL": it is the service of Consul's own servers`}},
		"its proxy":     {"- {name: consul, connect: {sidecar_service: {}}}", []string{"services][0].name"}},
		"twice":         {"[{name: a}, {name: A}]", []string{`services][1].name: Duplicate value: "A"`}},
		"unknown key":   {"- {name: a, tgas: [x]}", []string{`services][0].tgas: Invalid value: "a list": unknown key; did you mean "tags"?`}},
		"far key":       {"- {name: a, colour: red}", []string{"unknown key; known are address, checks,"}},
		"Consul's case": {"- {name: a, Port: 1}", []string{`did you mean "port"?`}},
		"key twice":     {"- {name: a, port: 1, port: 2}", []string{`services][0].port: Duplicate value: "2"`}},
		"meta twice":    {"- {name: a, meta: {k: 1, k: 2}}", []string{`meta[k]: Duplicate value: "2"`}},
		"mesh by hand":  {"- {name: a, kind: connect-proxy, proxy: {}}", []string{".kind: Forbidden: for the service mesh say connect.sidecar_service", ".proxy: Forbidden"}},
		"id and token":  {"- {name: a, id: x, token: y}", []string{".id: Forbidden", ".token: Forbidden"}},
		"ports":         {"[{name: a, port: 0}, {name: b, port: 65536}, {name: c, port: nope}, {name: d, port: [1]}]", []string{"[0].port", "[1].port", `[2].port: Invalid value: "nope": must be a port number (1-65535), the name of a declared container port, or none: no container declares`, `[3].port: Invalid value: "a list"`}},
		"tags":          {"- {name: a, tags: [a, '', ~, [b], {c: d}]}", []string{"tags[1]", "tags[2]", "tags[3]", "tags[4]"}},
		"tags no list":  {"- {name: a, tags: 'a,b'}", []string{`tags: Invalid value: "a,b": must be a list of tags`}},
		"meta":          {"- {name: a, meta: {a.b: c, k8s-pod: x, l: [1], n: ~}}", []string{"meta[a.b]", "meta[k8s-pod]", "meta[l]", "meta[n]"}},
		"weights":       {"- {name: a, weights: {passing: 0, warning: 65536, critical: 1}}", []string{`weights.passing: Invalid value: "0": must be a number (1-65535)`, "weights.warning", "weights.critical: Invalid value"}},
		"address":       {"- {name: a, address: 10.0.0.1}", []string{`address: Invalid value: "10.0.0.1": must be ${POD_IP}, ${HOST_IP} or empty`}},
		"tagged":        {"- {name: a, tagged_addresses: {lan: {address: x, port: y z}, 'a b': {}, wan: 1}}", []string{"tagged_addresses[lan].address", "tagged_addresses[lan].port", "tagged_addresses[a b]", "tagged_addresses[wan]"}},
		"boolean":       {"- {name: a, enable_tag_override: yes}", []string{`enable_tag_override: Invalid value: "yes": must be true or false`}},
		"tenancy":       {"- {name: a, namespace: a/b, partition: [x]}", []string{".namespace", ".partition"}},
		"alias":         {"- &a {name: a}\n- *a", []string{`services][1]: Invalid value: "*a": YAML aliases are not supported`}},
		"merge":         {"- {name: a, <<: {port: 1}}", []string{`services][0].<<: Invalid value`}},
		"aliased key":   {"- {name: a, meta: {? &k x : y, ? *k : z}}", []string{"YAML aliases are not supported"}},
		"list as key":   {"- {name: a, ? [b] : c}", []string{"a key must be a word"}},
		"all at once":   {"- {name: a/b, port: 0}\n- {nam: b, checks: [{http: 'http://x:1/', interval: 0s}]}", []string{"[0].name", "[0].port", "[1].nam:", "[1].checks[0].http", "[1].checks[0].interval", "[1].name"}},
	} {
		t.Run(name, func(t *testing.T) { wantErrors(t, newPod(annotations{"services": test.yaml}), test.want...) })
	}
}

func TestChecksErrors(t *testing.T) {
	own := "a check goes to the pod's own IP"
	for check, want := range map[string][]string{
		"{}":                                     {"checks[0]: Required value: exactly one of http, tcp, udp, grpc and h2ping", "interval: Required"},
		"x":                                      {`checks[0]: Invalid value: "x": must be a mapping`},
		"{tcp: ':1'}":                            {"checks[0].interval: Required value: a duration such as 10s"},
		"{tcp: ':1', http: /, interval: 1s}":     {"exactly one of"},
		"{tcp: ':1', interval: 999ms}":           {"interval: Invalid value: \"999ms\": must be a duration such as 10s: it is less than 1s"},
		"{tcp: ':1', interval: 10}":              {"must be a duration such as 10s"},
		"{tcp: ':1', interval: 25h}":             {"it is more than 24h"},
		"{tcp: ':1', interval: 1s, timeout: 2s}": {"timeout: Invalid value: \"2s\": must not be more than interval (1s)"},
		"{tcp: ':1', interval: 1s, timeout: 0s}": {"timeout"},
		"{tcp: ':1', interval: 1s, success_before_passing: -1}":             {"success_before_passing: Invalid value: \"-1\": must be a number (0-1000)"},
		"{tcp: ':1', interval: 1s, failures_before_critical: 1001}":         {"failures_before_critical"},
		"{tcp: ':1', interval: 1s, failures_before_warning: 1}":             {"must not be more than failures_before_critical (0)"},
		"{tcp: ':1', interval: 1s, status: ok}":                             {"status: Invalid value: \"ok\": must be passing, warning or critical"},
		"{tcp: ':1', interval: 1s, method: GET, header: {}, body: x}":       {"method: Forbidden: goes with http only", "header", "body"},
		"{tcp: ':1', interval: 1s, grpc_use_tls: true}":                     {"grpc_use_tls: Forbidden"},
		"{tcp: ':1', interval: 1s, tls_skip_verify: true}":                  {"tls_skip_verify: Forbidden"},
		"{http: /, interval: 1s, method: get}":                              {"must be an HTTP method"},
		"{http: /, interval: 1s, header: {'a b': [c], d: e, f: [\"\\n\"]}}": {"header[a b]", "header[d]: Invalid value: \"e\": must be a list", "header[f][0]"},
		"{http: /, interval: 1s, notes: x, id: y}":                          {"notes: Forbidden", "id: Forbidden"},
		"{http: /, interval: 1s, deregister_critical_service_after: 1m}":    {"see agentlet.dev/deregister-after"},
		"{args: [sh], interval: 1s}":                                        {"args: Forbidden: it runs in the node's Consul agent, which may do more than whoever writes annotations; " + own},
		"{script: x, shell: y, docker_container_id: z, interval: 1s}":       {"script", "shell", "docker_container_id"},
		"{os_service: x, interval: 1s}":                                     {"os_service: Forbidden"},
		"{alias_node: x, alias_service: y}":                                 {"alias_node: Forbidden", "alias_service: Forbidden", "interval"},
		"{ttl: 10s}":                                                        {"ttl: Forbidden: nobody would send its heartbeats", "interval"},
		"{udp: ':1', interval: 1s, tls_skip_verify: true}":                  {"tls_skip_verify: Forbidden: goes with http, grpc and h2ping only"},
		"{tcp: ':1', interval: 1s, h2ping_use_tls: false}":                  {"h2ping_use_tls: Forbidden: goes with h2ping only"},
		"{tcp: ':1', interval: 1s, tls_server_name: web.example}":           {"tls_server_name: Forbidden: goes with http, grpc and h2ping only"},
		"{http: /, interval: 1s, tls_server_name: Web_}":                    {`tls_server_name: Invalid value: "Web_": must be a name in DNS, such as web.example.com`},
		"{h2ping: ':1', interval: 1s, h2ping_use_tls: yes}":                 {`h2ping_use_tls: Invalid value: "yes": must be true or false`},
		"{h2ping: ':1', udp: ':1', interval: 1s}":                           {"exactly one of"},
		"{h2ping: 'evil:1', interval: 1s}":                                  {`h2ping: Invalid value: "evil:1": must be a port with an empty host, such as ":6379" or ":http": a check goes to the pod's own IP`},
		"{udp: ':dns', interval: 1s}":                                       {`udp: Invalid value: ":dns": must be a port with an empty host, such as ":6379" or ":http": no container declares a port "dns"`},
		"{http: 'http://:nope/x', interval: 1s}":                            {`http: Invalid value: "http://:nope/x": must be "http://:8080/path", "https://:8443/path", or "/path" on the service's port: no container declares a port "nope"`},
	} {
		t.Run(check, func(t *testing.T) {
			wantErrors(t, newPod(annotations{"services": "- {name: web, checks: [" + check + "]}"}), want...)
		})
	}
}

// TestCheckTargets holds that a check can go nowhere but to the pod's own IP.
func TestCheckTargets(t *testing.T) {
	d := decoder{r: &reader{pod: newPod(nil)}, named: map[string]int{"metrics": 9191, "gRPC_x": 50051}}
	for _, test := range []struct {
		parse      func(decoder, string) (string, error)
		text, want string
		err        error
	}{
		{decoder.httpTarget, "/", "/", nil},
		{decoder.httpTarget, "/a?b=c", "/a?b=c", nil},
		{decoder.httpTarget, "//evil/x", "//evil/x", nil}, // a path: "http://:8080//evil/x"
		{decoder.httpTarget, "http://:8080/health", "http://:8080/health", nil},
		{decoder.httpTarget, "https://:65535", "https://:65535", nil},
		{decoder.httpTarget, "http://${POD_IP}:80/", "http://:80/", nil},
		{decoder.httpTarget, "http://localhost:80/", "", errHost},
		{decoder.httpTarget, "http://127.0.0.1:80/", "", errHost},
		{decoder.httpTarget, "http://[::1]:80/", "", errHost},
		{decoder.httpTarget, "http://169.254.169.254/latest", "", errHost},
		{decoder.httpTarget, "http://${POD_IP}.evil:80/", "", errHost},
		{decoder.httpTarget, "http://${HOST_IP}:80/", "", errForm},
		{decoder.httpTarget, "http://user:pass@:80/", "", errHost},
		{decoder.httpTarget, "http://${POD_IP}:80@evil/", "", errHost},
		{decoder.httpTarget, "http://:80@evil:80/", "", errHost},
		{decoder.httpTarget, `http://:80\@evil/`, "", errForm},
		{decoder.httpTarget, "http:///health", "", errForm},
		{decoder.httpTarget, "http://:0/", "", errForm},
		{decoder.httpTarget, "http://:65536/", "", errForm},
		{decoder.httpTarget, "http://:80/#x", "", errForm},
		{decoder.httpTarget, "unix:///var/run/docker.sock", "", errForm},
		{decoder.httpTarget, "health", "", errForm},
		{decoder.httpTarget, "", "", errForm},
		{decoder.httpTarget, "http://:80/\r\nHost: evil", "", errForm},
		{decoder.httpTarget, "http://:http/health", "http://:8080/health", nil},
		{decoder.httpTarget, "https://${POD_IP}:gRPC_x?a=:b", "https://:50051?a=:b", nil},
		{decoder.httpTarget, "http://evil:http/", "", errHost},
		{decoder.httpTarget, "http://user:http@:80/", "", errHost},
		{decoder.httpTarget, "http://:http@evil/", "", errHost},
		{decoder.portTarget, ":6379", ":6379", nil},
		{decoder.portTarget, "${POD_IP}:6379", ":6379", nil},
		{decoder.portTarget, "[${POD_IP}]:6379", ":6379", nil},
		{decoder.portTarget, "6379", "", errForm},
		{decoder.portTarget, ":0", "", errForm},
		{decoder.portTarget, ":http", ":8080", nil},
		{decoder.portTarget, "${POD_IP}:admin", ":9901", nil},
		{decoder.portTarget, ":metrics", ":9191", nil}, // the service's own before a container's
		{decoder.portTarget, ":gRPC_x", ":50051", nil},
		{decoder.portTarget, ":HTTP", "", errForm},
		{decoder.portTarget, "evil:http", "", errHost},
		{decoder.portTarget, "localhost:6379", "", errHost},
		{decoder.portTarget, "[::1]:6379", "", errHost},
		{decoder.portTarget, "", "", errForm},
		{decoder.grpcTarget, ":9090", ":9090", nil},
		{decoder.grpcTarget, ":9090/a.B/c", ":9090/a.B/c", nil},
		{decoder.grpcTarget, ":metrics/a.B", ":9191/a.B", nil},
		{decoder.grpcTarget, ":9090/", "", errForm},
		{decoder.grpcTarget, ":9090/a b", "", errForm},
		{decoder.grpcTarget, "evil:9090/a", "", errHost},
	} {
		got, err := test.parse(d, test.text)
		if got != test.want || err != test.err { //nolint:errorlint // the very error
			t.Errorf("%q: %q, %v; want %q, %v", test.text, got, err, test.want, test.err)
		}
	}
}

func TestBothForms(t *testing.T) {
	wantErrors(t, newPod(annotations{
		"services": "- name: a", "service-names": "a", "service-port.a": "1", "service-unknown": "x",
	}),
		"service-names]: Forbidden: not together with agentlet.dev/services", "service-port.a]: Forbidden", "service-unknown]: Forbidden")
}
