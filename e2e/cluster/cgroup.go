package cluster

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const cgroupMount = "/sys/fs/cgroup"

// cgroupRoots returns the roots of the machine's cgroup hierarchies: one with cgroup v2, one per controller with v1.
func cgroupRoots() ([]string, error) {
	var stat unix.Statfs_t
	if err := unix.Statfs(cgroupMount, &stat); err != nil {
		return nil, fmt.Errorf("look at cgroup mount: %w", err)
	}
	if stat.Type == unix.CGROUP2_SUPER_MAGIC {
		return []string{cgroupMount}, nil
	}
	procs, err := filepath.Glob(cgroupMount + "/*/cgroup.procs")
	if err != nil {
		return nil, fmt.Errorf("list cgroup controllers: %w", err)
	}
	roots := []string{}
	for _, file := range procs {
		root := filepath.Dir(file)
		// cpu may be a symbolic link to cpu,cpuacct. A v2 hierarchy beside v1's has no controllers, but runc uses it.
		if info, err := os.Lstat(root); err == nil && info.IsDir() {
			roots = append(roots, root)
		}
	}
	if len(roots) == 0 {
		return nil, errors.New("list cgroup controllers: none is mounted below " + cgroupMount)
	}
	return roots, nil
}

// makeCgroup creates a cgroup and its parents in every hierarchy.
func makeCgroup(cgroup string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := root
		for element := range strings.SplitSeq(cgroup, "/") {
			parent := dir
			dir = filepath.Join(dir, element)
			if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("make cgroup: %w", err)
			}
			if err := inherit(parent, dir); err != nil {
				return fmt.Errorf("prepare cgroup %s: %w", dir, err)
			}
		}
	}
	return nil
}

// inherit copies to a new cgroup what it doesn't inherit by itself. With v1 a new cpuset is empty and accepts no process; with v2
// the parent must enable the controllers for its children.
func inherit(parent, child string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		if _, err := os.Stat(filepath.Join(parent, "cgroup.controllers")); err == nil {
			break
		}
		value, err := os.ReadFile(filepath.Join(parent, file))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(child, file), value, 0o644); err != nil {
			return err
		}
	}
	controllers, err := os.ReadFile(filepath.Join(parent, "cgroup.controllers"))
	if err != nil {
		return nil // v1
	}
	for controller := range strings.FieldsSeq(string(controllers)) {
		control := filepath.Join(parent, "cgroup.subtree_control")
		if err := os.WriteFile(control, []byte("+"+controller), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// joinCgroup moves a process into a cgroup in every hierarchy, and creates the cgroup if it is missing.
func joinCgroup(cgroup string, pid int) error {
	if err := makeCgroup(cgroup); err != nil {
		return err
	}
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		file := filepath.Join(root, cgroup, "cgroup.procs")
		if err := os.WriteFile(file, []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("move process into cgroup: %w", err)
		}
	}
	return nil
}

// removeCgroup kills every process in a cgroup and its children, and removes the folders. Containers and their shims outlive the
// kubelet and containerd; this ends them.
func removeCgroup(ctx context.Context, cgroup string) error {
	roots, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := filepath.Join(root, cgroup)
		err := poll(ctx, func(context.Context) error { // repeat: a shim may have started a process meanwhile
			if err := killCgroup(dir, cgroup); err != nil {
				return err
			}
			return removeFolders(dir)
		})
		if err != nil {
			return fmt.Errorf("remove cgroup %s: %w", dir, err)
		}
	}
	return nil
}

func killCgroup(dir, cgroup string) error {
	return walkFolders(dir, func(folder string) error {
		content, err := os.ReadFile(filepath.Join(folder, "cgroup.procs"))
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err != nil {
			return err
		}
		for field := range strings.FieldsSeq(string(content)) {
			pid, err := strconv.Atoi(field)
			if err != nil || pid <= 0 {
				continue // 0 is a process of another pid namespace
			}
			if err := killMember(pid, cgroup); err != nil {
				return err
			}
		}
		return nil
	})
}

// killMember kills a process if it belongs to the cgroup. It holds a pidfd during the check, so that the PID can't be reused.
func killMember(pid int, cgroup string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(fd) }()
	membership, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cgroup"))
	if err != nil || !memberOf(string(membership), cgroup) {
		return nil // it has ended
	}
	if err := unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill process %d: %w", pid, err)
	}
	return nil
}

// memberOf parses /proc/PID/cgroup, lines of ID:CONTROLLERS:PATH.
func memberOf(membership, cgroup string) bool {
	for line := range strings.Lines(membership) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(fields) == 3 && (fields[2] == "/"+cgroup || strings.HasPrefix(fields[2], "/"+cgroup+"/")) {
			return true
		}
	}
	return false
}

// removeFolders removes the folders of a cgroup, children first.
func removeFolders(dir string) error {
	folders := []string{}
	err := walkFolders(dir, func(folder string) error {
		folders = append(folders, folder)
		return nil
	})
	if err != nil {
		return err
	}
	for _, folder := range slices.Backward(folders) {
		if err := unix.Rmdir(folder); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove %s: %w", folder, err)
		}
	}
	return nil
}

// walkFolders visits dir and the folders below it, parents first. It ignores folders that vanish meanwhile.
func walkFolders(dir string, visit func(string) error) error {
	return filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENODEV) {
			return nil
		}
		if err != nil {
			return err
		}
		if !entry.IsDir() {
			return nil
		}
		return visit(path)
	})
}
