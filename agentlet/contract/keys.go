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
		Doc:     "service names that its pods may register",
	},
	{
		Name:    AllowedTags,
		Where:   namespaceAnnotation,
		Form:    `comma-separated globs of tags, such as v*,blue, \, for a comma; one that begins with ! denies, such as !urlprefix-*`,
		Default: "*",
		Doc:     "tags that its pods may register",
	},
	{
		Name:  InjectLabel,
		Where: "pod label or annotation",
		Form:  `"` + InjectDisabled + `"`,
		Doc:   "leaves the pod out, as disabled, off and no do; a running pod is deregistered, and its gate opens",
	},
	{Name: ServiceNames, Where: podAnnotation, Form: "comma-separated service names", Doc: "the pod's services in Consul"},
	{
		Name:       ServicePort,
		Where:      podAnnotation,
		PerService: true,
		Form:       "a port number (1-65535), the name of a declared container port, or " + NoPort,
		Doc:        "the services' port; " + NoPort + ": no port, for workers; absent: the first port that the pod declares at admission",
	},
	{
		Name:       ServiceTags,
		Where:      podAnnotation,
		PerService: true,
		Form:       `comma-separated tags, \, for a comma`,
		Doc: "the services' tags; " + PlacePodName + ", " + PlacePodNamespace + " and " + PlaceNodeName +
			" are replaced, as in meta",
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
		Doc:        "a fixed health, from the first readiness on, or at once with gate registered; the gate waits for that health",
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
		Doc:     "TTL of the heartbeat check; the agentlet renews it at a third of it",
	},
	{
		Name:    DeregisterAfter,
		Where:   podOrNamespace,
		Form:    "a duration of at least 1m, such as 2m",
		Default: "2m",
		Doc:     "time without heartbeat after which the node's Consul agent removes the instance",
	},
	{
		Name:    Gate,
		Where:   podOrNamespace,
		Form:    "passing, registered or off",
		Default: string(GatePassing),
		Doc:     "passing: opens when the catalog shows the instance passing; registered: when the catalog has it, ready or not; off: no gate",
	},
	{
		Name:    GateTimeout,
		Where:   podOrNamespace,
		Form:    "a duration such as 5m, or never",
		Default: Never,
		Doc:     "opens the gate after this time of ready containers, with the reason TimedOut",
	},
	{
		Name:    GatePolicy,
		Where:   podOrNamespace,
		Form:    "once or continuous",
		Default: string(GateOnce),
		Doc:     "once: an open gate stays open; continuous: it closes when the catalog is known to have lost the instance",
	},
	{
		Name:    Readiness,
		Where:   podOrNamespace,
		Form:    "start, kubelet or probe",
		Default: string(ReadinessStart),
		Doc: "start: the agentlet runs the readiness probes itself until the kubelet first reports a container ready; probe: for the pod's life; " +
			"kubelet: never",
	},
	{
		Name:    Placement,
		Where:   podOrNamespace,
		Form:    "auto, container or sidecar",
		Default: string(PlacementAuto),
		Doc: "container: the agentlet is the pod's last container; sidecar: a native sidecar, which delays Ready by up to two seconds; " +
			"auto: sidecar for pods that may end by themselves, with a mesh proxy, local-api or gate registered, else container",
	},
	{
		Name:    DrainDelay,
		Where:   podOrNamespace,
		Form:    "a duration such as 5s",
		Default: "5s",
		Doc:     "wait between leaving the catalog and SIGTERM; none for a pod that was never ready, except with gate registered",
	},
	{
		Name:  DrainTimeout,
		Where: podOrNamespace,
		Form:  "a duration such as 10s",
		Doc:   "longest wait for Consul at termination; absent: 10s or a third of the grace period, whichever is less",
	},
	{
		Name:    DrainHook,
		Where:   podOrNamespace,
		Form:    "true, false or chain",
		Default: string(DrainHookOn),
		Doc: "true: adds a preStop hook to containers that have none; chain: also to those with a sleep or httpGet hook, which then runs " +
			"after the drain; false: adds none",
	},
	{
		Name:    AgentletPort,
		Where:   podOrNamespace,
		Form:    "a port number (1024-65535)",
		Default: "19500",
		Doc:     "the agentlet's HTTP port; not 20000-21755, which Consul uses to expose checks",
	},
	{
		Name:    LocalAPI,
		Where:   podAnnotation,
		Form:    "enabled or disabled",
		Default: string(LocalAPIDisabled),
		Doc:     "enabled: the pod's containers may set maintenance and tags over the loopback; not with hostNetwork",
	},
	{
		Name:    ConnectInject,
		Where:   podAnnotation,
		Form:    "true or false",
		Default: "false",
		Doc:     "true: adds a proxy of Consul's mesh, for the service that has connect.sidecar_service",
	},
	{Name: CPURequest, Where: podOrNamespace, Form: "a quantity such as 10m", Default: "5m", Doc: "the agentlet's CPU request"},
	{
		Name:    MemoryRequest,
		Where:   podOrNamespace,
		Form:    "a quantity such as 32Mi",
		Default: "16Mi",
		Doc:     "the agentlet's memory request",
	},
	{
		Name:  CPULimit,
		Where: podOrNamespace,
		Form:  "a quantity such as 100m",
		Doc:   "the agentlet's CPU limit; absent or 0: none, but in a Guaranteed pod 50m or cpu-request, whichever is more",
	},
	{
		Name:    MemoryLimit,
		Where:   podOrNamespace,
		Form:    "a quantity such as 64Mi",
		Default: "64Mi",
		Doc:     "the agentlet's memory limit, 0 for none; in a Guaranteed pod the request is raised to it",
	},
	{Name: LogLevel, Where: podOrNamespace, Form: "debug, info, warn or error", Default: "info", Doc: "the agentlet's log level"},
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
