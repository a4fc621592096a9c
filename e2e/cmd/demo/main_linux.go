// Command demo demonstrates Agentlet on a real cluster: see package demo.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/agentlet/agentlet/e2e/demo"
)

// interruptedCode is the exit code that a shell reports for a program that SIGINT has ended.
const interruptedCode = 130

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "demo:", err)
	if errors.Is(err, demo.ErrInterrupted) {
		os.Exit(interruptedCode)
	}
	os.Exit(1)
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "demo",
		Short:         "A rolling restart under load, on a real Kubernetes with a real Consul",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(&cobra.Command{
		Use:   "up",
		Short: "Start the cluster, install Agentlet, show the pods' lives; all of it keeps running",
		Args:  cobra.NoArgs,
		RunE:  func(command *cobra.Command, _ []string) error { return demo.Up(command.Context(), os.Stdout) },
	}, &cobra.Command{
		Use:   "down",
		Short: "Remove the cluster with everything in it",
		Args:  cobra.NoArgs,
		RunE:  func(command *cobra.Command, _ []string) error { return demo.Down(command.Context(), os.Stdout) },
	})
	return root
}
