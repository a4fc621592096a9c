package registration

import (
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

const (
	// loopback is where a proxy and its application find each other.
	loopback = "127.0.0.1"
	// proxyCheckInterval is short, because the gate waits for the check's first success; a result that stays the same
	// costs Consul's servers nothing.
	proxyCheckInterval = time.Second
	// maxMilliseconds is a day.
	maxMilliseconds = 24 * 60 * 60 * 1000
	// maxConnections is more than there are ports.
	maxConnections = 1 << 20

	loopbackForm = "an address of the loopback, such as " + loopback
)

var (
	errNotLoopback = errors.New("from elsewhere one could reach past the mesh")

	protocols        = []string{"tcp", "http", "http2", "grpc"}
	destinationTypes = []string{"service", "prepared_query"}
)

const (
	byName       = "it is the service's name with -sidecar-proxy, which Consul's service identities have rights for"
	bySocket     = "the application and its proxy meet on the pod's loopback"
	byPod        = "a proxy is registered at the pod's IP, with its service's weights"
	byEntry      = "not supported; say it for all of the service's instances, in Consul's configuration entries"
	notRewritten = "not supported: no traffic is redirected; the application connects to its upstreams' ports"
	escapeHatch  = "it would replace what the proxy takes from Consul, mTLS and intentions too"
)

// refusedConnectKeys are keys of Consul's connect block that a pod can't use, with the reason.
var refusedConnectKeys = map[string]map[string]string{
	"sidecar_service": {
		"name": byName, "id": "agentlet gives the ID", "kind": "it is a connect-proxy", "token": refusedServiceKeys["token"],
		"address": byPod, "tagged_addresses": byPod, "weights": byPod, "check": refusedServiceKeys["check"],
		"socket_path": bySocket, "enable_tag_override": "not supported", "connect": "a proxy has none of its own",
	},
	"proxy": {
		"destination_service_name": "it is this service", "destination_service_id": "it is this service",
		"local_service_socket_path": bySocket, "mode": notRewritten, "transparent_proxy": notRewritten,
		"mesh_gateway": byEntry, "expose": "not supported", "envoy_extensions": escapeHatch,
	},
	"upstreams": {
		"local_bind_socket_path": bySocket, "local_bind_socket_mode": bySocket, "mesh_gateway": byEntry,
	},
	"config": {
		"bind_address": "the proxy listens at the pod's IP", "bind_port": "say sidecar_service.port",
		"envoy_public_listener_json": escapeHatch, "envoy_local_cluster_json": escapeHatch, "envoy_listener_json": escapeHatch,
		"envoy_cluster_json": escapeHatch, "envoy_bootstrap_json_tpl": escapeHatch, "envoy_extra_static_clusters_json": escapeHatch,
		"envoy_extra_static_listeners_json": escapeHatch,
	},
}

var sidecarKeys = readers[Sidecar]{
	"port":   func(d decoder, p *field.Path, n *yaml.Node, s *Sidecar) { s.Port = d.port(p, n) },
	"tags":   func(d decoder, p *field.Path, n *yaml.Node, s *Sidecar) { s.Tags = d.tags(p, n) },
	"meta":   func(d decoder, p *field.Path, n *yaml.Node, s *Sidecar) { s.Meta = d.meta(p, n) },
	"checks": func(d decoder, p *field.Path, n *yaml.Node, s *Sidecar) { s.Checks = d.checks(p, n) },
	"proxy": func(d decoder, p *field.Path, n *yaml.Node, s *Sidecar) {
		readObject(d, p, n, proxyKeys, refusedConnectKeys["proxy"], &s.Proxy)
	},
}

var proxyKeys = readers[Proxy]{
	"local_service_address": func(d decoder, p *field.Path, n *yaml.Node, x *Proxy) { x.LocalServiceAddress = d.loopback(p, n) },
	"local_service_port":    func(d decoder, p *field.Path, n *yaml.Node, x *Proxy) { x.LocalServicePort = d.port(p, n) },
	"upstreams":             func(d decoder, p *field.Path, n *yaml.Node, x *Proxy) { x.Upstreams = d.upstreams(p, n) },
	"config": func(d decoder, p *field.Path, n *yaml.Node, x *Proxy) {
		x.Config = d.config(p, n, proxyConfigKeys)
	},
}

var proxyConfigKeys = readers[map[string]any]{
	"protocol":                 setProtocol,
	"local_connect_timeout_ms": setNumber("local_connect_timeout_ms", 1, maxMilliseconds),
	"local_request_timeout_ms": setNumber("local_request_timeout_ms", 0, maxMilliseconds),
	"local_idle_timeout_ms":    setNumber("local_idle_timeout_ms", 0, maxMilliseconds),
	"max_inbound_connections":  setNumber("max_inbound_connections", 1, maxConnections),
}

var upstreamKeys = readers[Upstream]{
	"destination_type": func(d decoder, p *field.Path, n *yaml.Node, u *Upstream) {
		u.DestinationType = d.oneOf(p, n, destinationTypes)
	},
	"destination_name": func(d decoder, p *field.Path, n *yaml.Node, u *Upstream) {
		u.DestinationName = d.serviceName(p, n, checkName)
	},
	"destination_peer":      func(d decoder, p *field.Path, n *yaml.Node, u *Upstream) { u.DestinationPeer = d.tenancy(p, n) },
	"destination_namespace": func(d decoder, p *field.Path, n *yaml.Node, u *Upstream) { u.DestinationNamespace = d.tenancy(p, n) },
	"destination_partition": func(d decoder, p *field.Path, n *yaml.Node, u *Upstream) { u.DestinationPartition = d.tenancy(p, n) },
	"datacenter":            func(d decoder, p *field.Path, n *yaml.Node, u *Upstream) { u.Datacenter = d.tenancy(p, n) },
	"local_bind_address":    func(d decoder, p *field.Path, n *yaml.Node, u *Upstream) { u.LocalBindAddress = d.loopback(p, n) },
	"local_bind_port":       func(d decoder, p *field.Path, n *yaml.Node, u *Upstream) { u.LocalBindPort = d.port(p, n) },
	"config": func(d decoder, p *field.Path, n *yaml.Node, u *Upstream) {
		u.Config = d.config(p, n, upstreamConfigKeys)
	},
}

var upstreamConfigKeys = readers[map[string]any]{
	"protocol": setProtocol, "connect_timeout_ms": setNumber("connect_timeout_ms", 1, maxMilliseconds),
}

var connectKeys = readers[Service]{
	"native":          func(d decoder, p *field.Path, n *yaml.Node, s *Service) { s.Native = d.boolean(p, n) },
	"sidecar_service": func(d decoder, p *field.Path, n *yaml.Node, s *Service) { s.Sidecar = d.sidecar(p, n) },
}

// readConnect reads the service's part in the mesh.
func readConnect(d decoder, path *field.Path, n *yaml.Node, s *Service) {
	present, ok := readObject(d, path, n, connectKeys, nil, s)
	if ok && s.Native && present["sidecar_service"] {
		d.r.add(field.Forbidden(path.Child("native"), "the application speaks for itself, or has a sidecar_service that does"))
	}
}

// sidecar reads a proxy, with Consul's defaults.
func (d decoder) sidecar(path *field.Path, n *yaml.Node) *Sidecar {
	s := &Sidecar{Port: contract.ProxyPort, Proxy: Proxy{LocalServiceAddress: loopback}}
	if _, ok := readObject(d, path, n, sidecarKeys, refusedConnectKeys["sidecar_service"], s); !ok {
		return nil
	}
	if s.Checks == nil {
		s.Checks = []Check{{Name: "proxy listens", TCP: ":" + strconv.Itoa(s.Port), Interval: proxyCheckInterval}}
	}
	for i := range s.Checks {
		s.Checks[i].HTTP = withPort(s.Checks[i].HTTP, s.Port)
	}
	return s
}

func (d decoder) upstreams(path *field.Path, n *yaml.Node) []Upstream {
	items, ok := d.list(path, n, maxUpstreams, "a list of upstreams")
	if !ok {
		return nil
	}
	upstreams := make([]Upstream, 0, len(items))
	for i, n := range items {
		u := Upstream{DestinationType: destinationTypes[0], LocalBindAddress: loopback}
		present, ok := readObject(d, path.Index(i), n, upstreamKeys, refusedConnectKeys["upstreams"], &u)
		if !ok {
			continue
		}
		for _, key := range [...]string{"destination_name", "local_bind_port"} {
			if !present[key] {
				d.r.add(field.Required(path.Index(i).Child(key), "an upstream is a service and a port to reach it at"))
			}
		}
		if u.DestinationPeer != "" && u.Datacenter != "" {
			d.r.add(field.Forbidden(path.Index(i).Child("datacenter"), "not together with destination_peer"))
		}
		if slices.ContainsFunc(upstreams, u.sameDestination) {
			d.r.add(field.Duplicate(path.Index(i).Child("destination_name"), u.DestinationName))
		}
		upstreams = append(upstreams, u)
	}
	return upstreams
}

// sameDestination reports whether two upstreams are the same to Consul, which takes one of them.
func (u Upstream) sameDestination(other Upstream) bool {
	for _, one := range [...]*Upstream{&u, &other} {
		one.LocalBindAddress, one.LocalBindPort, one.Config = "", 0, nil
	}
	return reflect.DeepEqual(u, other)
}

// config reads an opaque configuration, of which only the known keys are handed on.
func (d decoder) config(path *field.Path, n *yaml.Node, known readers[map[string]any]) map[string]any {
	config := map[string]any{}
	readObject(d, path, n, known, refusedConnectKeys["config"], &config)
	return config
}

func setProtocol(d decoder, path *field.Path, n *yaml.Node, config *map[string]any) {
	(*config)["protocol"] = d.oneOf(path, n, protocols)
}

func setNumber(key string, least, most int) func(decoder, *field.Path, *yaml.Node, *map[string]any) {
	return func(d decoder, path *field.Path, n *yaml.Node, config *map[string]any) {
		(*config)[key] = d.integer(path, n, least, most)
	}
}

func (d decoder) oneOf(path *field.Path, n *yaml.Node, words []string) string {
	word, _ := parsed(d, path, n, "one of "+strings.Join(words, ", "), func(text string) (string, error) {
		return parseOneOf(text, words...)
	})
	return word
}

// loopback reads an address of it: another one would open the mesh to the network, or the network to the mesh.
func (d decoder) loopback(path *field.Path, n *yaml.Node) string {
	text, _ := parsed(d, path, n, loopbackForm, func(text string) (string, error) {
		address, err := netip.ParseAddr(text)
		switch {
		case err != nil || address.Zone() != "":
			return "", errForm
		case !address.IsLoopback():
			return "", errNotLoopback
		}
		return address.Unmap().String(), nil
	})
	return text
}

// checkMesh checks what the pod's part in the mesh has to do with the rest of it.
func (r *reader) checkMesh(reg *Registration) {
	meshed := -1
	for i := range reg.Services {
		sidecar := reg.Services[i].Sidecar
		if sidecar == nil {
			continue
		}
		service := annotation(contract.Services).Index(i)
		path := service.Child("connect", "sidecar_service")
		switch {
		case r.pod.Spec.HostNetwork:
			r.add(field.Forbidden(path, "not with hostNetwork: whatever runs on the node could use the upstreams' ports"))
		case meshed >= 0:
			r.add(field.Forbidden(path, "one service of a pod may have it: a pod has one identity in the mesh"))
		}
		meshed = i
		if len(contract.ProxyName(reg.Services[i].Name)) > contract.MaxServiceName {
			r.add(field.Invalid(service.Child("name"), reg.Services[i].Name, fmt.Sprintf(
				"the proxy's name %s has more than %d characters", contract.ProxyName(reg.Services[i].Name), contract.MaxServiceName)))
		}
		r.checkProxyStays(service.Child("name"), reg.Services[i].Name)
		r.checkProxyPorts(path, &reg.Services[i], &reg.Settings)
	}
	if reg.Settings.ConnectInject && meshed < 0 {
		r.add(field.Invalid(annotation(contract.ConnectInject), "true",
			"needs a service with connect.sidecar_service in "+r.origins.name(contract.Services)))
	}
}

// checkProxyStays checks that a service is still the one whose proxy was injected: that can't be told another one.
func (r *reader) checkProxyStays(path *field.Path, name string) {
	for i := range r.pod.Spec.InitContainers {
		if id, ok := InjectedProxyID(&r.pod.Spec.InitContainers[i]); ok && id != contract.ProxyIDReference(name) {
			r.add(field.Invalid(path, name, "the mesh proxy in the pod is another service's; the name stays for the pod's life"))
		}
	}
}

// InjectedProxyID is the ID's reference in an init container that is an injected mesh proxy; false in any other container.
func InjectedProxyID(c *corev1.Container) (string, bool) {
	if c.Name != contract.ProxyContainerName || !restartable(c) {
		return "", false
	}
	for i := range c.Env {
		if e := &c.Env[i]; e.Name == contract.EnvProxyID && strings.HasPrefix(e.Value, contract.IDPrefix) {
			return e.Value, true
		}
	}
	return "", false
}

// checkProxyPorts checks that every port that the proxy opens is free in the pod, and that it finds the application
// behind its own.
func (r *reader) checkProxyPorts(path *field.Path, s *Service, settings *Settings) {
	const own = "the proxy needs one of its own"
	port, upstreams := path.Child("port"), path.Child("proxy", "upstreams")
	refuse := func(path *field.Path, port int, owner, why string) {
		if owner != "" && port != 0 {
			r.add(field.Invalid(path, port, "is "+owner+" port; "+why))
		}
	}
	taken := map[int]string{settings.AgentletPort: "the agentlet's own"}
	if settings.ConnectInject {
		taken[contract.EnvoyAdminPort] = "Envoy's admin"
	}
	local := s.Sidecar.Proxy.LocalServicePort
	refuse(path.Child("proxy", "local_service_port"), local, taken[local], "the application is at another one")

	for _, port := range [...]int{s.Port, local} {
		if taken[port] == "" {
			taken[port] = "the application's"
		}
	}
	if settings.ConnectInject { // otherwise the proxy's own container may declare it
		findPort(r.pod, func(p *corev1.ContainerPort) bool {
			if declared := int(p.ContainerPort); taken[declared] == "" && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
				taken[declared] = "a declared"
			}
			return false
		})
	}
	refuse(port, s.Sidecar.Port, taken[s.Sidecar.Port], own)
	taken[s.Sidecar.Port] = "the proxy's"
	for i, u := range s.Sidecar.Proxy.Upstreams {
		owner := taken[u.LocalBindPort]
		if owner == "" && slices.ContainsFunc(s.Sidecar.Proxy.Upstreams[:i], u.sameListener) {
			owner = "another upstream's"
		}
		refuse(upstreams.Index(i).Child("local_bind_port"), u.LocalBindPort, owner, own)
	}
}

// sameListener reports whether two upstreams are to be had at the same address and port.
func (u Upstream) sameListener(other Upstream) bool {
	return u.LocalBindPort == other.LocalBindPort && u.LocalBindAddress == other.LocalBindAddress
}
