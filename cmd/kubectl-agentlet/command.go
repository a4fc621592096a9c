package main

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentlet/agentlet/internal/version"
)

// Failures that were already printed. They only set the exit code.
var (
	errSaid   = errors.New("failed")        // something is wrong with what was looked at
	errNotRun = errors.New("could not run") // nothing could be looked at
)

// exitCode returns a command's exit code, as diff has it: 0 if all is well, 1 if something is wrong with what was looked at, 2 if
// the command could not run. A script tells a wrong manifest from a wrong flag by it.
func exitCode(err error) int {
	switch {
	case err == nil:
		return 0
	case errors.Is(err, errSaid):
		return 1
	}
	return 2
}

func newCommand(getenv func(string) string) (*cobra.Command, error) {
	kube := newKube()
	command := &cobra.Command{
		Use:   "kubectl-agentlet",
		Short: "Judges, injects and checks what Agentlet registers in Consul",
		Long: `Agentlet makes a pod Ready only once Consul really has it, and lets it die only once Consul has let it go.
This tool judges manifests with the webhook's own code, and shows whether an installation and its pods are well.

Results go to the standard output, notes to the standard error. The exit code is 0 if all is well, 1 if something is wrong with
what was looked at, and 2 if the command could not run: a wrong flag, an absent file, a cluster that does not answer.`,
		Version:       version.Version,
		SilenceUsage:  true, // print no usage for errors in a manifest
		SilenceErrors: true, // main prints the error once
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl agentlet"},
	}
	command.SetVersionTemplate(
		fmt.Sprintf("kubectl-agentlet {{.Version}} %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH))
	kube.addFlags(command.PersistentFlags())
	command.AddCommand(newInject(kube), newExplain(kube, getenv), newCheck(kube, getenv), newStatus(kube, getenv),
		newVersion(kube, getenv), newOptions())
	addKubectlCompletion(command)
	command.SetUsageTemplate(usageTemplate(command.UsageTemplate(), `{{if .HasParent}}`+localFlags+`{{else}}`+manyFlags+`{{end}}`))
	if err := complete(command, kube); err != nil {
		return nil, fmt.Errorf("register completions: %w", err)
	}
	return command, nil
}

// examples indents examples as cobra shows them.
func examples(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return "  " + strings.Join(lines, "\n  ")
}
