package agentlet

import (
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestDefineAimsAtThePod(t *testing.T) {
	reg := &registration.Registration{Services: []registration.Service{{
		Name: "web", Port: 80, Address: registration.HostIP,
		TaggedAddresses: map[string]registration.TaggedAddress{"lan": {Address: registration.PodIP, Port: 80}},
		Checks: []registration.Check{
			{HTTP: "http://:8080/health"}, {TCP: ":6379"}, {GRPC: ":9090/web"},
		},
	}}}
	for ip, want := range map[string][4]string{
		"10.1.0.5": {"10.1.0.5", "http://10.1.0.5:8080/health", "10.1.0.5:6379", "10.1.0.5:9090/web"},
		"fd00::5":  {"fd00::5", "http://[fd00::5]:8080/health", "[fd00::5]:6379", "[fd00::5]:9090/web"},
	} {
		d := define(testIdentity, ip, "", reg)[0]
		if d.Address != testIdentity.HostIP || d.TaggedAddresses["lan"].Address != want[0] {
			t.Errorf("addresses %s and %v", d.Address, d.TaggedAddresses)
		}
		if got := [4]string{want[0], d.Checks[0].HTTP, d.Checks[1].TCP, d.Checks[2].GRPC}; got != want {
			t.Errorf("checks %q, want %q", got, want)
		}
	}
	if reg.Services[0].Checks[0].HTTP != "http://:8080/health" {
		t.Error("the registration itself was changed")
	}
}

func TestDualStack(t *testing.T) {
	tagged := func(tag, address string) map[string]registration.TaggedAddress {
		return map[string]registration.TaggedAddress{tag: {Address: address, Port: 8080}}
	}
	own := []string{"service-names", "", "service-port", "", "services", "[{name: web, port: 8080, tagged_addresses: {lan_ipv6: {address: '${POD_IP}'}}}]"}
	node := []string{"service-names", "", "service-port", "", "services", "[{name: web, port: 8080, address: '${HOST_IP}'}]"}
	cases := map[string]struct {
		annotations, ips []string
		want             map[string]registration.TaggedAddress
	}{
		"one family":                     {nil, []string{"10.1.0.5"}, nil},
		"IPv4 first":                     {nil, []string{"10.1.0.5", "fd00::5"}, tagged("lan_ipv6", "fd00::5")},
		"IPv6 first":                     {nil, []string{"fd00::5", "10.1.0.5"}, tagged("lan_ipv4", "10.1.0.5")},
		"the pod's own word":             {own, []string{"10.1.0.5", "fd00::5"}, tagged("lan_ipv6", "10.1.0.5")},
		"at the node's address":          {node, []string{"10.1.0.5", "fd00::5"}, nil},
		"a status of before the restart": {nil, []string{"10.1.0.4", "fd00::4"}, nil},
	}
	for name, c := range cases {
		identity := testIdentity
		identity.PodIP = c.ips[0]
		if c.ips[0] == "10.1.0.4" {
			identity.PodIP = "10.1.0.5"
		}
		pod := annotated(c.annotations...)
		pod.Status.PodIP, pod.Status.PodIPs = c.ips[0], nil
		for _, ip := range c.ips {
			pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip})
		}
		s := newState(identity)
		s.observePod(pod, nil, time.Now())
		if got := s.instances[webID].want.TaggedAddresses; !maps.Equal(got, c.want) {
			t.Errorf("%s: tagged addresses %v, want %v", name, got, c.want)
		}
	}
}
