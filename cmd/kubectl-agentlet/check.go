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

Each finding is ok, skip (could not be looked at), warn or fail; what is not well comes with its remedy. The exit code is 1
if anything fails, and 2 if the API server does not answer. Pods are those of all namespaces, unless one is named.`,
		Example: examples(`
kubectl agentlet check
# One namespace's pods, for a script
kubectl agentlet check -n shop -o json
# With a look at Consul's catalog
CONSUL_HTTP_ADDR=consul.example:8500 kubectl agentlet check`),
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
	return command
}

func runCheck(command *cobra.Command, kube *kube, o *checkOptions, colours bool) error {
	if err := o.check(); err != nil {
		return err
	}
	if o.timeout <= 0 {
		return fmt.Errorf("--timeout %s: must be more than 0", o.timeout)
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
	findings := check.Run(ctx, config)
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
