package doctest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

func TestMain(m *testing.M) { os.Exit(inScratch(m)) }

// inScratch runs the tests with a folder for files that several of them need.
func inScratch(m *testing.M) int {
	var err error
	if scratch, err = os.MkdirTemp("", "agentlet-docs-"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	return m.Run()
}

// build builds kubectl-agentlet.
func build(file string) error {
	out, err := exec.CommandContext(context.Background(), "go", "build", "-C", root, "-o", file, "./cmd/kubectl-agentlet").CombinedOutput()
	if err != nil {
		return fmt.Errorf("build kubectl-agentlet: %w: %s", err, out)
	}
	return nil
}
