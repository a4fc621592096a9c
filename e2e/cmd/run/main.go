// Command run builds a program of e2e, shows how far the build is, and becomes the program. `go run` shows nothing while it
// compiles. Before it builds the demo, it checks that the machine can run it:
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

	"github.com/agentlet/agentlet/e2e/demo/intro"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// interruptedCode is the exit code that a shell reports for a program that SIGINT has ended.
const interruptedCode = 130

// demoPackage is the demo, for which the machine is checked before it is compiled.
const demoPackage = "./cmd/demo"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	program, err := prepare(ctx, os.Args[1:])
	stop()
	if err == nil {
		err = syscall.Exec(program, append([]string{program}, os.Args[2:]...), os.Environ())
	}
	name := "run"
	if len(os.Args) > 1 {
		name = filepath.Base(os.Args[1])
	}
	if errors.Is(err, context.Canceled) {
		fmt.Fprintf(os.Stderr, "\n%s: interrupted. What is compiled stays: the same command goes on from here\n", name)
		os.Exit(interruptedCode)
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
	os.Exit(1)
}

// prepare builds the program that args begin with. For the demo it checks the machine before, and introduces what `up` does.
func prepare(ctx context.Context, args []string) (program string, err error) {
	if len(args) == 0 {
		return "", errors.New("want a package and its arguments, such as ./cmd/demo up")
	}
	if args[0] == demoPackage {
		if err := intro.Check(); err != nil {
			return "", err
		}
	}
	if slices.Equal(args, []string{demoPackage, "up"}) {
		if err := intro.Introduce(ctx, os.Stdout); err != nil {
			return "", err
		}
	}
	return build(ctx, args[0])
}

// build compiles a package into the tree's .out/bin.
func build(ctx context.Context, what string) (program string, err error) {
	root, err := toolchain.Root()
	if err != nil {
		return "", err
	}
	program = filepath.Join(root, ".out", "bin", filepath.Base(what))
	flags := append(strings.Fields(toolchain.CompileFlags), what)
	command := exec.CommandContext(ctx, "go", slices.Concat([]string{"build", "-v", "-ldflags=-s -w", "-o", program}, flags)...)
	command.Dir, command.Env = filepath.Join(root, "e2e"), append(os.Environ(), "CGO_ENABLED=0")
	return program, toolchain.Watch(ctx, os.Stderr, filepath.Base(what), command, flags)
}
