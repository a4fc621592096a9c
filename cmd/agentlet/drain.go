package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// preStopSignal tells the registrar that the kubelet has run the preStop hook of its container.
const preStopSignal = syscall.SIGUSR1

// drain tells the registrar in this container that the pod terminates. The kubelet runs the hook in the container's mount
// namespace, in which the registrar is the only other process. The process ID 1 would not do: with a shared process namespace it
// belongs to another process.
func drain(proc string) error {
	pid, err := registrar(proc, os.Getpid())
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, preStopSignal); err != nil {
		return fmt.Errorf("signal process %d: %w", pid, err)
	}
	return nil
}

// registrar returns the lowest PID of another process with the mount namespace of process self.
func registrar(proc string, self int) (int, error) {
	own, err := os.Readlink(filepath.Join(proc, strconv.Itoa(self), "ns", "mnt"))
	if err != nil {
		return 0, fmt.Errorf("read the own mount namespace: %w", err)
	}
	entries, err := os.ReadDir(proc)
	if err != nil {
		return 0, fmt.Errorf("list processes: %w", err)
	}
	found := 0
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || pid == self {
			continue
		}
		// In a shared process namespace, other containers' processes can't be read.
		if mount, err := os.Readlink(filepath.Join(proc, entry.Name(), "ns", "mnt")); err == nil && mount == own &&
			(found == 0 || pid < found) {
			found = pid
		}
	}
	if found == 0 {
		return 0, errors.New("no registrar runs in this container")
	}
	return found, nil
}
