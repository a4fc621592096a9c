package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/agentlet/agentlet/hack/commits"
	"github.com/agentlet/agentlet/hack/toolchain"
)

func formatCommand() *cobra.Command {
	c := &cobra.Command{Use: "fmt", Short: "Format the Go code of all modules", Args: cobra.NoArgs}
	onlyDiff := c.Flags().Bool("diff", false, "only print what would change, which is an error then")
	c.RunE = func(c *cobra.Command, _ []string) error {
		t, err := findTree()
		if err != nil {
			return err
		}
		return format(c.Context(), t, *onlyDiff)
	}
	return c
}

func messageCommand() *cobra.Command {
	return &cobra.Command{
		Use: "message FILE", Short: "Check the commit message in a file", Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			message, err := os.ReadFile(args[0])
			if err != nil {
				return fmt.Errorf("read message: %w", err)
			}
			return commits.Check(string(message))
		},
	}
}

// checkCommits checks the messages of the commits since the default branch. Where there is no history, as in CI's shallow clones,
// there is nothing to check.
func checkCommits(ctx context.Context, t *tree) error {
	n, err := commits.New(ctx, t.root)
	if errors.Is(err, commits.ErrNoHistory) {
		fmt.Println("!!! SKIPPED:", err)
		return nil
	}
	fmt.Printf("%d commits since the default branch\n", n)
	return err
}

// format formats the Go code of all modules, or only prints what would change, which is an error then.
func format(ctx context.Context, t *tree, onlyDiff bool) error {
	tools, err := toolchain.Ensure(ctx, os.Stderr, toolchain.GolangciLint)
	if err != nil {
		return err
	}
	args := []string{"fmt", "--config", filepath.Join(t.root, ".golangci.yml")}
	if onlyDiff {
		args = append(args, "--diff")
	}
	return show(ctx, t.root, nil, tools.Program(toolchain.GolangciLint, "golangci-lint"), args...)
}
