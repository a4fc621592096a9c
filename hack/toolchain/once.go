package toolchain

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/agentlet/agentlet/hack/filelock"
)

// once makes a folder of the cache unless it is there. fill fills a temporary folder, which is moved to its place when it is
// complete. All that has the same parent is made one after the other: two such builds at once would only fight over memory and
// processors.
func once(ctx context.Context, log io.Writer, folder, name string, fill func(temporary string) error) (err error) {
	if exists(folder) {
		return nil
	}
	lock, err := filelock.Acquire(ctx, filepath.Join(filepath.Dir(folder), ".lock"), func() {
		fmt.Fprintln(log, "waiting for another build of tools")
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if exists(folder) {
		return nil
	}
	// With the lock held, a folder that is there is what a killed build has left.
	temporary := filepath.Join(filepath.Dir(folder), ".building-"+name)
	if err := os.RemoveAll(temporary); err != nil {
		return fmt.Errorf("remove unfinished build: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	if err := os.Mkdir(temporary, 0o755); err != nil {
		return fmt.Errorf("create folder: %w", err)
	}
	if err := fill(temporary); err != nil {
		return err
	}
	if err := os.Rename(temporary, folder); err != nil {
		return fmt.Errorf("move what was built into the cache: %w", err)
	}
	return nil
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
