package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strconv"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/consul"
	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/logs"
)

// options are the flags of run, which the injector writes into the container.
type options struct {
	identity  agentlet.Identity
	consul    consul.Config
	nonce     string
	port      int
	defaults  registration.Defaults
	allowed   registration.Allowed
	gates     []string // of another system
	logLevel  slog.Level
	logFormat string
}

// parse parses flags and the environment, and returns all errors.
func parse(args []string, env func(string) string, stderr io.Writer) (options, error) {
	o := options{defaults: registration.Defaults{}}
	flags := flag.NewFlagSet("agentlet run", flag.ContinueOnError)
	flags.SetOutput(stderr)
	consulPort := flags.Int("consul-port", 8500, "port of the node's Consul agent")
	flags.StringVar(&o.consul.Scheme, "consul-scheme", "http", "http or https")
	flags.StringVar(&o.consul.TLS.ServerName, "consul-tls-server-name", consul.DefaultServerName,
		"name that the Consul agent's certificate is for")
	flags.StringVar(&o.consul.TLS.CAFile, "consul-ca-file", "",
		"file with authorities for the Consul agent's certificate, beside those in the environment variable "+contract.EnvConsulCA)
	flags.StringVar(&o.consul.TLS.CertFile, "consul-client-cert", "", "file with the client certificate for the Consul agent")
	flags.StringVar(&o.consul.TLS.KeyFile, "consul-client-key", "", "file with its key")
	flags.StringVar(&o.consul.ACL.TokenFile, "consul-token-file", "", "file with a token of Consul's ACL system")
	flags.StringVar(&o.consul.ACL.AuthMethod, "consul-auth-method", "", "auth method of Consul's to log in with, instead of a token")
	flags.StringVar(&o.consul.ACL.BearerFile, "consul-bearer-token-file", "",
		"with --consul-auth-method: file with the service account's token to log in with")
	flags.StringVar(&o.consul.ACL.ProxyAuthMethod, "proxy-auth-method", "",
		"auth method of Consul's that makes the mesh proxy's token, by the same token of the service account")
	flags.StringVar(&o.consul.ACL.ProxyTokenFile, "proxy-token-file", "", "with --proxy-auth-method: file to write that token into")
	flags.StringVar(&o.consul.NodeName, "consul-node", "", "name of the node in Consul, where its address there isn't the node's IP")
	flags.StringVar(&o.identity.Cluster, "cluster-name", "", "becomes the meta "+contract.MetaCluster)
	flags.IntVar(&o.port, "port", 19500, "port of the agentlet's own HTTP server")
	flags.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "debug, info, warn or error")
	flags.StringVar(&o.logFormat, "log-format", logs.JSON, "text or json")
	flags.Func(
		registration.DefaultFlag,
		"KEY=VALUE: the installation's default for a key of the contract, or with the key's prefix the namespace's, which comes first; may be repeated",
		o.defaults.SetFlag,
	)
	flags.Func(
		"allowed-services",
		"comma-separated globs of the service names that the pod may register; all when absent",
		func(text string) (err error) {
			o.allowed.Services, err = registration.ParseServiceGlobs(text, sourceOf(contract.AllowedServices))
			return err
		},
	)
	flags.Func(
		"allowed-tags",
		"comma-separated globs of the tags that the pod may register; all when absent",
		func(text string) (err error) {
			o.allowed.Tags, err = registration.ParseTagGlobs(text, sourceOf(contract.AllowedTags))
			return err
		},
	)
	flags.Func(
		"other-gate",
		"condition of another system's that opens with the agentlet's own, where the pod lists it as a readiness gate; may be repeated",
		func(name string) error {
			if wrong := validation.IsQualifiedName(name); len(wrong) > 0 {
				return errors.New("want the name of a condition: " + wrong[0])
			}
			o.gates = append(o.gates, name)
			return nil
		},
	)
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	var errs []error
	require := func(name string) string {
		value := env(name)
		if value == "" {
			errs = append(errs, fmt.Errorf("environment variable %s is missing; the webhook sets it", name))
		}
		return value
	}
	o.identity.Namespace = require(contract.EnvPodNamespace)
	o.identity.Pod = require(contract.EnvPodName)
	o.identity.UID = require(contract.EnvPodUID)
	o.identity.Node = require(contract.EnvNodeName)
	o.identity.PodIP = require(contract.EnvPodIP)
	o.identity.HostIP = require(contract.EnvHostIP)
	o.nonce = require(contract.EnvNonce)
	if flags.NArg() > 0 {
		errs = append(errs, fmt.Errorf("unexpected arguments: %q", flags.Args()))
	}
	for name, port := range map[string]int{"consul-port": *consulPort, "port": o.port} {
		if port < 1 || port > 65535 {
			errs = append(errs, fmt.Errorf("--%s=%d: want a port number, 1 to 65535", name, port))
		}
	}
	if o.consul.Scheme != "http" && o.consul.Scheme != "https" {
		errs = append(errs, fmt.Errorf("--consul-scheme=%q: want http or https", o.consul.Scheme))
	}
	if acl := o.consul.ACL; acl.TokenFile != "" && acl.AuthMethod != "" || (acl.AuthMethod == "") != (acl.BearerFile == "") {
		errs = append(
			errs,
			fmt.Errorf(
				"--consul-token-file=%q, --consul-auth-method=%q, --consul-bearer-token-file=%q: want the first alone, or the others together",
				acl.TokenFile,
				acl.AuthMethod,
				acl.BearerFile,
			),
		)
	}
	if acl := o.consul.ACL; (acl.ProxyAuthMethod == "") != (acl.ProxyTokenFile == "") ||
		acl.ProxyAuthMethod != "" && acl.AuthMethod == "" {
		errs = append(
			errs,
			fmt.Errorf("--proxy-auth-method=%q, --proxy-token-file=%q: want both, beside --consul-auth-method", acl.ProxyAuthMethod,
				acl.ProxyTokenFile),
		)
	}
	if o.logFormat != logs.Text && o.logFormat != logs.JSON {
		errs = append(errs, fmt.Errorf("--log-format=%q: want text or json", o.logFormat))
	}
	o.consul.HostIP = o.identity.HostIP
	o.consul.TLS.CA = env(contract.EnvConsulCA)
	o.consul.ACL.Meta = map[string]string{"pod": o.identity.Namespace + "/" + o.identity.Pod}
	o.consul.Address = net.JoinHostPort(o.identity.HostIP, strconv.Itoa(*consulPort))
	o.identity.ConsulAddress = o.consul.Address
	return o, errors.Join(errs...)
}

// sourceOf describes the origin of globs that were passed at admission.
func sourceOf(annotation string) string {
	return contract.Short(annotation) + " as it was when the pod was created"
}

func (o options) logger(w io.Writer) *slog.Logger { return logs.New(w, o.logFormat, o.logLevel) }
