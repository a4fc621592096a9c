package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/internal/cli/apiproxy"
	"github.com/agentlet/agentlet/internal/cli/printer"
	"github.com/agentlet/agentlet/internal/cli/status"
)

// statusOptions are the flags of status.
type statusOptions struct {
	output
	all, watch bool
	selector   string
	names      []string
	interval   time.Duration
	timeout    time.Duration
}

func newStatus(kube *kube, getenv func(string) string) *cobra.Command {
	o := &statusOptions{interval: 2 * time.Second, timeout: defaultTimeout}
	command := &cobra.Command{
		Use:   "status [POD...]",
		Short: "Shows pods with an agentlet as Kubernetes and as Consul see them",
		Long: `Shows each service of each pod with an agentlet: its gate, since when and why, its address, its health in Consul's
catalog, and where Kubernetes and Consul differ. Below the table stands what to do next. With -o wide it also shows how long
after the pod's start the gate opened, and the node.

Each agentlet is asked through the API server for what Consul says: that needs the right to get pods/proxy. It reads the catalog
first; where it could not, the health's age stands beside it.

Like kubectl get, it fails with no pod's state. The exit code is 1 if a pod that is named does not exist or has no agentlet, and 2
if the cluster does not answer.`,
		Example: examples(`
kubectl agentlet status -n shop
# One pod, or those with a label
kubectl agentlet status web-0 -n shop -o wide
kubectl agentlet status -l app=web -o json
# Only what needs someone
kubectl agentlet status -A -q
# All namespaces, again each time something changes
kubectl agentlet status -A -w`),
		ValidArgsFunction: kube.completePods,
		RunE: func(command *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			if err := o.choose(args); err != nil {
				return err
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
	command.Flags().StringVarP(&o.selector, "selector", "l", "", "labels of the pods, such as app=web")
	o.addFlags(command, "show only pods that need something, and no notes", outputWide, outputJSON, outputYAML, outputName)
	return command
}

// choose takes the pods' names, alone or as pod/NAME. What kubectl get refuses of them is refused here.
func (o *statusOptions) choose(args []string) error {
	switch {
	case len(args) > 0 && o.all:
		return errors.New("pods can't be named across all namespaces: name one namespace with -n instead of -A")
	case len(args) > 0 && o.selector != "":
		return errors.New("pods are chosen by names or by --selector, not by both")
	}
	if _, err := labels.Parse(o.selector); err != nil {
		return fmt.Errorf("--selector %q: %w", o.selector, err)
	}
	for _, arg := range args {
		kind, name, both := strings.Cut(arg, "/")
		if !both {
			kind, name = "pod", arg
		}
		if !slices.Contains([]string{"pod", "pods", "po"}, strings.ToLower(kind)) || name == "" {
			return fmt.Errorf("%q: must be the name of a pod, or pod/NAME", arg)
		}
		if !slices.Contains(o.names, name) {
			o.names = append(o.names, name)
		}
	}
	return nil
}

// clearScreen moves a terminal's cursor to the top and clears everything below it.
const clearScreen = "\x1b[H\x1b[2J"

func showStatus(command *cobra.Command, o *statusOptions, client kubernetes.Interface, namespace string, colours bool) error {
	ctx, out, errs := command.Context(), command.OutOrStdout(), printer.New(command.ErrOrStderr(), false)
	config := status.Config{
		Kube: client, Cluster: apiproxy.Cluster{Client: client}, Namespace: namespace, Names: o.names, Selector: o.selector,
		Timeout: o.timeout, Now: time.Now,
	}
	shown, missing, err := status.Read(ctx, config)
	if err != nil {
		return err
	}
	for _, why := range missing {
		errs.Error("error", errors.New(why))
	}
	before := ""
	terminal := o.watch && printer.IsTerminal(out)
	if terminal {
		before = clearScreen
	}
	if len(shown) == 0 && len(missing) == 0 && !o.quiet {
		errs.Line(printer.Text(status.Nothing(o.all)))
	}
	if err := writeStatus(out, before, o, shown, colours); err != nil {
		return err
	}
	if !o.watch {
		if len(missing) > 0 {
			return errSaid
		}
		return nil
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
		rows, _, err := status.Read(ctx, config)
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
	if o.quiet {
		rows = status.Wrong(rows)
	}
	switch {
	case o.structured():
		if err := o.write(text, status.NewReport(rows)); err != nil {
			return err
		}
	case o.format == outputName:
		status.WriteNames(printer.New(text, colours), rows)
	case len(rows) > 0:
		status.Write(printer.New(text, colours), rows, status.Form{Namespaces: o.all, Wide: o.format == outputWide})
	}
	if _, err := out.Write(text.Bytes()); err != nil {
		return fmt.Errorf("write status: %w", err)
	}
	return nil
}
