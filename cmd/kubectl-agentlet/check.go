package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentlet/agentlet/internal/cli/apiproxy"
	"github.com/agentlet/agentlet/internal/cli/check"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// checkOptions are the flags of check.
type checkOptions struct {
	output
	consulAddr string
	patience   time.Duration
	timeout    time.Duration
	pre        preOptions
}

func newCheck(kube *kube, getenv func(string) string) *cobra.Command {
	o := &checkOptions{patience: 2 * time.Minute, timeout: defaultTimeout, consulAddr: getenv("CONSUL_HTTP_ADDR")}
	command := &cobra.Command{
		Use:   "check",
		Short: "Finds out whether the installation and the nodes' Consul agents work, and what to do if not",
		Long: `Looks at the installation from where you stand, through the API server: Kubernetes' version, the webhook and the
certificate that it serves, the admission policy, what the service accounts of injected pods may do, the Consul agent of
each node, annotated pods without an agentlet, and gates that stay closed. It changes nothing: the one pod that it creates
is a dry run. With Consul's address (CONSUL_HTTP_ADDR or --consul-addr) the catalog is looked at, too.

With --pre it looks at a cluster before anything is installed: versions, the rights that helm install needs, a Consul agent on
each node and how it is configured, nodes that can't run one, OpenShift, and other meshes. It creates nothing, unless
--probe-nodes allows a short-lived pod on each node.

Each finding is ok, skip (could not be looked at), warn or fail; what is not well comes with its remedy. The exit code is 1
if anything fails, and 2 if the API server does not answer. Pods are those of all namespaces, unless one is named.`,
		Example: examples(`
kubectl agentlet check
# One namespace's pods, for a script
kubectl agentlet check -n shop -o json
# With a look at Consul's catalog
CONSUL_HTTP_ADDR=consul.example:8500 kubectl agentlet check
# Before the installation; and again with a pod on each node that asks its Consul agent
kubectl agentlet check --pre
kubectl agentlet check --pre --probe-nodes -n default --image registry.example/agentlet:0.1.0`),
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return runCheck(command, kube, o, printer.Colours(command.OutOrStdout(), getenv))
		},
	}
	o.addFlags(command, "print only warnings and failures", outputJSON, outputYAML)
	command.Flags().StringVar(&o.consulAddr, "consul-addr", o.consulAddr,
		"address of Consul's HTTP API (default $CONSUL_HTTP_ADDR); its other settings are Consul's own environment variables")
	command.Flags().DurationVar(&o.patience, "patience", o.patience, "how long a gate may be closed")
	command.Flags().DurationVar(&o.timeout, "timeout", o.timeout, "how long to look at most")
	o.pre.addFlags(command.Flags())
	return command
}

func runCheck(command *cobra.Command, kube *kube, o *checkOptions, colours bool) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.timeout <= 0 {
		return fmt.Errorf("--timeout %s: must be more than 0", o.timeout)
	}
	if err := o.pre.validate(command.Flags(), kube.overrides.Context.Namespace); err != nil {
		return err
	}
	client, err := kube.client()
	if err != nil {
		return err
	}
	config := check.Config{
		Kube: client, Cluster: apiproxy.Cluster{Client: client},
		Namespace: kube.overrides.Context.Namespace, Patience: o.patience, Now: time.Now(),
	}
	if o.consulAddr != "" {
		consul, err := check.NewAPI(o.consulAddr)
		if err != nil {
			return err
		}
		config.Consul = consul
	}
	ctx, cancel := context.WithTimeout(command.Context(), o.timeout)
	defer cancel()
	look := check.Run
	if o.pre.pre {
		look = o.pre.run
	}
	findings := look(ctx, config)
	shown := findings
	if o.quiet {
		shown = check.Wrong(findings)
	}
	out := printer.New(command.OutOrStdout(), colours)
	switch {
	case o.structured():
		err = o.write(command.OutOrStdout(), check.NewReport(shown))
	case o.quiet:
		check.WriteFindings(out, shown)
		err = out.Err()
	default:
		check.Write(out, shown)
		err = out.Err()
	}
	switch {
	case err != nil:
		return err
	case !check.Reached(findings):
		return errNotRun
	case check.Worst(findings) == check.Fail:
		return errSaid
	}
	return nil
}
