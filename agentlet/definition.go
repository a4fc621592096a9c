package agentlet

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// Definition is an instance of a service as the Consul agent shall hold it: a registration.Service with everything that
// only a running pod knows.
type Definition struct {
	ID string
	// Service with addresses, tagged addresses and checks filled in, and with the contract's meta added.
	registration.Service
	// ProxyFor is the ID of the instance whose mesh proxy this is, ProxyForName that one's name, and Proxy what it is told
	// to do; empty and nil for an instance that is none.
	ProxyFor     string              `json:",omitempty"`
	ProxyForName string              `json:",omitempty"`
	Proxy        *registration.Proxy `json:",omitempty"`
	// Maintenance is what the readiness check tells of a maintenance, with contract.MaintenanceOutput before its reason; empty where
	// there is none. An agent keeps it also where it discards what checks put out.
	Maintenance string `json:",omitempty"`
	// HeartbeatTTL and DeregisterAfter of the heartbeat check.
	HeartbeatTTL, DeregisterAfter time.Duration
}

// Identity is who the registrar is; it never changes in its life.
type Identity struct {
	Namespace, Pod, UID string
	Node, HostIP        string
	// PodIP is the address with which this container was started. A status in the API may still have that of before the
	// node's reboot. Empty: the status is believed.
	PodIP string
	// Cluster becomes the meta k8s-cluster; empty: none.
	Cluster string
	// ConsulAddress is the agent's address for messages, such as "10.0.0.1:8500".
	ConsulAddress string
}

// Prefix of the IDs of all instances of this pod.
func (i Identity) Prefix() string { return contract.ServicePrefix(i.Namespace, i.Pod, i.UID) }

// agent is the node's Consul agent, as messages call it.
func (i Identity) agent() string { return "the Consul agent at " + i.ConsulAddress }

// define makes the definitions of all services of a pod with this IP, and with the IP second of the other family, if the
// pod is dual-stack. A mesh proxy's follows its service's.
func define(identity Identity, ip, second string, reg *registration.Registration) []Definition {
	places := strings.NewReplacer(registration.PodIP, ip, registration.HostIP, identity.HostIP)
	definitions := make([]Definition, 0, len(reg.Services))
	for _, service := range reg.Services {
		d := Definition{
			ID:              contract.ServiceID(identity.Namespace, identity.Pod, identity.UID, service.Name),
			Service:         service,
			HeartbeatTTL:    reg.Settings.HeartbeatTTL,
			DeregisterAfter: reg.Settings.DeregisterAfter,
		}
		d.Sidecar = nil
		d.place(identity, ip, places)
		if _, own := d.TaggedAddresses[family(second)]; second != "" && d.Address == ip && !own {
			d.TaggedAddresses[family(second)] = registration.TaggedAddress{Address: second, Port: service.Port}
		}
		definitions = append(definitions, d)
		if service.Sidecar != nil {
			d.ProxyFor, d.ProxyForName, d.Proxy = d.ID, service.Name, &service.Sidecar.Proxy
			d.ID = contract.ProxyID(identity.Namespace, identity.Pod, identity.UID, service.Name)
			d.Service = service.ProxyInstance()
			d.place(identity, ip, places)
			definitions = append(definitions, d)
		}
	}
	return definitions
}

// place fills in what only a running pod knows.
func (d *Definition) place(identity Identity, ip string, places *strings.Replacer) {
	if d.Address = places.Replace(d.Address); d.Address == "" {
		d.Address = ip
	}
	tagged := make(map[string]registration.TaggedAddress, len(d.TaggedAddresses))
	for tag, address := range d.TaggedAddresses {
		address.Address = places.Replace(address.Address)
		tagged[tag] = address
	}
	d.TaggedAddresses = tagged
	d.Meta = maps.Clone(d.Meta)
	if d.Meta == nil {
		d.Meta = map[string]string{}
	}
	maps.Copy(d.Meta, identity.meta())
	d.Checks = slices.Clone(d.Checks)
	for i := range d.Checks {
		aim(&d.Checks[i], ip)
	}
}

// family is the tagged address under which Consul looks for an address of this family. That of the service's own address
// it fills in itself.
func family(ip string) string {
	if strings.Contains(ip, ":") {
		return "lan_ipv6"
	}
	return "lan_ipv4"
}

func (i Identity) meta() map[string]string {
	meta := map[string]string{
		contract.MetaExternalSource: contract.MetaExternalSourceValue,
		contract.MetaManagedBy:      contract.MetaManagedByValue,
		contract.MetaNamespace:      i.Namespace,
		contract.MetaPod:            i.Pod,
		contract.MetaPodUID:         i.UID,
		contract.MetaNode:           i.Node,
	}
	if i.Cluster != "" {
		meta[contract.MetaCluster] = i.Cluster
	}
	return meta
}

// aim points a check, whose host is empty, at the pod's own IP.
func aim(check *registration.Check, ip string) {
	host := ip
	if strings.Contains(ip, ":") {
		host = "[" + ip + "]"
	}
	switch {
	case check.HTTP != "":
		check.HTTP = strings.Replace(check.HTTP, "://:", "://"+host+":", 1)
	case check.TCP != "":
		check.TCP = host + check.TCP
	case check.UDP != "":
		check.UDP = host + check.UDP
	case check.H2PING != "":
		check.H2PING = host + check.H2PING
	case check.GRPC != "":
		check.GRPC = host + check.GRPC
	}
}

// Fingerprint tells definitions apart: 8 hexadecimal digits over every part but those that others may rightly set, the
// tags under enable_tag_override, the sync generation, and a maintenance. It travels with the heartbeat check into the
// catalog, so that the catalog's health of this definition can be told from that of an earlier one.
func (d Definition) Fingerprint() string {
	d.Meta, d.Maintenance = withoutSyncGeneration(d.Meta), ""
	if d.EnableTagOverride {
		d.Tags = nil
	}
	encoded, err := json.Marshal(d)
	if err != nil {
		return "" // plain data can't fail to encode; an empty fingerprint never matches
	}
	sum := sha256.Sum256(encoded)
	return hex.EncodeToString(sum[:4])
}

// checkIDs of the definition's checks, sorted.
func (d Definition) checkIDs() []string {
	ids := []string{contract.HeartbeatID(d.ID), contract.ReadinessID(d.ID)}
	for i := range d.Checks {
		ids = append(ids, contract.CheckID(d.ID, i))
	}
	slices.Sort(ids)
	return ids
}

// same reports whether an instance that carries the wanted fingerprint has also been left as it was put: somebody may
// have edited the service and not the check. Tags under enable_tag_override are others' to set.
func same(want, have Definition) bool {
	if want.Name != have.Name || want.Port != have.Port || !slices.Equal(want.Ports, have.Ports) || want.Address != have.Address ||
		want.EnableTagOverride != have.EnableTagOverride || weights(want) != weights(have) ||
		want.Native != have.Native || want.ProxyFor != have.ProxyFor || want.ProxyForName != have.ProxyForName {
		return false
	}
	if want.Proxy != nil && !sameProxy(want.Proxy, have.Proxy) {
		return false
	}
	if !want.EnableTagOverride && !slices.Equal(want.Tags, have.Tags) {
		return false
	}
	for tag, address := range want.TaggedAddresses {
		if have.TaggedAddresses[tag] != address {
			return false
		}
	}
	return containsMeta(want.Meta, have.Meta) && containsMeta(have.Meta, want.Meta)
}

// containsMeta reports whether all of a's meta but the sync generation is in b. Each plan asks, so that nothing is copied.
func containsMeta(a, b map[string]string) bool {
	for name, value := range a {
		other, there := b[name]
		if name != contract.MetaSyncGeneration && name != contract.MetaNudge && (!there || other != value) {
			return false
		}
	}
	return true
}

// sameProxy leaves opaque configurations out: Consul reads their numbers as it likes.
func sameProxy(want, have *registration.Proxy) bool {
	return have != nil && want.LocalServiceAddress == have.LocalServiceAddress && want.LocalServicePort == have.LocalServicePort &&
		slices.EqualFunc(want.Upstreams, have.Upstreams, func(a, b registration.Upstream) bool {
			a.Config, b.Config = nil, nil
			return reflect.DeepEqual(a, b)
		})
}

// weights with Consul's default of 1 and 1.
func weights(d Definition) registration.Weights {
	if d.Weights == nil {
		return registration.Weights{Passing: 1, Warning: 1}
	}
	return *d.Weights
}

func withoutSyncGeneration(meta map[string]string) map[string]string {
	meta = maps.Clone(meta)
	delete(meta, contract.MetaSyncGeneration)
	delete(meta, contract.MetaNudge)
	return meta
}

// maxSyncGeneration is more resyncs than a pod can have; what is at the agent may be anybody's.
const maxSyncGeneration = 1 << 30

// syncGeneration of a definition's meta, also of one that an older agentlet has put.
func syncGeneration(meta map[string]string) (n int, ok bool) {
	text, ok := meta[contract.MetaSyncGeneration]
	if !ok {
		text = meta[contract.MetaNudge]
	}
	n, err := strconv.Atoi(text)
	return n, err == nil && n >= 0 && n < maxSyncGeneration
}
