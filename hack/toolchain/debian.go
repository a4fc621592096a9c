package toolchain

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentlet/agentlet/hack/filelock"
)

// ErrNotDebian means that Debian packages are not available.
var ErrNotDebian = errors.New("no apt-get here to get a package of Debian with")

const downloadTimeout = 5 * time.Minute

// Debian returns the folder with the files of a Debian package. If the cache doesn't contain it, the package is downloaded and
// unpacked there. It is not installed, because that might start a server on the machine. Its dependencies are not downloaded.
func Debian(ctx context.Context, name string) (dir string, err error) {
	cache, err := CacheRoot()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(cache, "tools", name)
	lock, err := filelock.Acquire(ctx, dir+".lock", nil)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	return dir, unpack(ctx, name, dir)
}

// unpack downloads a package and unpacks it into dir, which appears only when it is complete.
func unpack(ctx context.Context, name, dir string) (err error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return ErrNotDebian
	}
	ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
	defer cancel()
	temporary, err := os.MkdirTemp(filepath.Dir(dir), name+"-")
	if err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	// A machine that has never asked Debian for anything has no lists.
	if err := runIn(ctx, temporary, "apt-get", "download", name); err != nil {
		if err := runIn(ctx, temporary, "apt-get", "update"); err != nil {
			return fmt.Errorf("no list of packages has %s, and only root may load one: run sudo apt-get update: %w", name, err)
		}
		if err := runIn(ctx, temporary, "apt-get", "download", name); err != nil {
			return err
		}
	}
	packages, err := filepath.Glob(filepath.Join(temporary, name+"_*.deb"))
	if err != nil {
		return fmt.Errorf("find the package %s: %w", name, err)
	}
	if len(packages) != 1 {
		return fmt.Errorf("apt-get download %s has left %d packages: want one", name, len(packages))
	}
	unpacked := filepath.Join(temporary, "unpacked")
	if err := runIn(ctx, temporary, "dpkg-deb", "-x", packages[0], unpacked); err != nil {
		return err
	}
	if err := os.Rename(unpacked, dir); err != nil {
		return fmt.Errorf("keep %s: %w", name, err)
	}
	return nil
}

// runIn runs a program in a folder. The error contains its output.
func runIn(ctx context.Context, dir, name string, args ...string) error {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
