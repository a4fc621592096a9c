package cluster

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// diskSize is the size of the small disk under a Consul agent's files. The agents of tests need less.
const diskSize = "4m"

// filler is the file that fills the disk.
const filler = ".filler"

// FillConsulDisk fills the disk below the folders in which the node's Consul agent keeps its services and checks, until
// FreeConsulDisk. The first call moves these folders to a small disk, which stays until Restore.
func (n *Node) FillConsulDisk() error {
	for _, folder := range n.consulFolders() {
		if err := n.fill(folder); err != nil {
			return errors.Join(fmt.Errorf("fill disk under %s: %w", folder, err), n.FreeConsulDisk())
		}
	}
	return nil
}

// FreeConsulDisk undoes FillConsulDisk.
func (n *Node) FreeConsulDisk() error {
	var errs []error
	for _, folder := range n.consulFolders() {
		if err := os.Remove(filepath.Join(folder, filler)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("free disk: %w", err))
		}
	}
	return errors.Join(errs...)
}

func (n *Node) consulFolders() []string {
	return []string{filepath.Join(n.consulDataDir(), "services"), filepath.Join(n.consulDataDir(), "checks")}
}

func (n *Node) fill(folder string) error {
	small, err := mounted(folder)
	if err != nil {
		return err
	}
	if !small {
		if err := os.MkdirAll(folder, 0o755); err != nil {
			return err
		}
		err := n.whilePaused(func() error { return moveToDisk(folder) })
		if err != nil {
			return err
		}
	}
	return fillFolder(folder)
}

// fillFolder writes the filler until the disk is full.
func fillFolder(folder string) error {
	file, err := os.Create(filepath.Join(folder, filler))
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	// Write small pieces at the end, so that no space is left.
	for _, size := range []int{64 << 10, 4 << 10, 1} {
		for err = error(nil); err == nil; {
			_, err = file.Write(make([]byte, size))
		}
		if !errors.Is(err, unix.ENOSPC) {
			return err
		}
	}
	return nil
}

// whilePaused runs do while the node's Consul agent is paused, so that the agent writes nothing.
func (n *Node) whilePaused(do func() error) error {
	agent := n.Process(ConsulAgent)
	if _, running := agent.PID(); !running {
		return do()
	}
	if err := agent.Pause(); err != nil {
		return err
	}
	return errors.Join(do(), agent.Resume())
}

// moveToDisk mounts a small disk over a folder and copies the folder's files to it.
func moveToDisk(folder string) error {
	place := folder + ".disk"
	if err := os.MkdirAll(place, 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", place, "tmpfs", 0, "size="+diskSize); err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if err := copyFiles(folder, place); err != nil {
		return errors.Join(err, unix.Unmount(place, unix.MNT_DETACH), os.Remove(place))
	}
	if err := unix.Mount(place, folder, "", unix.MS_BIND, ""); err != nil {
		return errors.Join(fmt.Errorf("bind: %w", err), unix.Unmount(place, unix.MNT_DETACH), os.Remove(place))
	}
	return errors.Join(unix.Unmount(place, unix.MNT_DETACH), os.Remove(place))
}

// restoreConsulDisk unmounts the small disks and copies their files back into the folders.
func (n *Node) restoreConsulDisk() error {
	if n.Process(ConsulAgent) == nil {
		return nil
	}
	for _, folder := range n.consulFolders() {
		small, err := mounted(folder)
		if err != nil {
			return err
		}
		if !small {
			continue
		}
		if err := n.whilePaused(func() error { return moveFromDisk(folder) }); err != nil {
			return fmt.Errorf("restore %s: %w", folder, err)
		}
	}
	return nil
}

func moveFromDisk(folder string) error {
	kept := folder + ".kept"
	if err := os.RemoveAll(kept); err != nil {
		return err
	}
	if err := copyFiles(folder, kept); err != nil {
		return err
	}
	if err := unix.Unmount(folder, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount: %w", err)
	}
	if err := os.RemoveAll(folder); err != nil {
		return err
	}
	return os.Rename(kept, folder)
}

// copyFiles copies the files of a folder, except the filler, with their modes and owners.
func copyFiles(from, to string) error {
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	entries, err := os.ReadDir(from)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.Name() == filler || !entry.Type().IsRegular() {
			continue
		}
		if err := copyFile(filepath.Join(from, entry.Name()), filepath.Join(to, entry.Name())); err != nil {
			return err
		}
	}
	return nil
}

func copyFile(from, to string) (err error) {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	info, err := source.Stat()
	if err != nil {
		return err
	}
	target, err := os.OpenFile(to, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, info.Mode().Perm())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, target.Close()) }()
	_, err = io.Copy(target, source)
	return err
}

// mounted reports whether this folder itself is a mount point.
func mounted(folder string) (bool, error) {
	file, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	mounts, err := mountsBelow(file, filepath.Dir(folder))
	return slices.ContainsFunc(mounts, func(m string) bool { return strings.TrimSuffix(m, "/") == folder }), err
}
