// Command agentlet is the registrar that runs in each injected pod.
//
//	agentlet run     keeps the pod's services in Consul equal to the pod, until SIGTERM and the drain after it
//	agentlet drain   tells the running registrar of the same container that the pod terminates; its own preStop hook
//	agentlet version prints the version
//	agentlet probe-consul asks the node's Consul agent what an installation depends on, for kubectl agentlet check --probe-nodes
//
// It reads its flags with the standard library: what it links is paid for once per pod.
package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/agentlet/agentlet/internal/version"
)

const usage = `usage: agentlet run [flags] | drain | version | probe-consul [flags]

The registrar of one pod. The webhook injects it; "agentlet run -h" lists its flags.
`

func main() {
	if err := command(context.Background(), os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "agentlet:", err)
		os.Exit(1)
	}
}

func command(ctx context.Context, args []string, env func(string) string, stdout, stderr io.Writer) error {
	name := ""
	if len(args) > 0 {
		name = args[0]
	}
	switch name {
	case "run":
		options, err := parse(args[1:], env, stderr)
		if err != nil {
			return err
		}
		return run(ctx, options, stderr)
	case "drain":
		return drain("/proc")
	case "probe-consul":
		return probeConsul(ctx, args[1:], env, stdout, stderr)
	case "version":
		_, err := fmt.Fprintln(stdout, version.Version)
		return err
	}
	_, _ = fmt.Fprint(stderr, usage)
	return fmt.Errorf("unknown command %q", name)
}
