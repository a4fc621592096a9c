package registration

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestConnect(t *testing.T) {
	check := func(port string) []Check {
		return []Check{{Name: "proxy listens", TCP: ":" + port, Interval: time.Second}}
	}
	for name, test := range map[string]struct {
		yaml string
		want Service
	}{
		"native": {"{native: true}", Service{Native: true}},
		"native is off": {
			"{native: false, sidecar_service: {}}",
			Service{Sidecar: &Sidecar{
				Port: contract.ProxyPort, Checks: check("20000"),
				Proxy: Proxy{LocalServiceAddress: "127.0.0.1", LocalServicePort: 8080},
			}},
		},
		"all of it": {
			`
    sidecar_service:
        port: 21000
        tags: [mesh]
        meta: {team: core}
        checks: [{http: /ready, interval: 5s}, {tcp: ":21000", interval: 2s}]
        proxy:
          local_service_address: ::1
          local_service_port: metrics
          config: {protocol: http, local_connect_timeout_ms: 500, local_request_timeout_ms: 0, local_idle_timeout_ms: 1, max_inbound_connections: 9}
          upstreams:
          - {destination_name: db, local_bind_port: 9191}
          - destination_type: prepared_query
            destination_name: db
            destination_namespace: data
            destination_partition: eu
            datacenter: dc2
            local_bind_address: 127.0.0.2
            local_bind_port: 9192
            config: {protocol: tcp, connect_timeout_ms: 1000}
          - {destination_name: db, destination_peer: east, local_bind_port: 9193}
`,
			Service{Sidecar: &Sidecar{
				Port: 21000, Tags: []string{"mesh"}, Meta: map[string]string{"team": "core"},
				Checks: []Check{{HTTP: "http://:21000/ready", Interval: 5 * time.Second}, {TCP: ":21000", Interval: 2 * time.Second}},
				Proxy: Proxy{
					LocalServiceAddress: "::1", LocalServicePort: 9090,
					Config: map[string]any{
						"protocol": "http", "local_connect_timeout_ms": 500, "local_request_timeout_ms": 0, "local_idle_timeout_ms": 1,
						"max_inbound_connections": 9,
					},
					Upstreams: []Upstream{
						{DestinationType: "service", DestinationName: "db", LocalBindAddress: "127.0.0.1", LocalBindPort: 9191},
						{
							DestinationType: "prepared_query", DestinationName: "db", DestinationNamespace: "data", DestinationPartition: "eu",
							Datacenter: "dc2", LocalBindAddress: "127.0.0.2", LocalBindPort: 9192,
							Config: map[string]any{"protocol": "tcp", "connect_timeout_ms": 1000},
						},
						{
							DestinationType: "service", DestinationName: "db", DestinationPeer: "east",
							LocalBindAddress: "127.0.0.1", LocalBindPort: 9193,
						},
					},
				},
			}},
		},
		"no checks": {"{sidecar_service: {checks: []}}", Service{Sidecar: &Sidecar{
			Port: contract.ProxyPort, Checks: []Check{}, Proxy: Proxy{LocalServiceAddress: "127.0.0.1", LocalServicePort: 8080},
		}}},
	} {
		t.Run(name, func(t *testing.T) {
			inject := "false"
			if test.want.Sidecar != nil {
				inject = "true"
			}
			reg, warnings := mustParse(t, newPod(annotations{
				"services": "- name: web\n  connect: " + test.yaml, "connect-inject": inject,
			}), nil)
			test.want.Name, test.want.Port = "web", 8080
			if diff := cmp.Diff([]Service{test.want}, reg.Services); diff != "" {
				t.Errorf("services (-want +got):\n%s", diff)
			}
			wantWarnings(t, warnings)
		})
	}
}

func TestConnectErrors(t *testing.T) {
	sidecar := func(yaml string) string { return "[{name: web, connect: {sidecar_service: " + yaml + "}}]" }
	proxy := func(yaml string) string { return sidecar("{proxy: " + yaml + "}") }
	upstream := func(yaml string) string { return proxy("{upstreams: [" + yaml + "]}") }
	for name, test := range map[string]struct {
		yaml string
		want []string
	}{
		"unknown":           {"[{name: a, connect: {sidecar: {}}}]", []string{`connect.sidecar: Invalid value: "a mapping": unknown key`}},
		"native and proxy":  {"[{name: a, connect: {native: true, sidecar_service: {}}}]", []string{"connect.native: Forbidden"}},
		"two in the mesh":   {"[{name: a, connect: {sidecar_service: {}}}, {name: b, connect: {sidecar_service: {port: 20001}}}]", []string{"services][1].connect.sidecar_service: Forbidden: one service of a pod"}},
		"the proxy's name":  {"[{name: a, connect: {sidecar_service: {}}}, {name: A-sidecar-proxy}]", []string{`services][1].name: Duplicate value: "A-sidecar-proxy"`}},
		"a long name":       {"[{name: " + strings.Repeat("a", 50) + ", connect: {sidecar_service: {}}}]", []string{"services][0].name: Invalid value"}},
		"names and places":  {sidecar("{name: x, id: y, kind: z, token: t, address: '${POD_IP}', weights: {}, check: {}}"), []string{".name: Forbidden", ".id: Forbidden", ".kind: Forbidden", ".token: Forbidden", ".address: Forbidden", ".weights: Forbidden", ".check: Forbidden"}},
		"checks":            {sidecar("{checks: [{http: 'http://10.0.0.1:80/', interval: 1s}, {args: [sh], interval: 1s}, {alias_service: web}]}"), []string{"sidecar_service.checks[0].http: Invalid", "checks[1].args: Forbidden", "checks[2].alias_service: Forbidden", "checks[2].interval"}},
		"who it stands for": {proxy("{destination_service_name: pay, destination_service_id: x}"), []string{"destination_service_name: Forbidden: it is this service", "destination_service_id: Forbidden"}},
		"application":       {proxy("{local_service_address: 10.0.0.1, local_service_port: nope, local_service_socket_path: /x}"), []string{`local_service_address: Invalid value: "10.0.0.1": must be an address of the loopback, such as 127.0.0.1: from elsewhere`, "local_service_port", "local_service_socket_path: Forbidden"}},
		"not supported":     {proxy("{mode: transparent, transparent_proxy: {}, mesh_gateway: {mode: local}, expose: {checks: true}}"), []string{".mode: Forbidden", ".transparent_proxy: Forbidden", ".mesh_gateway: Forbidden", ".expose: Forbidden"}},
		"escape hatches":    {proxy("{config: {envoy_public_listener_json: x, envoy_extra_static_clusters_json: y, bind_address: 0.0.0.0, bind_port: 1}, envoy_extensions: []}"), []string{"envoy_public_listener_json: Forbidden", "envoy_extra_static_clusters_json: Forbidden", "bind_address: Forbidden", "bind_port: Forbidden", "envoy_extensions: Forbidden"}},
		"configuration":     {proxy("{config: {protocol: quic, local_connect_timeout_ms: 0, max_inbound_connections: -1, handshake: 1}}"), []string{"protocol: Invalid value: \"quic\": must be one of tcp, http, http2, grpc", "local_connect_timeout_ms", "max_inbound_connections", "handshake: Invalid value: \"1\": unknown key"}},
		"upstreams no list": {proxy("{upstreams: {db: 1}}"), []string{"upstreams: Invalid value"}},
		"upstream":          {upstream("{}"), []string{"upstreams[0].destination_name: Required", "upstreams[0].local_bind_port: Required"}},
		"upstream's values": {upstream("{destination_type: gateway, destination_name: '*', local_bind_address: 0.0.0.0, local_bind_port: 0, local_bind_socket_path: /x, mesh_gateway: {}}"), []string{"destination_type", "destination_name", "local_bind_address: Invalid value: \"0.0.0.0\"", "local_bind_port", "local_bind_socket_path: Forbidden", "mesh_gateway: Forbidden"}},
		"upstream's hatch":  {upstream("{destination_name: db, local_bind_port: 1, config: {envoy_cluster_json: '{}', limits: {}}}"), []string{"config.envoy_cluster_json: Forbidden", "config.limits"}},
		"peer and place":    {upstream("{destination_name: db, local_bind_port: 1, destination_peer: p, datacenter: dc2}"), []string{"datacenter: Forbidden"}},
		"upstream twice":    {upstream("{destination_name: db, local_bind_port: 1}, {destination_name: db, local_bind_port: 2, config: {protocol: tcp}}"), []string{"upstreams[1].destination_name: Duplicate"}},
		"addresses":         {proxy("{local_service_address: '::1%lo', upstreams: [{destination_name: a, local_bind_port: 7, local_bind_address: '::1%1'}]}"), []string{"local_service_address: Invalid value: \"::1%lo\"", "local_bind_address: Invalid value: \"::1%1\""}},
		"all at once":       {"[{name: a/b, connect: {sidecar_service: {port: 0, proxy: {upstreams: [{}]}}}}]", []string{"[0].name", "sidecar_service.port", "upstreams[0].destination_name", "upstreams[0].local_bind_port"}},
	} {
		t.Run(name, func(t *testing.T) { wantErrors(t, newPod(annotations{"services": test.yaml}), test.want...) })
	}
	t.Run("inject nothing", func(t *testing.T) {
		wantErrors(t, newPod(annotations{"services": "- name: web", "connect-inject": "true"}), "connect-inject]: Invalid value: \"true\": needs a service with connect.sidecar_service")
	})
	t.Run("on the node's network", func(t *testing.T) {
		pod := newPod(annotations{"services": sidecar("{}")})
		pod.Spec.HostNetwork = true
		wantErrors(t, pod, "sidecar_service: Forbidden: not with hostNetwork")
	})
}

func TestProxyPorts(t *testing.T) {
	for name, test := range map[string]struct {
		inject, sidecar string
		want            []string
	}{
		"injected": {
			"true", "port: 8080, proxy: {local_service_port: 19500, upstreams: [{destination_name: a, local_bind_port: 8080}, {destination_name: b, local_bind_port: 9090}, {destination_name: c, local_bind_port: 19500}, {destination_name: d, local_bind_port: 7}, {destination_name: e, local_bind_port: 7}, {destination_name: f, local_bind_port: 19000}]}",
			[]string{
				"proxy.local_service_port: Invalid value: 19500: is the agentlet's own port; the application is", "sidecar_service.port: Invalid value: 8080: is the application's port",
				"upstreams[0].local_bind_port: Invalid value: 8080: is the proxy's", "upstreams[1].local_bind_port: Invalid value: 9090: is a declared",
				"upstreams[2].local_bind_port: Invalid value: 19500: is the agentlet's own", "upstreams[4].local_bind_port: Invalid value: 7: is another upstream's",
				"upstreams[5].local_bind_port: Invalid value: 19000: is Envoy's admin",
			},
		},
		"the proxy of the pod's own": {
			"false", "port: 8080, proxy: {local_service_port: 19500, upstreams: [{destination_name: a, local_bind_port: 19500}]}",
			[]string{"local_service_port: Invalid value: 19500", "sidecar_service.port: Invalid value: 8080: is the application's", "upstreams[0].local_bind_port: Invalid value: 19500"},
		},
		"Envoy's admin":         {"true", "port: 19000, proxy: {local_service_port: 19000}", []string{"local_service_port: Invalid value: 19000: is Envoy's admin", "sidecar_service.port: Invalid value: 19000"}},
		"one that others admin": {"false", "proxy: {local_service_port: 19000}", nil},
		"declared by its own":   {"false", "port: 9901, proxy: {upstreams: [{destination_name: a, local_bind_port: 9090}]}", nil},
		"one of two addresses":  {"true", "proxy: {upstreams: [{destination_name: a, local_bind_port: 7}, {destination_name: b, local_bind_port: 7, local_bind_address: 127.0.0.2}]}", nil},
		"one in two words":      {"true", "proxy: {upstreams: [{destination_name: a, local_bind_port: 7}, {destination_name: b, local_bind_port: 7, local_bind_address: '::ffff:127.0.0.1'}]}", []string{"upstreams[1].local_bind_port: Invalid value: 7: is another upstream's"}},
	} {
		t.Run(name, func(t *testing.T) {
			pod := newPod(annotations{"services": "[{name: web, connect: {sidecar_service: {" + test.sidecar + "}}}]", "connect-inject": test.inject})
			if len(test.want) == 0 {
				mustParse(t, pod, nil)
				return
			}
			wantErrors(t, pod, test.want...)
		})
	}
}

func TestProxyStays(t *testing.T) {
	pod := newPod(annotations{"services": "[{name: web, connect: {sidecar_service: {}}}]", "connect-inject": "true"})
	pod.Spec.InitContainers = append(pod.Spec.InitContainers, corev1.Container{
		Name: contract.ProxyContainerName, RestartPolicy: new(corev1.ContainerRestartPolicyAlways),
		Env: []corev1.EnvVar{{Name: contract.EnvProxyID, Value: contract.ProxyIDReference("web")}},
	})
	mustParse(t, pod, nil)
	pod.Annotations[contract.Services] = "[{name: shop, connect: {sidecar_service: {}}}]"
	wantErrors(t, pod, "services][0].name: Invalid value: \"shop\": the mesh proxy in the pod is another service's")
	pod.Spec.InitContainers[len(pod.Spec.InitContainers)-1].Env[0].Value = "their-own"
	mustParse(t, pod, nil)
}
