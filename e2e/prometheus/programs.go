// Package prometheus takes Debian's Prometheus and runs it: promtool for the alerts, the server for scenarios.
package prometheus

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/agentlet/agentlet/e2e/internal/filelock"
	"github.com/agentlet/agentlet/e2e/toolchain"
)

// Programs are the paths of Prometheus' two programs.
type Programs struct{ Server, Promtool string }

// ErrNotDebian is where the programs are neither installed nor to be had.
var ErrNotDebian = errors.New("no prometheus and promtool here, and no apt-get to get them with")

const downloadTimeout = 5 * time.Minute

// Find returns the programs that are installed. Where there are none it unpacks those of Debian's package into the tools'
// cache, 20 MB to load: to install the package would start a server on the machine.
func Find(ctx context.Context) (Programs, error) {
	if server, err := exec.LookPath("prometheus"); err == nil {
		if promtool, err := exec.LookPath("promtool"); err == nil {
			return Programs{server, promtool}, nil
		}
	}
	cache, err := toolchain.CacheRoot()
	if err != nil {
		return Programs{}, err
	}
	dir := filepath.Join(cache, "tools", "prometheus")
	found := Programs{filepath.Join(dir, "usr/bin/prometheus"), filepath.Join(dir, "usr/bin/promtool")}
	lock, err := filelock.Acquire(ctx, dir+".lock", nil)
	if err != nil {
		return Programs{}, err
	}
	_, err = os.Stat(found.Server)
	if err != nil {
		err = unpack(ctx, dir)
	}
	return found, errors.Join(err, lock.Release())
}

// unpack loads Debian's package and unpacks it into dir, which appears only when it is complete.
func unpack(ctx context.Context, dir string) (err error) {
	if _, err := exec.LookPath("apt-get"); err != nil {
		return ErrNotDebian
	}
	ctx, cancel := context.WithTimeout(ctx, downloadTimeout)
	defer cancel()
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return fmt.Errorf("make the tools' cache: %w", err)
	}
	temporary, err := os.MkdirTemp(filepath.Dir(dir), "prometheus-")
	if err != nil {
		return fmt.Errorf("make temporary folder: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(temporary)) }()
	// A machine that has never asked Debian for anything has no lists.
	if err := run(ctx, temporary, "apt-get", "download", "prometheus"); err != nil {
		if err := run(ctx, temporary, "apt-get", "update"); err != nil {
			return err
		}
		if err := run(ctx, temporary, "apt-get", "download", "prometheus"); err != nil {
			return err
		}
	}
	packages, err := filepath.Glob(filepath.Join(temporary, "prometheus_*.deb"))
	if err != nil || len(packages) != 1 {
		return fmt.Errorf("load prometheus: %d packages, %w", len(packages), err)
	}
	unpacked := filepath.Join(temporary, "unpacked")
	if err := run(ctx, temporary, "dpkg-deb", "-x", packages[0], unpacked); err != nil {
		return err
	}
	if err := os.Rename(unpacked, dir); err != nil {
		return fmt.Errorf("keep prometheus: %w", err)
	}
	return nil
}

// run runs a program to its end. The error holds what it printed.
func run(ctx context.Context, dir, name string, args ...string) error {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := command.CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
