package toolchain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

// ErrNoHistory means that a commit is missing with the history that would have it: in a shallow clone, or without a repository.
// In a whole history a missing commit is another error, because nothing brings it back.
var ErrNoHistory = errors.New("the repository's history is missing; git fetch --unshallow gets it")

// Older is what was built of an older commit.
type Older struct {
	// Version is that of its programs, and the tag of its image agentlet/agentlet.
	Version string
	// Image is the image's tarball, Chart the folder of the Helm chart.
	Image, Chart string
}

// versionLength is how much of a commit's hash is the version of what is built of it.
const versionLength = 12

// EnsureCommit builds the image and the chart of a commit of the repository in root, by its own Makefile, unless the cache holds
// them. The error is ErrNoHistory if the repository doesn't have the commit, and not its whole history.
func EnsureCommit(ctx context.Context, log io.Writer, root, commit string) (Older, error) {
	cache, err := CacheRoot()
	if err != nil {
		return Older{}, err
	}
	version := commit[:min(len(commit), versionLength)]
	folder := filepath.Join(cache, "commits", commit)
	err = once(ctx, log, folder, version, func(temporary string) error {
		return buildCommit(ctx, root, commit, version, temporary)
	})
	if err != nil {
		return Older{}, fmt.Errorf("build commit %s: %w", version, err)
	}
	return Older{Version: version, Image: filepath.Join(folder, olderImage), Chart: filepath.Join(folder, olderChart)}, nil
}

// Names in the folder of a commit.
const (
	olderImage = "image.tar"
	olderChart = "chart"
)

// buildCommit checks the commit out elsewhere, builds it, and keeps its image and its chart in the folder.
func buildCommit(ctx context.Context, root, commit, version, folder string) (err error) {
	if err := runQuietly(ctx, "git", "-C", root, "cat-file", "-e", commit+"^{commit}"); err != nil {
		return missing(ctx, root, commit, err)
	}
	tree, err := os.MkdirTemp("", "agentlet-older-")
	if err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tree)) }()
	archive := filepath.Join(folder, "tree.tar")
	for _, command := range [][]string{
		{"git", "-C", root, "archive", "--output=" + archive, commit},
		{"tar", "-xf", archive, "-C", tree},
		{"make", "-C", tree, "image", "VERSION=" + version, "IMAGE=agentlet/agentlet:" + version},
		{"mv", filepath.Join(tree, ".out", "image.tar"), filepath.Join(folder, olderImage)},
		{"mv", filepath.Join(tree, "charts", "agentlet"), filepath.Join(folder, olderChart)},
	} {
		if err := runQuietly(ctx, command[0], command[1:]...); err != nil {
			return err
		}
	}
	if err := os.Remove(archive); err != nil {
		return fmt.Errorf("remove archive: %w", err)
	}
	return nil
}

// missing returns why a repository doesn't have a commit.
func missing(ctx context.Context, root, commit string, err error) error {
	shallow, errGit := exec.CommandContext(ctx, "git", "-C", root, "rev-parse", "--is-shallow-repository").Output()
	if errGit != nil || strings.TrimSpace(string(shallow)) != "false" {
		return fmt.Errorf("%w (%w)", ErrNoHistory, err)
	}
	return fmt.Errorf("the whole history has no commit %s: it was rewritten; name the commit that took its place (%w)", commit, err)
}

// stopTimeout is how long an interrupted command may take to end what it has started.
const stopTimeout = 10 * time.Second

// runQuietly runs a command that is not to take flags of a make around it, nor this repository for its own. The error holds what
// it printed. The end of ctx ends all that the command has started: a make that is killed leaves a build that writes on.
func runQuietly(ctx context.Context, name string, args ...string) error {
	command := exec.CommandContext(ctx, name, args...)
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGTERM) }
	command.WaitDelay = stopTimeout
	command.Env = append(os.Environ(), "MAKEFLAGS=", "MFLAGS=", "AGENTLET_ROOT=", "AGENTLET_E2E=")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
