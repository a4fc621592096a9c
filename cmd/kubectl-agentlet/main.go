// Command kubectl-agentlet is the person's tool: as a kubectl plugin (kubectl agentlet) or by its own name it shows what
// manifests would register, injects them, finds out whether an installation works, and shows pods as Kubernetes and as
// Consul see them.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	command, err := newCommand(os.Getenv)
	if err == nil {
		err = command.ExecuteContext(ctx)
	}
	stop()
	if err != nil {
		if !errors.Is(err, errSaid) {
			fmt.Fprintln(os.Stderr, "error:", err)
		}
		os.Exit(1)
	}
}
