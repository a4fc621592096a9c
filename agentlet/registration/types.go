package registration

import (
	"time"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Registration is what one pod asks for.
type Registration struct {
	// Services, in the order of the annotations; never empty in a valid registration.
	Services []Service
	// Settings of the registrar.
	Settings Settings
	// Probes that the agentlet runs itself, by container; of others the kubelet's word counts. Unprobed says of which ones
	// that is so although they have a readiness probe and readiness is start or probe.
	Probes   map[string]ContainerProbes
	Unprobed []string
	// DefaultPort names the services of which the annotations say no port.
	DefaultPort []string

	asked []askedTag
}

// Service is one service as Consul's agent shall hold it, without what only a running pod knows (ID, addresses, the
// registrar's own checks, the k8s-* meta).
type Service struct {
	Name string
	// Port is 0 for a service without one. Where there are Ports it is the default one's.
	Port int
	// Ports are the service's named ports, of which exactly one is the default; nil where it has one port without a name, or none.
	Ports []Port `json:",omitempty"`
	// Tags in order, without duplicates: the annotation's, then those from labels.
	Tags []string
	// Meta holds the service's own pairs alone: none of contract.MetaKeys is among them.
	Meta map[string]string
	// Health is the fixed health, or empty where the pod's readiness decides.
	Health            contract.Health
	Weights           *Weights
	EnableTagOverride bool
	// Address and the tagged addresses may hold the placeholders PodIP and HostIP. Empty means PodIP.
	Address         string
	TaggedAddresses map[string]TaggedAddress
	Checks          []Check
	// Native: the application takes and makes connections of Consul's mesh itself. Sidecar is the proxy that does it for
	// the application, or nil.
	Native  bool     `json:",omitempty"`
	Sidecar *Sidecar `json:",omitempty"`
	// Namespace and Partition are Consul Enterprise's; passed through.
	Namespace, Partition string
}

// Port is one of the named ports of a service.
type Port struct {
	Name    string
	Port    int
	Default bool
}

// Placeholders in addresses, which are not known at admission.
const (
	PodIP  = "${POD_IP}"
	HostIP = "${HOST_IP}"
)

// Weights are Consul's DNS SRV weights.
type Weights struct{ Passing, Warning int }

// TaggedAddress is one of a service's tagged addresses.
type TaggedAddress struct {
	Address string
	Port    int
}

// Check is a check of the service's own, run by the node's Consul agent against the pod's IP alone. Exactly one of
// HTTP, TCP, UDP, GRPC and H2PING is set, each with an empty host and a port's number: "http://:8080/health", ":6379", ":53",
// ":9090/service", ":8443".
type Check struct {
	Name                      string
	HTTP, TCP, GRPC           string
	UDP, H2PING               string `json:",omitempty"`
	GRPCUseTLS, TLSSkipVerify bool
	H2PingUseTLS              bool `json:",omitempty"`
	// TLSServerName is the name that the certificate has to be for; empty: the pod's IP.
	TLSServerName          string `json:",omitempty"`
	Method, Body           string
	Header                 map[string][]string
	Interval, Timeout      time.Duration
	SuccessBeforePassing   int
	FailuresBeforeWarning  int
	FailuresBeforeCritical int
	Status                 contract.Health
}

// Sidecar is the mesh proxy of a service, which Consul has as an instance of its own, at the pod's IP.
type Sidecar struct {
	Port int
	// Tags and Meta; nil: the service's.
	Tags   []string
	Meta   map[string]string
	Checks []Check
	Proxy  Proxy
}

// ProxyInstance is the mesh proxy of a service that has one as Consul shall hold it. What the proxy doesn't say of itself it
// has from the service.
func (s *Service) ProxyInstance() Service {
	proxy := Service{
		Name: contract.ProxyName(s.Name), Port: s.Sidecar.Port, Tags: s.Sidecar.Tags, Meta: s.Sidecar.Meta, Checks: s.Sidecar.Checks,
		Health: s.Health, Weights: s.Weights, Namespace: s.Namespace, Partition: s.Partition,
	}
	if proxy.Tags == nil {
		proxy.Tags = s.Tags
	}
	if proxy.Meta == nil {
		proxy.Meta = s.Meta
	}
	return proxy
}

// Proxy is what a mesh proxy is told to do. Its Config, as an upstream's, holds numbers and texts.
type Proxy struct {
	// LocalServiceAddress and LocalServicePort are where the application listens for it.
	LocalServiceAddress string
	LocalServicePort    int
	Upstreams           []Upstream
	Config              map[string]any
}

// Upstream is a service of the mesh that the application reaches at a port of its own loopback.
type Upstream struct {
	// DestinationType is Consul's: service or prepared_query.
	DestinationType, DestinationName           string
	DestinationPeer, Datacenter                string
	DestinationNamespace, DestinationPartition string // Consul Enterprise's; passed through
	LocalBindAddress                           string
	LocalBindPort                              int
	Config                                     map[string]any
}

// Settings are the registrar's.
type Settings struct {
	Gate            contract.GateMode
	GateTimeout     time.Duration // 0: never
	GatePolicy      contract.GatePolicyMode
	Readiness       contract.ReadinessSource
	Placement       contract.PlacementMode // where the agentlet runs, never auto
	HeartbeatTTL    time.Duration
	DeregisterAfter time.Duration
	DrainDelay      time.Duration
	DrainTimeout    time.Duration // 0: not set, see contract.DefaultDrainTimeout
	DrainHook       contract.DrainHookMode
	AgentletPort    int
	LocalAPI        contract.LocalAPIMode
	ConnectInject   bool
	Exclude         []string // containers that do not count for readiness
	LogLevel        string
	Resources       Resources
}

// Resources of the agentlet's container. A nil quantity is not set; a limit of "0" leaves it unset, too.
type Resources struct {
	CPURequest, MemoryRequest, CPULimit, MemoryLimit *resource.Quantity
}
