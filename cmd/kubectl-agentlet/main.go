// Command kubectl-agentlet is the person's tool: as a kubectl plugin (kubectl agentlet) or by its own name it shows what
// manifests would register, injects them, finds out whether an installation works, and shows pods as Kubernetes and as
// Consul see them.
package main

import (
	"context"
	"errors"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/go-logr/logr"
	"k8s.io/klog/v2"

	"github.com/agentlet/agentlet/internal/cli/printer"
)

// gcPercent is more than Go's default: a run is short, and thousands of manifests take a third less time with it.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	klog.SetLogger(logr.Discard()) // client-go logs by it; what it has to say is in its errors, too
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	command, err := newCommand(os.Getenv)
	if err == nil {
		err = command.ExecuteContext(ctx)
	}
	stop()
	if err != nil {
		if !errors.Is(err, errSaid) {
			printer.New(os.Stderr, false).Error("error", err)
		}
		os.Exit(1)
	}
}
