// Command tools builds tool sets unless the cache has them, and prints the folder of each on a line of stdout.
// Progress goes to stderr.
//
//	PATH="$(go run ./cmd/tools helm):$PATH"
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/agentlet/agentlet/hack/toolchain"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "tools:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	if len(names) == 0 {
		return fmt.Errorf("no tool set named: want one or more of %s", strings.Join(toolchain.Names(), ", "))
	}
	tools, err := toolchain.Ensure(ctx, os.Stderr, names...)
	if err != nil {
		return err
	}
	for _, name := range names {
		fmt.Println(tools[name])
	}
	return nil
}
