package main

import (
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Parts of cobra's own template.
const (
	localFlags = `Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}`
	globalFlags = `

Global Flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}`
)

// manyFlags stands in place of kubectl's own flags, which are many. kubectl has such a line, too.
const manyFlags = `Use "{{.Root.DisplayName}} options" for the flags of all commands.`

// usageTemplate returns cobra's template with other local flags, and without those of all commands.
func usageTemplate(template, local string) string {
	return strings.NewReplacer(localFlags, local, globalFlags, "\n\n"+manyFlags).Replace(template)
}

// groupFlags makes the help of a command show its own flags and those of the installation apart: who reads it looks for one kind.
func groupFlags(command *cobra.Command, installation *pflag.FlagSet) {
	command.InitDefaultHelpFlag()
	own := pflag.NewFlagSet("own", pflag.ContinueOnError)
	command.Flags().VisitAll(func(f *pflag.Flag) {
		if installation.Lookup(f.Name) == nil {
			own.AddFlag(f)
		}
	})
	text := func(flags *pflag.FlagSet) string {
		return "{{" + strconv.Quote(strings.TrimRight(flags.FlagUsages(), "\n")) + "}}"
	}
	command.SetUsageTemplate(usageTemplate(command.UsageTemplate(), "Flags:\n"+text(own)+
		"\n\nFlags of the installation, which are the webhook's own:\n"+text(installation)))
}

func newOptions() *cobra.Command {
	command := &cobra.Command{
		Use:   "options",
		Short: "Lists the flags of all commands, such as --context",
		Example: examples(`
kubectl agentlet options`),
		Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error { return command.Usage() },
	}
	command.SetUsageTemplate(`Usage:
  {{.Root.DisplayName}} [command] [flags]

Flags of all commands:
{{.InheritedFlags.FlagUsages}}`)
	return command
}
