// Package contract holds every name that agentlet shares with people and with other programs: labels, annotations,
// the pod condition and its reasons, container and volume names, Consul IDs and meta keys, HTTP paths, with their
// defaults and descriptions. Nothing else in this repository repeats one of them, and the tables in the docs are
// generated from here.
package contract

import (
	"fmt"
	"strings"
)

// Prefix starts every label and annotation key of the contract.
const Prefix = "agentlet.dev/"

// Names that are not annotation keys.
const (
	// InjectLabel on a namespace with the value InjectEnabled opts it in; on a pod, as a label or an annotation, the
	// value InjectDisabled opts that pod out, and so do its other words (OptsOut).
	InjectLabel    = Prefix + "inject"
	InjectEnabled  = "enabled"
	InjectDisabled = "false"

	// Condition is the pod condition and readiness gate that the agentlet writes.
	Condition = Prefix + "registered"

	// ContainerName is the injected container's name; PortName that of its port.
	ContainerName = "agentlet"
	PortName      = "agentlet"

	// RoleGroup, RoleResource and RoleVerb are a right that nothing needs, to a resource that does not exist. The
	// agentlet's role has it, so that admission policies know whom they bound.
	RoleGroup    = "agentlet.dev"
	RoleResource = "gates"
	RoleVerb     = "open"

	// VolumeName is the projected volume with the agentlet's own token, CA certificate and namespace.
	VolumeName = "agentlet-identity"
	// IdentityPath is where the volume is mounted: the place where client-go looks for it.
	IdentityPath = "/var/run/secrets/kubernetes.io/serviceaccount"
)

// The injected mesh proxy.
const (
	// ProxyContainerName is the native sidecar's name.
	ProxyContainerName = "agentlet-proxy"
	// ProxyVolumeName is the projected volume with what it needs for Consul, and ProxyPath where that is mounted.
	ProxyVolumeName = "agentlet-proxy"
	ProxyPath       = "/var/run/secrets/agentlet.dev/proxy"
	// ProxyScratchName is the volume for what it writes, in memory, and ProxyScratchPath where that is mounted.
	ProxyScratchName = "agentlet-proxy-tmp"
	ProxyScratchPath = "/tmp"
	// ProxyTokenName is the volume by which the agentlet hands the proxy a token of its own, in memory; ProxyTokenPath where that is
	// mounted, and ProxyToken the file.
	ProxyTokenName = "agentlet-proxy-token"
	ProxyTokenPath = ProxyPath + "-token"
	ProxyToken     = ProxyTokenPath + "/token"
	// ProxyPort is a mesh proxy's port where the annotation says none.
	ProxyPort = 20000
	// EnvoyAdminPort is that of Envoy's admin listener, on the pod's loopback.
	EnvoyAdminPort = 19000
	// EnvProxyID tells Consul's program which mesh proxy it is: its ProxyIDReference.
	EnvProxyID = "CONNECT_PROXY_ID"
)

// Files below IdentityPath for the node's Consul agent; those that the installation doesn't ask for aren't there.
const (
	ConsulCAFile     = "consul/ca.crt"
	ConsulCertFile   = "consul/tls.crt"
	ConsulKeyFile    = "consul/tls.key"
	ConsulTokenFile  = "consul/token"  // a token of Consul's ACL system
	ConsulBearerFile = "consul/bearer" // the service account's token to log in with
	// ConsulTokenKey is the key of the token in its Secret; those of TLS are Kubernetes' own.
	ConsulTokenKey = "token"
)

// HTTP paths of the agentlet, and the headers of a drain hook. NonceHeader shows that it belongs to the agentlet's own pod.
// ContainerHeader names the container, where that one has a hook of its own to be run after the drain.
const (
	LivezPath   = "/livez"
	ReadyzPath  = "/readyz"
	StatusPath  = "/status"
	MetricsPath = "/metrics"
	DrainPath   = "/drain"
	NonceHeader = "Agentlet-Nonce"

	ContainerHeader = "Agentlet-Container"

	// The local API: both by PUT, with a JSON object, over the pod's loopback alone.
	MaintenancePath = "/v1/maintenance"
	TagsPath        = "/v1/tags"
)

// MaintenanceOutput begins the readiness check's output while the application is in maintenance mode; the
// application's reason follows. A restarted agentlet knows by it that the maintenance goes on.
const MaintenanceOutput = "maintenance: "

// Environment of the injected container, written by the injector and read by the agentlet.
const (
	EnvPodName      = "POD_NAME"
	EnvPodNamespace = "POD_NAMESPACE"
	EnvPodUID       = "POD_UID"
	EnvNodeName     = "NODE_NAME"
	EnvPodIP        = "POD_IP"
	EnvHostIP       = "HOST_IP"
	EnvNonce        = "AGENTLET_NONCE"
	EnvConsulCA     = "AGENTLET_CONSUL_CA" // authorities in PEM form; where the installation gives them inline
)

// Placeholders in tags and in values of meta, for the pod's own names.
const (
	PlacePodName      = "${" + EnvPodName + "}"
	PlacePodNamespace = "${" + EnvPodNamespace + "}"
	PlaceNodeName     = "${" + EnvNodeName + "}"
)

// What the injector writes down in the environment of the injected container, and reads there again, as the agentlet does: in
// the pod, not in its own environment.
const (
	// EnvInjectedFor is the name of the pod that was injected, or PREFIX* where the API server makes it.
	// A copy of the pod has another name. It is absent where the name was not known, as in a template.
	EnvInjectedFor = "AGENTLET_INJECTED_FOR"
	// EnvDefaultPort is the port that services have of which the annotations say none: the first one that the pod declared then.
	// Others put containers before those of the application later. It is NoDefaultPort where the pod declared none. An injector
	// renews it where a manifest was changed since.
	EnvDefaultPort = "AGENTLET_DEFAULT_PORT"
	NoDefaultPort  = "none"
)

// Meta keys of every service that an agentlet registers.
const (
	MetaExternalSource = "external-source" // MetaExternalSourceValue
	MetaManagedBy      = "managed-by"      // MetaManagedByValue
	MetaNamespace      = "k8s-namespace"
	MetaPod            = "k8s-pod"
	MetaPodUID         = "k8s-pod-uid"
	MetaNode           = "k8s-node"
	MetaCluster        = "k8s-cluster"
	// MetaSyncGeneration is a number that the agentlet raises when the catalog lags behind its agent: a changed definition
	// makes the agent sync at once, where an identical one would be taken for synced.
	MetaSyncGeneration = "agentlet-sync-generation"
	// MetaNudge is MetaSyncGeneration as older agentlets call it: still read, never written.
	MetaNudge = "agentlet-nudge"

	MetaExternalSourceValue = "kubernetes"
	MetaManagedByValue      = "agentlet"
)

// MetaKeys returns the meta keys that the agentlet sets itself; a service's own meta may not use them. The caller owns
// the slice.
func MetaKeys() []string {
	return []string{
		MetaExternalSource, MetaManagedBy, MetaNamespace, MetaPod, MetaPodUID, MetaNode, MetaCluster, MetaSyncGeneration,
	}
}

// IDPrefix starts the IDs of all pods' service instances.
const IDPrefix = "agentlet_"

// ServicePrefix starts the IDs of every service instance of one pod: agentlet_<namespace>_<pod>_<first 8 of the UID>.
// It holds no slash, because check IDs are URL segments, and it holds the UID, so that a StatefulSet's new pod never
// shares an ID with its predecessor.
func ServicePrefix(namespace, pod, uid string) string {
	if len(uid) > 8 {
		uid = uid[:8]
	}
	return IDPrefix + namespace + "_" + pod + "_" + uid
}

// ServiceID is the Consul service ID of one service of one pod.
func ServiceID(namespace, pod, uid, service string) string {
	return ServicePrefix(namespace, pod, uid) + "_" + service
}

// ProxyID is the Consul service ID of the mesh proxy of one service of one pod. It holds the whole UID, so that the kubelet
// can tell it to the proxy's container: it puts fields of the pod together, and cuts none.
func ProxyID(namespace, pod, uid, service string) string {
	return IDPrefix + namespace + "_" + pod + "_" + uid + "_" + ProxyName(service)
}

// ProxyIDReference is the ProxyID of a service's proxy in the pod whose environment it stands in, as the kubelet completes it.
func ProxyIDReference(service string) string {
	return ProxyID("$("+EnvPodNamespace+")", "$("+EnvPodName+")", "$("+EnvPodUID+")", service)
}

// ProxyName is the name of a service's mesh proxy: Consul's own, for which a service's identity has rights.
func ProxyName(service string) string { return service + "-sidecar-proxy" }

// HeartbeatID is the ID of the check that lives while the agentlet does, and by which the node's agent reaps the
// instance when it has died.
func HeartbeatID(serviceID string) string { return serviceID + ":heartbeat" }

// ReadinessID is the ID of the check that carries the pod's readiness. It is never reaped.
func ReadinessID(serviceID string) string { return serviceID + ":readiness" }

// CheckID is the ID of the service's own check with this index in the structured form.
func CheckID(serviceID string, index int) string { return fmt.Sprintf("%s:check-%d", serviceID, index) }

// Short cuts the prefix off a key. A key without the prefix is returned as it is.
func Short(key string) string { return strings.TrimPrefix(key, Prefix) }
