package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/agentlet/agentlet/agentlet/registration"
	"github.com/agentlet/agentlet/internal/cli/explain"
	"github.com/agentlet/agentlet/internal/cli/manifests"
	"github.com/agentlet/agentlet/internal/cli/printer"
	"github.com/agentlet/agentlet/internal/cli/sarif"
	"github.com/agentlet/agentlet/internal/version"
)

// source is where manifests are read from.
type source struct {
	files     []string // of the flag and the arguments
	recursive bool
	kustomize string
}

func (s *source) addFlags(flags *pflag.FlagSet) {
	flags.StringSliceVarP(&s.files, "filename", "f", nil,
		"file, folder, URL, or - for the standard input; repeatable, and the same as an argument")
	flags.BoolVarP(&s.recursive, "recursive", "R", false, "also the folders below a folder")
	flags.StringVarP(&s.kustomize, "kustomize", "k", "", "folder with a kustomization, which kubectl kustomize renders")
}

// read reads all manifests. Documents that can't be read are errors.
func (s *source) read(command *cobra.Command, args []string) ([]*manifests.File, []manifests.Diagnostic, error) {
	names := slices.Concat(s.files, args)
	if s.kustomize == "" {
		return manifests.Read(command.Context(), names, s.recursive, command.InOrStdin())
	}
	if len(names) > 0 || s.recursive {
		return nil, nil, errors.New("--kustomize goes neither with files nor with --recursive")
	}
	file, diagnostics, err := manifests.Kustomize(command.Context(), s.kustomize)
	return []*manifests.File{file}, diagnostics, err
}

// judged is a file with the webhook's decisions about its pods.
type judged struct {
	*manifests.File
	judgements []manifests.Result
}

// judge reads all manifests and decides about their pods. Documents that can't be read are errors.
func (s *source) judge(
	command *cobra.Command,
	args []string,
	flags *webhookFlags,
	kube *kube,
) (files []judged, diagnostics []manifests.Diagnostic, err error) {
	read, diagnostics, err := s.read(command, args)
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
	from, flags, quiet := &source{}, newWebhookFlags(), false
	command := &cobra.Command{
		Use:   "inject FILE...",
		Short: "Prints manifests as the webhook would make them",
		Long: `Prints manifests as the webhook would make them: with the agentlet, the gate and the drain hooks in every pod and pod
template that asks for them, whatever the namespace's label says. What asks for none is printed as it is, byte for byte. No
cluster is asked unless --from-cluster is given.
With an error anywhere nothing is printed but the errors, each with its file and line.

The webhook gives each pod a nonce of its own; here it follows from the object's name, so that the output for a manifest
never changes by itself.`,
		Example: examples(`
# See what would change
kubectl agentlet inject web.yaml | kubectl diff -f -
# With the image and the defaults of the installation in the cluster
kubectl agentlet inject web.yaml --from-cluster
# Without a webhook in the cluster
kubectl agentlet inject -k overlays/prod | kubectl apply -f -`),
		RunE: func(command *cobra.Command, args []string) error {
			files, diagnostics, err := from.judge(command, args, flags, kube)
			if err != nil {
				return err
			}
			return inject(command, files, diagnostics, flags.config.Defaults, quiet)
		},
	}
	from.addFlags(command.Flags())
	command.Flags().BoolVarP(&quiet, "quiet", "q", false, "no warnings, only errors")
	flags.addFlags(command.Flags())
	groupFlags(command, flags.set)
	return command
}

func inject(
	command *cobra.Command,
	files []judged,
	diagnostics []manifests.Diagnostic,
	defaults registration.Defaults,
	quiet bool,
) error {
	errs := printer.New(command.ErrOrStderr(), false)
	var warnings []manifests.Diagnostic
	var outputs [][]byte
	for _, file := range files {
		warnings = append(warnings, file.Warnings(defaults)...)
		for _, j := range file.judgements {
			diagnostics = append(diagnostics, j.Errors...)
			warnings = append(warnings, j.Warnings...)
		}
		out, rewritten, err := file.Injected(file.judgements)
		if err != nil {
			return err
		}
		warnings, outputs = append(warnings, rewritten...), append(outputs, out)
	}
	if !quiet {
		write(errs, "warning: ", warnings)
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

// explainOptions are the flags of explain, besides the installation's.
type explainOptions struct {
	source
	output
	strict bool
}

func newExplain(kube *kube, getenv func(string) string) *cobra.Command {
	o, flags := &explainOptions{}, newWebhookFlags()
	command := &cobra.Command{
		Use:   "explain FILE...",
		Short: "Says what manifests would register in Consul, or every error with its line",
		Long: `Says what manifests would register in Consul, and how their pods would start and end, or every error with its line.

No cluster is asked unless --from-cluster is given: what an installation and its namespaces have set otherwise, defaults and which
names may be used, is not known then. Annotations of Namespaces in the manifests count.

The exit code is 1 with an error in a manifest, and with --strict also with a warning; 2 if a file or the cluster can't be read.`,
		Example: examples(`
kubectl agentlet explain web.yaml
# A chart, before it is installed
helm template . | kubectl agentlet explain -
# With the defaults and allowed services of the installation and the namespaces, read from the cluster or given
kubectl agentlet explain web.yaml --from-cluster
kubectl agentlet explain web.yaml --default drain-delay=10s
# In CI: only what is wrong, and for a code host the same beside the lines
kubectl agentlet explain -k overlays/prod --strict -q
kubectl agentlet explain -R manifests --strict -o sarif > agentlet.sarif`),
		RunE: func(command *cobra.Command, args []string) error {
			if err := o.check(); err != nil {
				return err
			}
			files, diagnostics, err := o.judge(command, args, flags, kube)
			if err != nil {
				return err
			}
			report, err := reportOf(files, diagnostics, flags.config.Defaults)
			if err != nil {
				return err
			}
			switch {
			case o.format == outputSARIF:
				err = o.write(command.OutOrStdout(), report.SARIF("kubectl-agentlet", version.Version, o.kustomization()))
			case o.structured():
				err = o.write(command.OutOrStdout(), report)
			case o.quiet:
				out := printer.New(command.OutOrStdout(), printer.Colours(command.OutOrStdout(), getenv))
				report.WriteFindings(out)
				err = out.Err()
			default:
				err = explainAll(command, files, diagnostics, flags, printer.Colours(command.OutOrStdout(), getenv))
			}
			if err == nil && (report.Has(sarif.Error) || o.strict && report.Has(sarif.Warning)) {
				return errSaid
			}
			return err
		},
	}
	o.source.addFlags(command.Flags())
	o.output.addFlags(command, "print only errors and warnings, one a line", outputJSON, outputYAML, outputSARIF)
	command.Flags().BoolVar(&o.strict, "strict", false, "fail with a warning, too (exit code 1)")
	flags.addFlags(command.Flags())
	groupFlags(command, flags.set)
	return command
}

// kustomization is the file that what kustomize renders comes from, or "" if it did not.
func (s *source) kustomization() string {
	shown := manifests.Shown(s.kustomize)
	if shown == "" || strings.Contains(shown, "://") || strings.HasPrefix(shown, "git::") {
		return shown
	}
	return filepath.Join(shown, "kustomization.yaml")
}

// reportOf returns everything that is found, for programs.
func reportOf(files []judged, diagnostics []manifests.Diagnostic, defaults registration.Defaults) (*explain.Report, error) {
	report := explain.NewReport()
	report.Find(sarif.Error, diagnostics)
	for _, file := range files {
		report.Find(sarif.Warning, file.Warnings(defaults))
		for i := range file.judgements {
			if err := report.Add(file.Name, &file.judgements[i]); err != nil {
				return nil, err
			}
		}
	}
	return report, nil
}

// explainAll prints what is found, for people.
func explainAll(
	command *cobra.Command,
	files []judged,
	diagnostics []manifests.Diagnostic,
	flags *webhookFlags,
	colours bool,
) error {
	out, errs := printer.New(command.OutOrStdout(), colours), printer.New(command.ErrOrStderr(), false)
	found := false
	var kinds []string
	for _, file := range files {
		write(errs, "warning: ", file.Warnings(flags.config.Defaults))
		kinds = append(kinds, file.Kinds()...)
		for i := range file.judgements {
			j := &file.judgements[i]
			if found {
				out.Line()
			}
			found = true
			if err := explain.Write(out, file.Name, j); err != nil {
				return err
			}
		}
	}
	write(errs, "error: ", diagnostics)
	switch {
	case !found && len(diagnostics) == 0:
		text := "There is no pod and no pod template here"
		if slices.Sort(kinds); len(kinds) > 0 {
			text += ", only " + strings.Join(slices.Compact(kinds), ", ")
		}
		out.Line(printer.Text(text + "."))
	case !flags.fromCluster:
		errs.Line(printer.Text("note: no cluster was asked; --from-cluster judges by what its installation has set"))
	}
	return out.Err()
}
