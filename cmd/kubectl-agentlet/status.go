package main

import (
	"bytes"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/internal/cli/apiproxy"
	"github.com/agentlet/agentlet/internal/cli/printer"
	"github.com/agentlet/agentlet/internal/cli/status"
)

// statusOptions are the flags of status.
type statusOptions struct {
	all, watch bool
	interval   time.Duration
	timeout    time.Duration
	output     string
}

func newStatus(kube *kube, getenv func(string) string) *cobra.Command {
	o := &statusOptions{interval: 2 * time.Second, timeout: defaultTimeout}
	command := &cobra.Command{
		Use:   "status",
		Short: "Shows pods with an agentlet as Kubernetes and as Consul see them",
		Long: `Shows each service of each pod with an agentlet: its gate and the reason, its health in Consul's catalog, its address, how
long after the pod's start the gate opened, and where Kubernetes and Consul differ. Each agentlet is asked through the API
server for what Consul says: that needs the right to get pods/proxy. It reads the catalog first; where it could not, the
health's age stands beside it.`,
		Example: examples(`
kubectl agentlet status -n shop
# All namespaces, again each time something changes
kubectl agentlet status -A -w`),
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if o.output != outputText && o.output != outputJSON {
				return fmt.Errorf("--output %q: must be json or empty", o.output)
			}
			if o.interval <= 0 {
				return fmt.Errorf("--interval %s: must be more than 0", o.interval)
			}
			if o.timeout <= 0 {
				return fmt.Errorf("--timeout %s: must be more than 0", o.timeout)
			}
			client, err := kube.client()
			if err != nil {
				return err
			}
			namespace := kube.namespace()
			if o.all {
				namespace = ""
			}
			colours := printer.Colours(command.OutOrStdout(), getenv)
			return showStatus(command, o, client, namespace, colours)
		},
	}
	command.Flags().BoolVarP(&o.all, "all-namespaces", "A", false, "all namespaces")
	command.Flags().BoolVarP(&o.watch, "watch", "w", false, "show it again each time something changes, until interrupted")
	command.Flags().DurationVar(&o.interval, "interval", o.interval, "with --watch: how often to look")
	command.Flags().DurationVar(&o.timeout, "timeout", o.timeout, "how long to ask agentlets for at most")
	command.Flags().StringVarP(&o.output, "output", "o", outputText, "json, or a table when empty")
	return command
}

// clearScreen moves a terminal's cursor to the top and clears everything below it.
const clearScreen = "\x1b[H\x1b[2J"

func showStatus(command *cobra.Command, o *statusOptions, client kubernetes.Interface, namespace string, colours bool) error {
	ctx, out, errs := command.Context(), command.OutOrStdout(), printer.New(command.ErrOrStderr(), false)
	config := status.Config{
		Kube: client, Cluster: apiproxy.Cluster{Client: client}, Namespace: namespace, Timeout: o.timeout, Now: time.Now,
	}
	shown, err := status.Read(ctx, config)
	if err != nil {
		return err
	}
	before := ""
	terminal := o.watch && printer.IsTerminal(out)
	if terminal {
		before = clearScreen
	}
	if err := writeStatus(out, before, o, shown, colours); err != nil || !o.watch {
		return err
	}
	if !terminal {
		before = "\n"
	}
	ticker := time.NewTicker(o.interval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil // interrupted: the regular end of a watch
		case <-ticker.C:
		}
		rows, err := status.Read(ctx, config)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			errs.Error("warning", err) // continue: a watch survives a restart of the API server
			continue
		case !terminal && status.Same(rows, shown): // redraw on a terminal even then, because ages change
			continue
		}
		shown = rows
		if err := writeStatus(out, before, o, shown, colours); err != nil {
			return err
		}
	}
}

// writeStatus writes before and the rows in one write.
func writeStatus(out io.Writer, before string, o *statusOptions, rows []status.Row, colours bool) error {
	text := bytes.NewBufferString(before)
	if o.output == outputJSON {
		if err := status.WriteJSON(text, rows); err != nil {
			return err
		}
	} else {
		status.Write(printer.New(text, colours), rows, o.all)
	}
	if _, err := out.Write(text.Bytes()); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}
