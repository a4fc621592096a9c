// Command kubectl-agentlet is the user's tool, as a kubectl plugin (kubectl agentlet) or under its own name. It explains what
// manifests would register, injects them, checks an installation, and shows pods as Kubernetes and Consul see them.
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

// gcPercent is higher than Go's default, because the command runs only briefly. With it, thousands of manifests take a quarter
// less time; with more, they take no less, and more memory.
const gcPercent = 400

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	klog.SetLogger(logr.Discard()) // discard client-go's logs; its errors contain the same information
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	command, err := newCommand(os.Getenv)
	if err == nil {
		err = command.ExecuteContext(ctx)
	}
	stop()
	if err != nil && !errors.Is(err, errSaid) && !errors.Is(err, errNotRun) {
		printer.New(os.Stderr, false).Error("error", err)
	}
	os.Exit(exitCode(err))
}
