package main

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentlet/agentlet/internal/cli/printer"
)

// Output formats. No command has them all.
const (
	outputText  = ""
	outputWide  = "wide"
	outputJSON  = "json"
	outputYAML  = "yaml"
	outputName  = "name"
	outputSARIF = "sarif"
)

// output are the flags of how results are printed.
type output struct {
	format  string
	quiet   bool
	formats []string // besides text
}

// addFlags adds --output with these formats, with its completion, and --quiet.
func (o *output) addFlags(command *cobra.Command, quiet string, formats ...string) {
	o.formats = formats
	command.Flags().StringVarP(&o.format, "output", "o", outputText, o.choice()+"; text when empty")
	command.Flags().BoolVarP(&o.quiet, "quiet", "q", false, quiet)
	// The only error is that of a flag that does not exist.
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(formats, cobra.ShellCompDirectiveNoFileComp))
}

// choice is "json, yaml or name".
func (o *output) choice() string {
	last := len(o.formats) - 1
	return strings.Join(o.formats[:last], ", ") + " or " + o.formats[last]
}

func (o *output) check() error {
	if o.format != outputText && !slices.Contains(o.formats, o.format) {
		return fmt.Errorf("--output %q: must be %s, or empty", o.format, o.choice())
	}
	return nil
}

// write prints a report in the format, which is JSON or YAML.
func (o *output) write(to io.Writer, report any) error {
	if o.format == outputYAML {
		return printer.YAML(to, report)
	}
	return printer.JSON(to, report)
}

// structured reports whether the format is for programs.
func (o *output) structured() bool { return o.format == outputJSON || o.format == outputYAML }
