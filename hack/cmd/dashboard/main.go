// Command dashboard writes the Grafana dashboard into the file that its argument names.
package main

import (
	"fmt"
	"os"

	"github.com/agentlet/agentlet/hack/dashboard"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "dashboard:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the dashboard's file; got %q", args)
	}
	content, err := dashboard.JSON()
	if err != nil {
		return err
	}
	return os.WriteFile(args[0], content, 0o644)
}
