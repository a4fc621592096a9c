// Command run builds a command of this module and becomes it, as `go run` does, which says nothing while it compiles:
//
//	go run ./cmd/run ./cmd/demo up
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/agentlet/agentlet/e2e/toolchain"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	program, err := build(ctx, os.Args[1:])
	stop()
	if err == nil {
		err = syscall.Exec(program, append([]string{program}, os.Args[2:]...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, "run:", err)
	os.Exit(1)
}

// build compiles the first argument into the tree's .out/bin.
func build(ctx context.Context, args []string) (program string, err error) {
	if len(args) == 0 {
		return "", errors.New("no command named: want ./cmd/NAME and its arguments")
	}
	source, err := toolchain.SourceRoot()
	if err != nil {
		return "", err
	}
	name := filepath.Base(args[0])
	program = filepath.Join(filepath.Dir(source), ".out", "bin", name)
	what := append(strings.Fields(toolchain.CompileFlags), args[0])
	command := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-v", "-ldflags=-s -w", "-o", program}, what)...)
	command.Env = append(os.Environ(), "CGO_ENABLED=0")
	return program, toolchain.Watch(ctx, os.Stderr, name, command, what)
}
