package scenarios_test

import (
	"encoding/json"
	"net"
	"slices"
	"testing"

	"github.com/hashicorp/consul/api"
	"github.com/miekg/dns"
	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/programs/clients"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// consulDNS is Consul's DNS port.
const consulDNS = "8600"

// passingReplicas are more than Consul puts into an answer of 512 bytes.
const passingReplicas = 4

func TestClientsAskDNS(t *testing.T) {
	s := scenario.New(t, scenario.Parallel())
	var warning, critical *corev1.Pod
	s.Given("instances that pass, one that warns, and one that is critical", func() {
		s.Deployment(passingReplicas, s.Sample(s.Annotations("drain-delay", "0s")))
		for name, pod := range map[string]**corev1.Pod{"warning": &warning, "critical": &critical} {
			_, err := s.CreatePod(name, s.Sample(s.Annotations("service-health", name, "drain-delay", "0s")))
			s.Must(err)
			*pod = s.AwaitReady(name)
		}
		s.Rollout()
	})
	name := s.Service() + ".service.consul."
	for where, server := range map[string]string{
		"a Consul server": net.JoinHostPort(cluster.HostIP, consulDNS), "a node's agent": net.JoinHostPort(s.Cluster.Nodes[0].IP, consulDNS),
	} {
		s.Then(where+" answers with the passing and the warning instances, with a TTL of 0", func() {
			answer := askDNS(s, server, name, dns.TypeA, dns.DefaultMsgSize)
			addresses := addressesOf(answer.Answer)
			if len(addresses) != passingReplicas+1 || !slices.Contains(addresses, warning.Status.PodIP) || slices.Contains(addresses, critical.Status.PodIP) {
				s.Errorf("%v; %s warns, %s is critical", addresses, warning.Status.PodIP, critical.Status.PodIP)
			}
			for _, record := range answer.Answer {
				if ttl := record.Header().Ttl; ttl != 0 {
					s.Errorf("a TTL of %d s", ttl)
				}
			}
		})
		s.Then(where+" returns three of them to a client limited to 512 bytes, without the truncated flag", func() {
			if answer := askDNS(s, server, name, dns.TypeA, 0); len(answer.Answer) != 3 || answer.Truncated {
				s.Errorf("%d answers, truncated %v", len(answer.Answer), answer.Truncated)
			}
		})
		s.Then(where+" returns ports in SRV records, with the addresses", func() {
			answer := askDNS(s, server, name, dns.TypeSRV, dns.DefaultMsgSize)
			if n := len(addressesOf(answer.Extra)); len(answer.Answer) != passingReplicas+1 || n != passingReplicas+1 {
				s.Errorf("%d answers with %d addresses", len(answer.Answer), n)
			}
			for _, record := range answer.Answer {
				if srv, ok := record.(*dns.SRV); !ok || srv.Port != 8080 {
					s.Errorf("%s", record)
				}
			}
		})
	}
	s.When("a prepared query selects the passing instances", func() {
		text, err := clients.Example("query.json", `"web"`, `"`+s.Service()+`"`)
		s.Must(err)
		var definition api.PreparedQueryDefinition
		s.Must(json.Unmarshal([]byte(text), &definition))
		id, _, err := s.Consul.PreparedQuery().Create(&definition, nil)
		s.Must(err)
		s.Cleanup(func() {
			if _, err := s.Consul.PreparedQuery().Delete(id, nil); err != nil {
				s.Error(err)
			}
		})
	})
	s.Then("its name resolves to them only", func() {
		answer := askDNS(s, net.JoinHostPort(cluster.HostIP, consulDNS), s.Service()+".query.consul.", dns.TypeA, dns.DefaultMsgSize)
		addresses := addressesOf(answer.Answer)
		if len(addresses) != passingReplicas || slices.Contains(addresses, warning.Status.PodIP) {
			s.Errorf("%v; %s warns", addresses, warning.Status.PodIP)
		}
	})
}

// askDNS sends a query over UDP. size is the answer size that the client advertises by EDNS0; 0 means none, and so 512 bytes.
func askDNS(s *scenario.S, server, name string, kind, size uint16) *dns.Msg {
	s.Helper()
	question := new(dns.Msg).SetQuestion(name, kind)
	if size > 0 {
		question.SetEdns0(size, false)
	}
	answer, _, err := (&dns.Client{}).ExchangeContext(s.Ctx, question, server)
	s.Must(err)
	return answer
}

func addressesOf(records []dns.RR) (addresses []string) {
	for _, record := range records {
		if a, ok := record.(*dns.A); ok {
			addresses = append(addresses, a.A.String())
		}
	}
	return addresses
}
