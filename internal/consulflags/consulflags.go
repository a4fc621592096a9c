// Package consulflags are the flags that say how agentlets reach their Consul agent, alike in each program that injects.
package consulflags

import (
	"github.com/spf13/pflag"

	"github.com/agentlet/agentlet/injector"
)

// Add adds them. Their defaults are those of the chart, whatever the configuration holds.
func Add(flags *pflag.FlagSet, config *injector.Config) {
	flags.IntVar(&config.ConsulPort, "consul-port", 8500, "HTTP or HTTPS port of the Consul agent on each node")
	flags.StringVar(&config.ConsulScheme, "consul-scheme", "http", "http or https")

	tls, acl := &config.ConsulTLS, &config.ConsulACL
	flags.StringVar(&tls.CA, "consul-tls-ca", "", "with https: authorities for the Consul agents' certificates in PEM form; every pod shows them")
	flags.StringVar(&tls.ConfigMap, "consul-tls-configmap", "", "with https: ConfigMap in each pod's namespace with ca.crt")
	flags.StringVar(&tls.Secret, "consul-tls-secret", "", "with https: Secret in each pod's namespace with a client certificate, tls.crt and tls.key, and ca.crt where there is no ConfigMap")
	flags.StringVar(&tls.ServerName, "consul-tls-server-name", "", "with https: name that the Consul agents' certificates are for (localhost)")
	flags.StringVar((*string)(&acl.Mode), "consul-acl", string(injector.ACLNone), "where an agentlet's Consul token comes from: none, token (a Secret) or login")
	flags.StringVar(&acl.Secret, "consul-acl-secret", "", "with --consul-acl=token: Secret in each pod's namespace with the key token")
	flags.StringVar(&acl.AuthMethod, "consul-auth-method", "", "with --consul-acl=login: Consul's auth method")
	flags.StringVar(&acl.Audience, "consul-audience", "", "with --consul-acl=login: audience of a token of its own, for auth methods of type jwt; empty: the API server's token, for type kubernetes")
}
