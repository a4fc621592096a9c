package release

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// CheckTree returns an error that names what a git repository's folder has beside its commit: who signs a release says that it is
// the commit's, and nobody could make it again. It returns nil where the folder is no repository, such as a released archive.
func CheckTree(ctx context.Context, root string) error {
	if exec.CommandContext(ctx, "git", "-C", root, "rev-parse", "--is-inside-work-tree").Run() != nil {
		return ctx.Err()
	}
	out, err := exec.CommandContext(ctx, "git", "-C", root, "status", "--porcelain").Output()
	if err != nil {
		return fmt.Errorf("look for changes without a commit: %w", err)
	}
	if changes := strings.TrimRight(string(out), "\n"); changes != "" {
		return errors.New("a signed release is a commit's, and these changes have none: commit or remove them\n" + changes)
	}
	return nil
}
