// Command generate writes the output of package docs into a repository. Its argument is the repository's folder.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/agentlet/agentlet/hack/docs"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("want one argument, the repository's folder; got %q", args)
	}
	files, err := docs.Files(args[0])
	if err != nil {
		return err
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(args[0], name), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write file: %w", err)
		}
	}
	return nil
}
