package agentlet

import (
	"maps"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
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
	for name, want := range map[string][4]string{
		"IPv4": {"10.1.0.5", "http://10.1.0.5:8080/health", "10.1.0.5:6379", "10.1.0.5:9090/web"},
		"IPv6": {"fd00::5", "http://[fd00::5]:8080/health", "[fd00::5]:6379", "[fd00::5]:9090/web"},
	} {
		t.Run(name, func(t *testing.T) {
			d := define(testIdentity, want[0], "", reg)[0]
			if d.Address != testIdentity.HostIP {
				t.Errorf("address %s, want the node's", d.Address)
			}
			if got := [4]string{d.TaggedAddresses["lan"].Address, d.Checks[0].HTTP, d.Checks[1].TCP, d.Checks[2].GRPC}; got != want {
				t.Errorf("tagged address and checks %q, want %q", got, want)
			}
		})
	}
	if reg.Services[0].Checks[0].HTTP != "http://:8080/health" {
		t.Error("the registration itself was changed")
	}
}

func TestDualStack(t *testing.T) {
	tagged := func(tag, address string) map[string]registration.TaggedAddress {
		return map[string]registration.TaggedAddress{tag: {Address: address, Port: 8080}}
	}
	own := structured("{name: web, port: 8080, tagged_addresses: {lan_ipv6: {address: '${POD_IP}'}}}")
	node := structured("{name: web, port: 8080, address: '${HOST_IP}'}")
	for name, c := range map[string]struct {
		pod  *corev1.Pod
		own  string // the container's address
		ips  []string
		want map[string]registration.TaggedAddress
	}{
		"one family":                    {testPod(), "10.1.0.5", []string{"10.1.0.5"}, nil},
		"IPv4 first":                    {testPod(), "10.1.0.5", []string{"10.1.0.5", "fd00::5"}, tagged("lan_ipv6", "fd00::5")},
		"IPv6 first":                    {testPod(), "fd00::5", []string{"fd00::5", "10.1.0.5"}, tagged("lan_ipv4", "10.1.0.5")},
		"a tagged address of the pod's": {own, "10.1.0.5", []string{"10.1.0.5", "fd00::5"}, tagged("lan_ipv6", "10.1.0.5")},
		"the node's address":            {node, "10.1.0.5", []string{"10.1.0.5", "fd00::5"}, nil},
		"a status from before a reboot": {testPod(), "10.1.0.5", []string{"10.1.0.4", "fd00::4"}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			identity := testIdentity
			identity.PodIP = c.own
			c.pod.Status.PodIP = c.ips[0]
			for _, ip := range c.ips {
				c.pod.Status.PodIPs = append(c.pod.Status.PodIPs, corev1.PodIP{IP: ip})
			}
			s := newState(identity)
			s.observePod(c.pod, nil, time.Now())
			if got := s.instances[webID].want.TaggedAddresses; !maps.Equal(got, c.want) {
				t.Errorf("tagged addresses %v, want %v", got, c.want)
			}
		})
	}
}

// TestSyncGenerationOfForeignMeta: what is at the agent may have been edited by anybody.
func TestSyncGenerationOfForeignMeta(t *testing.T) {
	for text, want := range map[string]int{
		"0": 0, "7": 7, "-1": -1, "": -1, "seven": -1, "9223372036854775807": -1, "1073741824": -1, "1073741823": 1<<30 - 1,
	} {
		for _, key := range []string{contract.MetaSyncGeneration, contract.MetaNudge} {
			t.Run(key+"="+text, func(t *testing.T) {
				n, ok := syncGeneration(map[string]string{key: text})
				if ok != (want >= 0) || ok && n != want {
					t.Errorf("%d, %v; want %d", n, ok, want)
				}
			})
		}
	}
}
