package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agentlet/agentlet/internal/cli/explain"
	"github.com/agentlet/agentlet/internal/cli/manifests"
	"github.com/agentlet/agentlet/internal/cli/printer"
)

// source is where manifests are read from.
type source struct {
	files     []string
	recursive bool
}

func (s *source) addFlags(flags *pflag.FlagSet) {
	flags.StringSliceVarP(&s.files, "filename", "f", nil, "file, folder, or - for the standard input; repeatable")
	flags.BoolVarP(&s.recursive, "recursive", "R", false, "also the folders below a folder")
}

// judged is a file with the webhook's decisions about its pods.
type judged struct {
	*manifests.File
	judgements []manifests.Result
}

// judge reads all manifests and decides about their pods. Documents that can't be read are errors.
func (s *source) judge(
	command *cobra.Command,
	flags *webhookFlags,
	kube *kube,
) (files []judged, diagnostics []manifests.Diagnostic, err error) {
	read, diagnostics, err := manifests.Read(command.Context(), s.files, s.recursive, command.InOrStdin())
	if err != nil {
		return nil, nil, err
	}
	namespace := kube.namespace()
	decider, err := flags.decider(command, kube, manifests.PodNamespaces(read, namespace))
	if err != nil {
		return nil, nil, err
	}
	namespaces := manifests.Namespaces(read)
	for _, file := range read {
		files = append(files, judged{file, file.Judge(decider, namespace, namespaces)})
	}
	return files, diagnostics, nil
}

func newInject(kube *kube) *cobra.Command {
	from, flags := &source{}, newWebhookFlags()
	command := &cobra.Command{
		Use:   "inject -f FILE",
		Short: "Prints manifests as the webhook would make them",
		Long: `Prints manifests as the webhook would make them: with the agentlet, the gate and the drain hooks in every pod and pod
template that asks for them, whatever the namespace's label says. What asks for none is printed as it is, byte for byte. No
cluster is asked unless --from-cluster is given.
With an error anywhere nothing is printed but the errors, each with its file and line.

The webhook gives each pod a nonce of its own; here it follows from the object's name, so that the output for a manifest
never changes by itself.`,
		Example: examples(`
# See what would change
kubectl agentlet inject -f web.yaml | kubectl diff -f -
# With the image and the defaults of the installation in the cluster
kubectl agentlet inject -f web.yaml --from-cluster
# Without a webhook in the cluster
kustomize build . | kubectl agentlet inject -f - | kubectl apply -f -`),
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return inject(command, from, flags, kube)
		},
	}
	from.addFlags(command.Flags())
	flags.addFlags(command.Flags())
	return command
}

func inject(command *cobra.Command, from *source, flags *webhookFlags, kube *kube) error {
	files, diagnostics, err := from.judge(command, flags, kube)
	if err != nil {
		return err
	}
	errs := printer.New(command.ErrOrStderr(), false)
	var outputs [][]byte
	for _, file := range files {
		write(errs, "warning: ", file.Warnings(flags.config.Defaults))
		for _, j := range file.judgements {
			diagnostics = append(diagnostics, j.Errors...)
			write(errs, "warning: ", j.Warnings)
		}
		out, rewritten, err := file.Injected(file.judgements)
		if err != nil {
			return err
		}
		write(errs, "warning: ", rewritten)
		outputs = append(outputs, out)
	}
	if len(diagnostics) > 0 {
		write(errs, "error: ", diagnostics)
		return errSaid
	}
	if _, err := command.OutOrStdout().Write(manifests.Join(outputs)); err != nil {
		return fmt.Errorf("write manifests: %w", err)
	}
	return nil
}

func write(out *printer.Printer, kind string, notes []manifests.Diagnostic) {
	for _, note := range notes {
		out.Line(printer.Text(kind), printer.Text(note.String()))
	}
}

func newExplain(kube *kube, getenv func(string) string) *cobra.Command {
	from, flags := &source{}, newWebhookFlags()
	command := &cobra.Command{
		Use:   "explain -f FILE",
		Short: "Says what manifests would register in Consul, or every error with its line",
		Long: `Says what manifests would register in Consul, and how their pods would start and end, or every error with its line.

No cluster is asked unless --from-cluster is given: what an installation and its namespaces have set otherwise, defaults and which
names may be used, is not known then. Annotations of Namespaces in the manifests count.`,
		Example: examples(`
kubectl agentlet explain -f web.yaml
# A chart, before it is installed
helm template . | kubectl agentlet explain -f -
# With the defaults and allowed services of the installation and the namespaces, read from the cluster or given
kubectl agentlet explain -f web.yaml --from-cluster
kubectl agentlet explain -f web.yaml --default drain-delay=10s`),
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			return explainAll(command, from, flags, kube, printer.Colours(command.OutOrStdout(), getenv))
		},
	}
	from.addFlags(command.Flags())
	flags.addFlags(command.Flags())
	return command
}

func explainAll(command *cobra.Command, from *source, flags *webhookFlags, kube *kube, colours bool) error {
	files, diagnostics, err := from.judge(command, flags, kube)
	if err != nil {
		return err
	}
	out, errs := printer.New(command.OutOrStdout(), colours), printer.New(command.ErrOrStderr(), false)
	failed, found := len(diagnostics) > 0, false
	var kinds []string
	for _, file := range files {
		write(errs, "warning: ", file.Warnings(flags.config.Defaults))
		kinds = append(kinds, file.Kinds()...)
		for i := range file.judgements {
			j := &file.judgements[i]
			if found {
				out.Line()
			}
			found, failed = true, failed || len(j.Errors) > 0
			if err := explain.Write(out, file.Name, j); err != nil {
				return err
			}
		}
	}
	write(errs, "error: ", diagnostics)
	switch {
	case !found && !failed:
		text := "There is no pod and no pod template here"
		if slices.Sort(kinds); len(kinds) > 0 {
			text += ", only " + strings.Join(slices.Compact(kinds), ", ")
		}
		out.Line(printer.Text(text + "."))
	case !flags.fromCluster:
		errs.Line(printer.Text("note: no cluster was asked; --from-cluster judges by what its installation has set"))
	}
	if failed {
		return errSaid
	}
	return out.Err()
}
