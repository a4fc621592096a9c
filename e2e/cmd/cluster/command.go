package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/hack/toolchain"
)

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "cluster",
		Short:         "A real Kubernetes and a real Consul on this machine",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	name := root.PersistentFlags().String("name", cluster.DefaultName, "the cluster's name")
	root.AddCommand(newUp(name), newDown(name), newStatus(name), newLoad(name))
	return root
}

func newUp(name *string) *cobra.Command {
	var options cluster.Options
	var consul string
	command := &cobra.Command{
		Use:   "up",
		Short: "Start the cluster, unless it is up and healthy",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			options.Name, options.Consul, options.Log = *name, cluster.ConsulMode(consul), command.ErrOrStderr()
			c, err := cluster.Up(command.Context(), options)
			if err != nil {
				return err
			}
			return printUse(command.OutOrStdout(), c)
		},
	}
	flags := command.Flags()
	flags.IntVar(&options.Nodes, "nodes", 2, "number of nodes, 1 to 9")
	flags.StringVar(
		&options.Kubernetes,
		"kubernetes",
		toolchain.Kubernetes,
		fmt.Sprintf("the tool set of its release: %q, or %q for the oldest that is supported", toolchain.Kubernetes,
			toolchain.KubernetesOldest),
	)
	flags.StringVar(&consul, "consul", string(cluster.ConsulAgents), `"agents": servers and an agent per node; "none": no Consul`)
	flags.StringVar(&options.ConsulTools, "consul-tools", toolchain.Consul,
		fmt.Sprintf("the tool set of Consul: %q, or %q for one under the Mozilla Public License", toolchain.Consul, toolchain.ConsulMPL))
	flags.IntVar(&options.ConsulServers, "consul-servers", 1, "number of Consul servers, 1 or 3")
	return command
}

// printUse prints shell assignments: eval "$(cluster up)".
func printUse(out io.Writer, c *cluster.Cluster) error {
	_, err := fmt.Fprintf(out, "export KUBECONFIG=%s\n", c.Kubeconfig())
	if err == nil && c.Options.Consul == cluster.ConsulAgents {
		_, err = fmt.Fprintf(out, "export CONSUL_HTTP_ADDR=http://%s\n", c.ConsulAddr())
	}
	if err == nil {
		_, err = fmt.Fprintf(out, "alias kubectl=%s\n", c.Kubectl())
	}
	return err
}

func newDown(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "down",
		Short: "Remove the cluster, or what is left of it",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return cluster.Down(command.Context(), *name, command.ErrOrStderr())
		},
	}
}

func newLoad(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "load TARBALL...",
		Short: "Import images into every node",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(command *cobra.Command, tarballs []string) error {
			c, err := cluster.Attach(command.Context(), *name)
			if err != nil {
				return err
			}
			for _, tarball := range tarballs {
				if err := c.LoadImage(command.Context(), tarball); err != nil {
					return err
				}
			}
			return nil
		},
	}
}
