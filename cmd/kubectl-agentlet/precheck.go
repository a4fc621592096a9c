package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/pflag"

	"github.com/agentlet/agentlet/internal/cli/check"
	"github.com/agentlet/agentlet/internal/openshift"
)

// defaultInto is the namespace that the docs install into.
const defaultInto = "agentlet-system"

// preOptions are the flags of check that count before an installation only.
type preOptions struct {
	pre          bool
	consulPort   int
	consulScheme string
	probe        bool
	image        string
	patience     time.Duration
}

func (o *preOptions) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&o.pre, "pre", false,
		"look at a cluster before anything is installed; -n is the namespace to install into, by default "+defaultInto)
	flags.IntVar(&o.consulPort, "consul-port", 8500,
		"with --pre: HTTP port of the nodes' Consul agents, as consul.port of the chart")
	flags.StringVar(&o.consulScheme, "consul-scheme", "http", "with --pre: http or https, as consul.scheme of the chart")
	flags.BoolVar(&o.probe, "probe-nodes", false,
		"with --pre: create a pod on each node, at most 16 at once, in the namespace of -n, that asks the node's Consul agent; "+
			"each is deleted at its end")
	flags.StringVar(&o.image, "image", "", "with --probe-nodes: image of the agentlet for these pods (required)")
	flags.DurationVar(&o.patience, "probe-patience", time.Minute,
		"with --probe-nodes: how long one of these pods may take, with the pull of its image")
}

// validate names the flags that don't go together. namespace is that of -n.
func (o *preOptions) validate(flags *pflag.FlagSet, namespace string) (errs error) {
	requires := func(flag, other string, is bool) {
		if flags.Changed(flag) && !is {
			errs = errors.Join(errs, fmt.Errorf("--%s: only with --%s", flag, other))
		}
	}
	for _, flag := range []string{"consul-port", "consul-scheme", "probe-nodes"} {
		requires(flag, "pre", o.pre)
	}
	for _, flag := range []string{"image", "probe-patience"} {
		requires(flag, "probe-nodes", o.probe)
	}
	if o.consulPort < 1 || o.consulPort > 65535 {
		errs = errors.Join(errs, fmt.Errorf("--consul-port %d: must be a port number, 1 to 65535", o.consulPort))
	}
	if o.consulScheme != "http" && o.consulScheme != "https" {
		errs = errors.Join(errs, fmt.Errorf("--consul-scheme %q: must be http or https", o.consulScheme))
	}
	if o.patience <= 0 {
		errs = errors.Join(errs, fmt.Errorf("--probe-patience %s: must be more than 0", o.patience))
	}
	if o.probe && o.image == "" {
		errs = errors.Join(errs, errors.New("--probe-nodes: needs --image, the agentlet's, such as registry.example/agentlet:0.1.0"))
	}
	if o.probe && namespace == "" {
		errs = errors.Join(errs, errors.New("--probe-nodes: needs -n, an existing namespace for its pods"))
	}
	return errs
}

// run looks at the cluster before an installation.
func (o *preOptions) run(ctx context.Context, config check.Config) []check.Finding {
	config.ConsulPort, config.ConsulScheme = o.consulPort, o.consulScheme
	into := cmp.Or(config.Namespace, defaultInto)
	config.Namespace = ""
	pre := check.Pre{Config: config, Into: into, OpenShift: func(ctx context.Context) (bool, error) {
		return openshift.AssignsUsers(ctx, config.Kube.Discovery().RESTClient())
	}}
	if o.probe {
		pre.Probe = &check.Probe{Image: o.image, Patience: o.patience}
	}
	return check.RunPre(ctx, pre)
}
