package main

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/agentlet/agentlet/internal/cli/apiproxy"
	"github.com/agentlet/agentlet/internal/cli/printer"
	"github.com/agentlet/agentlet/internal/cli/versions"
	"github.com/agentlet/agentlet/internal/version"
)

// versionOptions are the flags of version.
type versionOptions struct {
	output
	timeout time.Duration
}

func newVersion(kube *kube, getenv func(string) string) *cobra.Command {
	o := &versionOptions{timeout: defaultTimeout}
	command := &cobra.Command{
		Use:   "version",
		Short: "Shows the versions of this tool, of the webhook, and of the agentlets in pods",
		Long: `Shows the versions of this tool, of the webhook, and of the agentlets that run, with the number of pods of each. An agentlet is as
old as its pod. Where pods have another one than new pods get, the commands that create them anew are listed.

A version is what the program itself says, through the API server: that needs the right to get pods/proxy. Pods are those of
all namespaces, unless one is named. --version shows this tool's alone, without a cluster.`,
		Example: examples(`
kubectl agentlet version
# The workloads with another agentlet than new pods get, for a script
kubectl agentlet version -o json | jq -r '.old[].command'`),
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return showVersions(command, kube, o, printer.Colours(command.OutOrStdout(), getenv))
		},
	}
	o.addFlags(command, "print only the workloads to create anew", outputJSON, outputYAML)
	command.Flags().DurationVar(&o.timeout, "timeout", o.timeout, "how long to look at most")
	return command
}

func showVersions(command *cobra.Command, kube *kube, o *versionOptions, colours bool) error {
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
	ctx, cancel := context.WithTimeout(command.Context(), o.timeout)
	defer cancel()
	report, err := versions.Read(ctx, versions.Config{
		Kube: client, Cluster: apiproxy.Cluster{Client: client}, Namespace: kube.overrides.Context.Namespace, Plugin: version.Version,
	})
	if err != nil {
		return err
	}
	if o.structured() {
		return o.write(command.OutOrStdout(), report)
	}
	out := printer.New(command.OutOrStdout(), colours)
	if o.quiet {
		versions.WriteOld(out, report)
	} else {
		versions.Write(out, report)
	}
	return out.Err()
}
