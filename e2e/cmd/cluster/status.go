package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/e2e/cluster"
)

func newStatus(name *string) *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the processes, the nodes and Consul's members; fails unless all are well",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			c, err := cluster.Attach(command.Context(), *name)
			if err != nil {
				return err
			}
			if err := printStatus(command.Context(), command.OutOrStdout(), c); err != nil {
				return err
			}
			return c.Healthy(command.Context())
		},
	}
}

func printStatus(ctx context.Context, out io.Writer, c *cluster.Cluster) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "ON\tPROCESS\tPID\tSTATE")
	for _, p := range c.Processes() {
		on, pid, state := p.Node, "-", "down"
		if on == "" {
			on = "host"
		}
		if number, running := p.PID(); running {
			pid, state = strconv.Itoa(number), "up"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", on, p.Name, pid, state)
	}
	fmt.Fprintln(table, "\nNODE\tREADY\tIP\tCONSUL")
	ready, kubernetesErr := nodesReady(ctx, c)
	members, consulErr := consulStates(c)
	for _, n := range c.Nodes {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", n.Name, known(ready[n.Name]), n.IP, known(members[n.Name]))
	}
	if kubernetesErr != nil {
		fmt.Fprintf(table, "\nkubernetes: %v\n", kubernetesErr)
	}
	if consulErr != nil {
		fmt.Fprintf(table, "\nconsul: %v\n", consulErr)
	}
	return table.Flush()
}

func known(value string) string {
	if value == "" {
		return "-"
	}
	return value
}

func nodesReady(ctx context.Context, c *cluster.Cluster) (map[string]string, error) {
	client, err := c.Client()
	if err != nil {
		return nil, err
	}
	nodes, err := client.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list nodes: %w", err)
	}
	ready := map[string]string{}
	for _, node := range nodes.Items {
		for _, condition := range node.Status.Conditions {
			if condition.Type == corev1.NodeReady {
				ready[node.Name] = string(condition.Status)
			}
		}
	}
	return ready, nil
}

func consulStates(c *cluster.Cluster) (map[string]string, error) {
	if c.Options.Consul != cluster.ConsulAgents {
		return nil, nil
	}
	members, err := c.ConsulMembers()
	if err != nil {
		return nil, err
	}
	names := map[int]string{1: "alive", 2: "leaving", 3: "left", 4: "failed"} // the numbers of serf's member states
	states := map[string]string{}
	for _, member := range members {
		states[member.Name] = names[member.Status]
	}
	return states, nil
}
