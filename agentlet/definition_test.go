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
			{HTTP: "http://:8080/health"}, {TCP: ":6379"}, {GRPC: ":9090/web"}, {UDP: ":53"}, {H2PING: ":8443"},
		},
	}}}
	for name, want := range map[string][6]string{
		"IPv4": {"10.1.0.5", "http://10.1.0.5:8080/health", "10.1.0.5:6379", "10.1.0.5:9090/web", "10.1.0.5:53", "10.1.0.5:8443"},
		"IPv6": {"fd00::5", "http://[fd00::5]:8080/health", "[fd00::5]:6379", "[fd00::5]:9090/web", "[fd00::5]:53", "[fd00::5]:8443"},
	} {
		t.Run(name, func(t *testing.T) {
			d := define(testIdentity, want[0], "", reg)[0]
			if d.Address != testIdentity.HostIP {
				t.Errorf("address %s, want the node's", d.Address)
			}
			got := [6]string{d.TaggedAddresses["lan"].Address, d.Checks[0].HTTP, d.Checks[1].TCP, d.Checks[2].GRPC, d.Checks[3].UDP, d.Checks[4].H2PING}
			if got != want {
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

func TestSameLeavesOutWhatOthersMaySet(t *testing.T) {
	override := func(d *Definition) { d.EnableTagOverride = true }
	ports := func(second int) func(*Definition) {
		return func(d *Definition) {
			d.Ports = []registration.Port{{Name: "a", Port: 8080, Default: true}, {Name: "b", Port: second}}
		}
	}
	for name, c := range map[string]struct {
		both, have func(d *Definition)
		want       bool
	}{
		"nothing edited":                   {nil, nil, true},
		"the name":                         {nil, func(d *Definition) { d.Name = "other" }, false},
		"the port":                         {nil, func(d *Definition) { d.Port++ }, false},
		"named ports":                      {ports(1), ports(1), true},
		"named ports taken away":           {ports(1), func(d *Definition) { d.Ports = nil }, false},
		"named ports in place of one port": {nil, ports(1), false},
		"the number of a named port":       {ports(1), ports(2), false},
		"the default of two named ports":   {ports(8080), func(d *Definition) { d.Ports[0].Default, d.Ports[1].Default = false, true }, false},
		"the address":                      {nil, func(d *Definition) { d.Address = "10.9.9.9" }, false},
		"the tags":                         {nil, func(d *Definition) { d.Tags = nil }, false},
		"the tags under the tag override":  {override, func(d *Definition) { d.Tags = nil }, true},
		"the tag override":                 {nil, override, false},
		"Consul's default weights":         {nil, func(d *Definition) { d.Weights = &registration.Weights{Passing: 1, Warning: 1} }, true},
		"other weights":                    {nil, func(d *Definition) { d.Weights = &registration.Weights{Passing: 2, Warning: 1} }, false},
		"a tagged address":                 {nil, func(d *Definition) { d.TaggedAddresses = nil }, false},
		"another's tagged address as well": {nil, func(d *Definition) { d.TaggedAddresses["wan"] = registration.TaggedAddress{} }, true},
		"more meta":                        {nil, func(d *Definition) { d.Meta["more"] = "" }, false},
		"less meta":                        {nil, func(d *Definition) { delete(d.Meta, "team") }, false},
		"another value of meta":            {nil, func(d *Definition) { d.Meta["team"] = "edge" }, false},
		"a sync generation":                {nil, func(d *Definition) { d.Meta[contract.MetaSyncGeneration] = "3" }, true},
		"a sync generation of old":         {nil, func(d *Definition) { d.Meta[contract.MetaNudge] = "3" }, true},
	} {
		t.Run(name, func(t *testing.T) {
			definition := func(change ...func(d *Definition)) Definition {
				d := Definition{Service: registration.Service{
					Name: "web", Port: 8080, Address: "10.1.0.5", Tags: []string{"a"}, Meta: map[string]string{"team": "core"},
					TaggedAddresses: map[string]registration.TaggedAddress{"lan": {Address: "10.1.0.5", Port: 8080}},
				}}
				for _, change := range change {
					if change != nil {
						change(&d)
					}
				}
				return d
			}
			if got := same(definition(c.both), definition(c.both, c.have)); got != c.want {
				t.Errorf("same is %t, want %t", got, c.want)
			}
		})
	}
}
