package contract

import "strings"

// The pod annotations. Where PerService is said in Keys, KEY.NAME holds the value for the service NAME alone.
const (
	ServiceNames     = Prefix + "service-names"
	ServicePort      = Prefix + "service-port"
	ServiceTags      = Prefix + "service-tags"
	ServiceMeta      = Prefix + "service-meta"
	ServiceHealth    = Prefix + "service-health"
	Services         = Prefix + "services"
	TagsFromLabels   = Prefix + "tags-from-labels"
	MetaFromLabels   = Prefix + "meta-from-labels"
	ContainerExclude = Prefix + "container-exclude"
	HeartbeatTTL     = Prefix + "heartbeat-ttl"
	DeregisterAfter  = Prefix + "deregister-after"
	Gate             = Prefix + "gate"
	GateTimeout      = Prefix + "gate-timeout"
	GatePolicy       = Prefix + "gate-policy"
	Readiness        = Prefix + "readiness"
	Placement        = Prefix + "placement"
	DrainDelay       = Prefix + "drain-delay"
	DrainTimeout     = Prefix + "drain-timeout"
	DrainHook        = Prefix + "drain-hook"
	AgentletPort     = Prefix + "agentlet-port"
	CPURequest       = Prefix + "cpu-request"
	MemoryRequest    = Prefix + "memory-request"
	CPULimit         = Prefix + "cpu-limit"
	MemoryLimit      = Prefix + "memory-limit"
	LocalAPI         = Prefix + "local-api"
	ConnectInject    = Prefix + "connect-inject"
	LogLevel         = Prefix + "log-level"
)

// The namespace annotations with globs of what the namespace's pods may register.
const (
	AllowedServices = Prefix + "allowed-services"
	AllowedTags     = Prefix + "allowed-tags"
)

// Key describes one key of the contract.
type Key struct {
	// Name is the full key.
	Name string
	// Where it is read: "namespace label", "namespace annotation", "pod label or annotation", "pod annotation", "pod or namespace
	// annotation".
	Where string
	// PerService says that KEY.NAME is read too.
	PerService bool
	// Form is the value's form, as an error message says it: "a duration such as 30s".
	Form string
	// Default is the value in force when the key is absent; empty where absence has a meaning of its own.
	Default string
	// Doc is one sentence for the docs.
	Doc string
}

// Values of Where.
const (
	namespaceAnnotation = "namespace annotation"
	podAnnotation       = "pod annotation"
	// podOrNamespace is a setting of the agentlet. A namespace's is the default of its pods. What a pod registers, and what only
	// the pod may ask for (local-api, connect-inject), is no such setting.
	podOrNamespace = "pod or namespace annotation"
)

// NamespaceDefault reports whether a namespace's annotation of this key is the default of its pods.
func (k *Key) NamespaceDefault() bool { return k.Where == podOrNamespace }

func (k *Key) onNamespace() bool { return k.Where == namespaceAnnotation || k.NamespaceDefault() }

var keys = []Key{
	{Name: InjectLabel, Where: "namespace label", Form: InjectEnabled, Doc: "opts the namespace in"},
	{
		Name:    AllowedServices,
		Where:   namespaceAnnotation,
		Form:    "comma-separated globs of service names, such as web,shop-*; one that begins with ! denies, such as !vault",
		Default: "*",
		Doc:     "service names that the namespace's pods may register",
	},
	{
		Name:    AllowedTags,
		Where:   namespaceAnnotation,
		Form:    `comma-separated globs of tags, such as v*,blue, \, for a comma; one that begins with ! denies, such as !urlprefix-*`,
		Default: "*",
		Doc:     "tags that the namespace's pods may register",
	},
	{
		Name:  InjectLabel,
		Where: "pod label or annotation",
		Form:  `"` + InjectDisabled + `"`,
		Doc:   "opts one pod out, as disabled, off and no do; one that runs is deregistered, and its gate opens",
	},
	{Name: ServiceNames, Where: podAnnotation, Form: "comma-separated service names", Doc: "the Consul services of this pod"},
	{
		Name:       ServicePort,
		Where:      podAnnotation,
		PerService: true,
		Form:       "a port number (1-65535), the name of a declared container port, or " + NoPort,
		Doc:        "the services' port; " + NoPort + " for services without one, such as workers; when absent, the first port that the pod declares at admission",
	},
	{
		Name:       ServiceTags,
		Where:      podAnnotation,
		PerService: true,
		Form:       `comma-separated tags, \, for a comma`,
		Doc: "the services' tags; in them and in meta " + PlacePodName + ", " + PlacePodNamespace + " and " + PlaceNodeName +
			" are the pod's own names",
	},
	{
		Name:       ServiceMeta,
		Where:      podAnnotation,
		PerService: true,
		Form:       `key:value,key:value, \, for a comma`,
		Doc:        "the services' meta",
	},
	{
		Name:       ServiceHealth,
		Where:      podAnnotation,
		PerService: true,
		Form:       "passing, warning or critical",
		Doc:        "a fixed health, from the containers' first readiness on, or at once with gate registered; the gate then waits for that health",
	},
	{
		Name:  Services,
		Where: podAnnotation,
		Form:  "a YAML list of Consul service definitions",
		Doc:   "instead of all service-* keys: name, port or ports, tags, meta, weights, address, tagged_addresses, enable_tag_override, checks, connect",
	},
	{
		Name:  TagsFromLabels,
		Where: podAnnotation,
		Form:  "comma-separated pod label keys",
		Doc:   "pod labels whose values become tags, live",
	},
	{
		Name:  MetaFromLabels,
		Where: podAnnotation,
		Form:  "comma-separated key=label or label",
		Doc:   "pod labels whose values become meta, live",
	},
	{
		Name:  ContainerExclude,
		Where: podOrNamespace,
		Form:  "comma-separated container names",
		Doc:   "containers that do not count for readiness",
	},
	{
		Name:    HeartbeatTTL,
		Where:   podOrNamespace,
		Form:    "a duration of at least 3s, such as 30s",
		Default: "30s",
		Doc:     "TTL of the heartbeat check; a heartbeat goes at a third of it, jittered",
	},
	{
		Name:    DeregisterAfter,
		Where:   podOrNamespace,
		Form:    "a duration of at least 1m, such as 2m",
		Default: "2m",
		Doc:     "how long without heartbeat before the node's Consul agent reaps the instance",
	},
	{
		Name:    Gate,
		Where:   podOrNamespace,
		Form:    "passing, registered or off",
		Default: string(GatePassing),
		Doc:     "passing opens when the catalog shows the instance passing; registered opens when the catalog has it, ready or not; off adds no gate",
	},
	{
		Name:    GateTimeout,
		Where:   podOrNamespace,
		Form:    "a duration such as 5m, or never",
		Default: Never,
		Doc:     "opens the gate anyway after this long of ready containers, with the reason TimedOut",
	},
	{
		Name:    GatePolicy,
		Where:   podOrNamespace,
		Form:    "once or continuous",
		Default: string(GateOnce),
		Doc:     "once keeps an open gate open; continuous closes it when the catalog is known to have lost the instance",
	},
	{
		Name:    Readiness,
		Where:   podOrNamespace,
		Form:    "start, kubelet or probe",
		Default: string(ReadinessStart),
		Doc:     "whose word on the containers' readiness counts: the kubelet's, and with start, until the kubelet has called a container ready for the first time, that of its own readiness probe, run by the agentlet each 100 ms, and each 200 ms from half a minute on; with probe the agentlet goes on probing for the pod's life, each 200 ms, and each 100 ms while the probes are about to change the readiness, and a container is ready while both say so",
	},
	{
		Name:    Placement,
		Where:   podOrNamespace,
		Form:    "auto, container or sidecar",
		Default: string(PlacementAuto),
		Doc:     "where the agentlet runs: container makes it the last of the pod's containers; sidecar a native sidecar, which starts before all others and keeps the kubelet two seconds longer from calling the pod Ready; auto is sidecar for pods that may end by themselves, with a mesh proxy, with local-api, or with gate registered, which opens before the application starts then, and else container",
	},
	{
		Name:    DrainDelay,
		Where:   podOrNamespace,
		Form:    "a duration such as 5s",
		Default: "5s",
		Doc:     "wait between 'the catalog dropped it' and the answer to the drain hook; none for a pod that was never ready, except with gate registered",
	},
	{
		Name:  DrainTimeout,
		Where: podOrNamespace,
		Form:  "a duration such as 10s",
		Doc:   "bound on waiting for Consul at termination; 10s or a third of the grace period, whichever is less, when absent",
	},
	{
		Name:    DrainHook,
		Where:   podOrNamespace,
		Form:    "true, false or chain",
		Default: string(DrainHookOn),
		Doc:     "true adds a preStop hook to the application's containers that have none; chain also to those with a sleep or httpGet hook of their own, which the agentlet then runs after the drain; false to none",
	},
	{
		Name:    AgentletPort,
		Where:   podOrNamespace,
		Form:    "a port number (1024-65535)",
		Default: "19500",
		Doc:     "the agentlet's HTTP port; Consul's own expose range is 20000-21755",
	},
	{
		Name:    LocalAPI,
		Where:   podAnnotation,
		Form:    "enabled or disabled",
		Default: string(LocalAPIDisabled),
		Doc:     "enabled lets the pod's own containers say maintenance and tags at the agentlet's port, over the loopback alone; not with hostNetwork",
	},
	{
		Name:    ConnectInject,
		Where:   podAnnotation,
		Form:    "true or false",
		Default: "false",
		Doc:     "true adds the proxy of Consul's service mesh to the pod, for the service whose definition has connect.sidecar_service",
	},
	{Name: CPURequest, Where: podOrNamespace, Form: "a quantity such as 10m", Default: "5m", Doc: "CPU request of the agentlet"},
	{
		Name:    MemoryRequest,
		Where:   podOrNamespace,
		Form:    "a quantity such as 32Mi",
		Default: "16Mi",
		Doc:     "memory request of the agentlet",
	},
	{
		Name:  CPULimit,
		Where: podOrNamespace,
		Form:  "a quantity such as 100m",
		Doc:   "CPU limit of the agentlet; none when absent or 0, but 50m or cpu-request, whichever is more, where the pod is Guaranteed",
	},
	{
		Name:    MemoryLimit,
		Where:   podOrNamespace,
		Form:    "a quantity such as 64Mi",
		Default: "64Mi",
		Doc:     "memory limit of the agentlet, 0 for none; where the pod is Guaranteed the request is raised to it",
	},
	{Name: LogLevel, Where: podOrNamespace, Form: "debug, info, warn or error", Default: "info", Doc: "log level of the agentlet"},
}

// Keys returns the contract's keys in the order of the docs' table. The caller owns the slice.
func Keys() []Key { return append([]Key(nil), keys...) }

// NamespaceAnnotations returns those of a namespace's annotations that the contract reads there; nil where there are none.
func NamespaceAnnotations(annotations map[string]string) (own map[string]string) {
	for i := range keys {
		if !keys[i].onNamespace() {
			continue
		}
		if value, there := annotations[keys[i].Name]; there {
			if own == nil {
				own = map[string]string{}
			}
			own[keys[i].Name] = value
		}
	}
	return own
}

// LookupNamespace finds the annotation of a namespace that key is; ok is false for a key that is not read there.
func LookupNamespace(key string) (k Key, ok bool) {
	for i := range keys {
		if keys[i].Name == key && keys[i].onNamespace() {
			return keys[i], true
		}
	}
	return Key{}, false
}

// Lookup finds the pod annotation that key is: the key itself, or KEY.NAME, for which service is NAME. ok is false for
// a key that the contract does not know, and for NAME on a key that has no per-service form.
func Lookup(key string) (k Key, service string, ok bool) {
	for _, k := range keys {
		if k.Where == "namespace label" || k.Where == namespaceAnnotation {
			continue
		}
		if key == k.Name {
			return k, "", true
		}
		if name, found := strings.CutPrefix(key, k.Name+"."); found && k.PerService && name != "" {
			return k, name, true
		}
	}
	return Key{}, "", false
}
