package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// cniResults is the folder in which the CNI library caches its results.
const cniResults = "/var/lib/cni/results/"

// Down removes the cluster of that name: processes, containers, mounts, network and files. It also removes the remains of a
// crashed cluster. If there is nothing to remove, it does nothing.
func Down(ctx context.Context, name string, log io.Writer) (err error) {
	if name == "" {
		name = DefaultName
	}
	l, err := newLayout(name)
	if err != nil {
		return err
	}
	if err := requireRoot(); err != nil {
		return err
	}
	lock, err := l.lock(ctx, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	ctx, cancel := context.WithTimeout(ctx, cleanupTimeout)
	defer cancel()
	return (&steps{log: log}).do(ctx, "cluster "+name+" is down", func(ctx context.Context) error {
		return l.clean(ctx, false)
	})
}

// Down removes the cluster: see the function Down.
func (c *Cluster) Down(ctx context.Context) error { return Down(ctx, c.Name(), c.Options.Log) }

// clean removes everything of the cluster, optionally except the logs. The order matters: first the processes that could create
// new containers or mounts.
func (l layout) clean(ctx context.Context, keepLogs bool) error {
	steps := []struct {
		what string
		do   func() error
	}{
		{"end processes", func() error { return l.killProcesses(ctx) }},
		{"end containers", func() error { return removeCgroup(ctx, l.cgroup()) }},
		{"remove mounts", func() error { return removeMounts(l.dir) }},
		{"remove network", func() error { return l.removeNetwork(ctx) }},
		{"remove traces of containers", l.removeContainerTraces},
		{"remove links to logs", func() error { return removeLinksInto("/var/log/containers", l.dir) }},
		{"remove files", func() error { return l.removeFiles(keepLogs) }},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// killProcesses kills every process with a PID file, and waits until all have ended and released their ports.
func (l layout) killProcesses(ctx context.Context) error {
	files, err := filepath.Glob(l.path("pids", "*"))
	if err != nil {
		return err
	}
	killed := []identity{}
	for _, file := range files {
		id, ok := readIdentity(file)
		if !ok {
			continue
		}
		if err := id.signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return err
		}
		killed = append(killed, id)
	}
	for _, id := range killed {
		if err := id.waitGone(ctx); err != nil {
			return err
		}
	}
	return nil
}

// removeMounts unmounts everything below dir, the newest mount first.
func removeMounts(dir string) error {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	mounts, err := mountsBelow(file, dir)
	if err != nil {
		return err
	}
	for _, mount := range slices.Backward(mounts) {
		err := unix.Unmount(mount, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		// EINVAL: it was unmounted together with a mount above it.
		if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("unmount %s: %w", mount, err)
		}
	}
	return nil
}

// mountsBelow parses the mount points below dir in a mountinfo file. They are its fifth field, in which spaces and similar
// characters are escaped as octal numbers.
func mountsBelow(mountinfo io.Reader, dir string) ([]string, error) {
	unescape := strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`)
	mounts := []string{}
	lines := bufio.NewScanner(mountinfo)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) < 5 {
			continue
		}
		if point := unescape.Replace(fields[4]); strings.HasPrefix(point, dir+"/") {
			mounts = append(mounts, point)
		}
	}
	return mounts, lines.Err()
}

// removeContainerTraces removes what containers leave outside the cluster's folder: the sockets of their shims, and the results
// that the CNI library has cached for their networks.
func (l layout) removeContainerTraces() error {
	files, err := filepath.Glob(l.path("node*", "containerd-state", "io.containerd.runtime.v2.task", "*", "*", "address"))
	if err != nil {
		return err
	}
	results, err := filepath.Glob(cniResults + "agentlet-" + l.name + "-node*")
	if err != nil {
		return err
	}
	for _, file := range files {
		// The file name of a loopback network doesn't contain the cluster's name, but it contains the container's ID.
		id := filepath.Base(filepath.Dir(file))
		results = append(results, cniResults+"cni-loopback-"+id+"-lo")
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		socket, ok := strings.CutPrefix(string(content), "unix://")
		if !ok || !strings.HasPrefix(socket, "/run/containerd/s/") {
			continue
		}
		results = append(results, socket)
	}
	for _, file := range results {
		if err := os.Remove(file); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	}
	return nil
}

// removeLinksInto removes the symbolic links in folder that point below dir.
func removeLinksInto(folder, dir string) error {
	links, err := filepath.Glob(filepath.Join(folder, "*"))
	if err != nil {
		return err
	}
	for _, link := range links {
		target, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(target, dir+"/") {
			continue
		}
		if err := os.Remove(link); err != nil {
			return err
		}
	}
	return nil
}

func (l layout) removeFiles(keepLogs bool) error {
	if !keepLogs {
		return os.RemoveAll(l.dir)
	}
	entries, err := os.ReadDir(l.dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == "logs" {
			continue
		}
		if err := os.RemoveAll(l.path(entry.Name())); err != nil {
			return err
		}
	}
	return nil
}
