package main

import (
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/spf13/cobra"

	"github.com/agentlet/agentlet/internal/version"
)

// errSaid is a failure that was already printed. It only sets the exit code.
var errSaid = errors.New("failed")

func newCommand(getenv func(string) string) (*cobra.Command, error) {
	kube := newKube()
	command := &cobra.Command{
		Use:   "kubectl-agentlet",
		Short: "Judges, injects and checks what Agentlet registers in Consul",
		Long: `Agentlet makes a pod Ready only once Consul really has it, and lets it die only once Consul has let it go.
This tool judges manifests with the webhook's own code, and shows whether an installation and its pods are well.

To have kubectl complete its words, put a script named kubectl_complete-agentlet on the PATH that runs:
  kubectl agentlet __complete "$@"`,
		Version:       version.Version,
		SilenceUsage:  true, // print no usage for errors in a manifest
		SilenceErrors: true, // main prints the error once
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl agentlet"},
	}
	command.SetVersionTemplate(
		fmt.Sprintf("kubectl-agentlet {{.Version}} %s %s/%s\n", runtime.Version(), runtime.GOOS, runtime.GOARCH))
	kube.addFlags(command.PersistentFlags())
	command.AddCommand(newInject(kube), newExplain(kube, getenv), newCheck(kube, getenv), newStatus(kube, getenv))
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
