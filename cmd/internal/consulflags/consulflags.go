// Package consulflags defines the flags for the connection of agentlets and mesh proxies to their Consul agent. All programs that
// inject have the same flags.
package consulflags

import (
	"github.com/spf13/pflag"

	"github.com/agentlet/agentlet/injector"
)

// Add adds the flags. Their defaults are those of the chart; it ignores the values in config.
func Add(flags *pflag.FlagSet, config *injector.Config) {
	flags.IntVar(&config.ConsulPort, "consul-port", 8500, "HTTP or HTTPS port of the Consul agent on each node")
	flags.StringVar(&config.ConsulScheme, "consul-scheme", "http", "http or https")

	tls, acl := &config.ConsulTLS, &config.ConsulACL
	flags.StringVar(&tls.CA, "consul-tls-ca", "",
		"with https: authorities for the Consul agents' certificates in PEM form; every pod shows them")
	flags.StringVar(&tls.ConfigMap, "consul-tls-configmap", "", "with https: ConfigMap in each pod's namespace with ca.crt")
	flags.StringVar(&tls.Secret, "consul-tls-secret", "",
		"with https: Secret in each pod's namespace with a client certificate, tls.crt and tls.key, and ca.crt where there is no ConfigMap")
	flags.StringVar(&tls.ServerName, "consul-tls-server-name", "",
		"with https: name that the Consul agents' certificates are for (localhost)")
	flags.StringVar((*string)(&acl.Mode), "consul-acl", string(injector.ACLNone),
		"where an agentlet's Consul token comes from: none, token (a Secret) or login")
	flags.StringVar(&acl.Secret, "consul-acl-secret", "",
		"with --consul-acl=token: Secret in each pod's namespace with the key token")
	flags.StringVar(&acl.AuthMethod, "consul-auth-method", "", "with --consul-acl=login: Consul's auth method")
	flags.StringVar(&acl.Audience, "consul-audience", "",
		"with --consul-acl=login: audience of a token of its own, for auth methods of type jwt; empty: the API server's token, for type kubernetes")

	connect := &config.Connect
	flags.StringVar(&connect.Image, "connect-image", "",
		"image of the mesh proxy, with the program consul, and envoy where that is the proxy; empty: no pod may ask for a proxy")
	flags.StringVar((*string)(&connect.ImagePullPolicy), "connect-image-pull-policy", "",
		"its pull policy; empty: Kubernetes' default")
	flags.StringVar((*string)(&connect.Proxy), "connect-proxy", string(injector.Envoy), "envoy, or Consul's builtin for development")
	flags.IntVar(&connect.GRPCPort, "connect-grpc-port", 8502, "gRPC port of the Consul agent on each node, for Envoy")
	flags.StringVar(&connect.Secret, "connect-secret", "",
		"Secret in each pod's namespace with the mesh proxy's Consul token under the key token")
	flags.StringVar(&connect.AuthMethod, "connect-auth-method", "",
		"with --consul-acl=login: Consul's auth method, without a token TTL, by which each mesh proxy gets a token of its own")
	flags.StringArrayVar(&connect.Args, "connect-arg", nil,
		"one more argument of the mesh proxy, repeatable: flags of consul connect, and after -- of Envoy")
	flags.StringVar(&connect.CPURequest, "connect-cpu-request", "", "CPU request of the mesh proxy")
	flags.StringVar(&connect.MemoryRequest, "connect-memory-request", "", "memory request of the mesh proxy")
	flags.StringVar(&connect.CPULimit, "connect-cpu-limit", "", "CPU limit of the mesh proxy")
	flags.StringVar(&connect.MemoryLimit, "connect-memory-limit", "", "memory limit of the mesh proxy")
}
