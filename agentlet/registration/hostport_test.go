package registration

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// hostPorts is a pod whose port http is at the node's 18080, and whose metrics are nowhere there.
func hostPorts(service string) *corev1.Pod {
	pod := newPod(annotations{"services": "[" + service + "]"})
	pod.Spec.Containers[0].Ports[0].HostPort = 18080
	return pod
}

func TestHostPorts(t *testing.T) {
	type addresses = map[string]TaggedAddress
	checked := ", checks: [{http: /ready, interval: 10s}]"
	for name, c := range map[string]struct {
		service   string
		port      int
		tagged    addresses
		check     string
		localPort int
		warning   string
	}{
		"by name":                        {"{name: web, port: http, address: '${HOST_IP}'" + checked + "}", 18080, nil, "http://:8080/ready", 0, ""},
		"address first":                  {"{address: '${HOST_IP}', port: http, name: web" + checked + "}", 18080, nil, "http://:8080/ready", 0, ""},
		"by default":                     {"{name: web, address: '${HOST_IP}'" + checked + "}", 18080, nil, "http://:8080/ready", 0, ""},
		"by the hostPort's number":       {"{name: web, port: 18080, address: '${HOST_IP}'" + checked + "}", 18080, nil, "http://:8080/ready", 0, ""},
		"by another number":              {"{name: web, port: 30080, address: '${HOST_IP}'" + checked + "}", 30080, nil, "http://:30080/ready", 0, ""},
		"by a container's number":        {"{name: web, port: 8080, address: '${HOST_IP}'}", 8080, nil, "", 0, "${HOST_IP}:8080 is registered, and 8080 is a container's port, for which nothing listens at the node's address; its hostPort is 18080"},
		"by a number without a hostPort": {"{name: web, port: 9090, address: '${HOST_IP}'}", 9090, nil, "", 0, "9090 is a container's port"},
		"the pod's own address":          {"{name: web, port: http, address: '${POD_IP}'}", 8080, nil, "", 0, ""},
		"a mesh proxy":                   {"{name: web, port: http, address: '${HOST_IP}', connect: {sidecar_service: {}}}", 18080, nil, "", 8080, ""},

		"tagged, by name":                   {"{name: web, port: metrics, tagged_addresses: {wan: {address: '${HOST_IP}', port: http}}}", 9090, addresses{"wan": {HostIP, 18080}}, "", 0, ""},
		"tagged, the service's by name":     {"{name: web, port: http, tagged_addresses: {wan: {address: '${HOST_IP}'}}}", 8080, addresses{"wan": {HostIP, 18080}}, "", 0, ""},
		"tagged, the service's by number":   {"{name: web, port: 8080, tagged_addresses: {wan: {address: '${HOST_IP}'}}}", 8080, addresses{"wan": {HostIP, 18080}}, "", 0, ""},
		"tagged, by a number":               {"{name: web, port: 8080, tagged_addresses: {wan: {address: '${HOST_IP}', port: 30080}}}", 8080, addresses{"wan": {HostIP, 30080}}, "", 0, ""},
		"tagged, by a container's number":   {"{name: web, port: http, tagged_addresses: {wan: {address: '${HOST_IP}', port: 8080}}}", 8080, addresses{"wan": {HostIP, 8080}}, "", 0, "its hostPort is 18080"},
		"tagged beside the node's":          {"{name: web, port: http, address: '${HOST_IP}', tagged_addresses: {wan: {address: '${HOST_IP}'}}}", 18080, addresses{"wan": {HostIP, 18080}}, "", 0, ""},
		"tagged with the pod's beside that": {"{name: web, port: http, address: '${HOST_IP}', tagged_addresses: {lan: {address: '${POD_IP}'}}}", 18080, addresses{"lan": {PodIP, 8080}}, "", 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			reg, warnings := mustParse(t, hostPorts(c.service), nil)
			s := reg.Services[0]
			if diff := cmp.Diff(c.tagged, s.TaggedAddresses); diff != "" || s.Port != c.port {
				t.Errorf("port %d, want %d; tagged addresses (-want +got):\n%s", s.Port, c.port, diff)
			}
			if c.check != "" && s.Checks[0].HTTP != c.check {
				t.Errorf("the check goes to %s, want %s", s.Checks[0].HTTP, c.check)
			}
			if c.localPort != 0 && s.Sidecar.Proxy.LocalServicePort != c.localPort {
				t.Errorf("the proxy goes to %d, want %d", s.Sidecar.Proxy.LocalServicePort, c.localPort)
			}
			if c.warning == "" {
				wantWarnings(t, warnings)
			} else {
				wantWarnings(t, warnings, c.warning)
			}
		})
	}
}

func TestNoHostPort(t *testing.T) {
	for name, c := range map[string]struct{ service, path string }{
		"by name":                         {"{name: web, port: metrics, address: '${HOST_IP}'}", `[0].port: Invalid value: "metrics"`},
		"tagged, by name":                 {"{name: web, port: http, tagged_addresses: {wan: {address: '${HOST_IP}', port: metrics}}}", `[0].tagged_addresses[wan].port: Invalid value: "metrics"`},
		"tagged, the service's by name":   {"{name: web, port: metrics, tagged_addresses: {wan: {address: '${HOST_IP}'}}}", "[0].tagged_addresses[wan].port"},
		"tagged, the service's by number": {"{name: web, port: 9090, tagged_addresses: {wan: {address: '${HOST_IP}'}}}", "[0].tagged_addresses[wan].port"},
	} {
		t.Run(name, func(t *testing.T) {
			wantErrors(t, hostPorts(c.service), c.path)
			wantErrors(t, hostPorts(c.service), "has no hostPort")
			pod := hostPorts(c.service)
			pod.Spec.HostNetwork = true
			reg, warnings := mustParse(t, pod, nil)
			wantWarnings(t, warnings)
			if got := reg.Services[0]; strings.Contains(c.service, "tagged") && got.TaggedAddresses["wan"].Port != 9090 || got.Port == 18080 {
				t.Errorf("in the node's network: %+v", got)
			}
		})
	}
	t.Run("by default", func(t *testing.T) {
		pod := hostPorts("{name: web, address: '${HOST_IP}'}")
		pod.Spec.Containers[0].Ports[0].HostPort = 0
		wantErrors(t, pod, "has no hostPort")
	})
}
