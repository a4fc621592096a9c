package scenario

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Process is a container's process, seen from this machine.
type Process struct{ PID int }

// FindProcess returns the process whose command line contains words and whose environment contains the pod's UID.
func FindProcess(words, uid string) (Process, error) {
	pid, err := find(words, uid)
	return Process{pid}, err
}

func (p Process) file(name string) string { return filepath.Join("/proc", strconv.Itoa(p.PID), name) }

// AnonymousMemory returns the resident anonymous memory in bytes.
func (p Process) AnonymousMemory() (int64, error) { return rssAnon(p.file("status")) }

// Identity returns the effective user and group.
func (p Process) Identity() (user, group int, err error) {
	status, err := os.ReadFile(p.file("status"))
	if err != nil {
		return 0, 0, fmt.Errorf("read the identity of process %d: %w", p.PID, err)
	}
	ids := map[string]int{}
	for line := range strings.Lines(string(status)) {
		// Uid: REAL EFFECTIVE SAVED FILESYSTEM
		if fields := strings.Fields(line); len(fields) == 5 && (fields[0] == "Uid:" || fields[0] == "Gid:") {
			if ids[fields[0]], err = strconv.Atoi(fields[2]); err != nil {
				return 0, 0, fmt.Errorf("read the identity of process %d: %w", p.PID, err)
			}
		}
	}
	if len(ids) != 2 {
		return 0, 0, fmt.Errorf("read the identity of process %d: no Uid and Gid in its status", p.PID)
	}
	return ids["Uid:"], ids["Gid:"], nil
}

// Opened returns how many files (sockets included) the process has open, and how many threads it has.
func (p Process) Opened() (files, threads int, err error) {
	descriptors, err := os.ReadDir(p.file("fd"))
	if err != nil {
		return 0, 0, fmt.Errorf("list open files of process %d: %w", p.PID, err)
	}
	tasks, err := os.ReadDir(p.file("task"))
	if err != nil {
		return 0, 0, fmt.Errorf("list threads of process %d: %w", p.PID, err)
	}
	return len(descriptors), len(tasks), nil
}

// ProcessorTime returns the CPU time of all running threads.
func (p Process) ProcessorTime() (time.Duration, error) {
	files, err := filepath.Glob(p.file("task/*/schedstat"))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("find threads of process %d: %w", p.PID, errors.Join(err, os.ErrNotExist))
	}
	var used time.Duration
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			continue // the thread has ended
		}
		first, _, _ := strings.Cut(string(content), " ")
		nanoseconds, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("read %s: %w", file, err)
		}
		used += time.Duration(nanoseconds)
	}
	return used, nil
}

// CgroupMemory returns the memory in bytes that the kernel charges to the container, page cache included.
func (p Process) CgroupMemory() (int64, error) {
	file, err := p.memoryFile("memory.usage_in_bytes", "memory.current")
	if err != nil {
		return 0, err
	}
	value, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read a container's memory: %w", err)
	}
	return strconv.ParseInt(strings.TrimSpace(string(value)), 10, 64)
}

// LimitMemory sets the memory limit of the container's cgroup, until the container restarts.
func (p Process) LimitMemory(bytes int64) error {
	file, err := p.memoryFile("memory.limit_in_bytes", "memory.max")
	if err != nil {
		return err
	}
	return os.WriteFile(file, strconv.AppendInt(nil, bytes, 10), 0o600)
}

// memoryFile returns the path of a file of the container's cgroup, by its name in cgroup v1 and in v2.
func (p Process) memoryFile(first, second string) (string, error) {
	content, err := os.ReadFile(p.file("cgroup"))
	if err != nil {
		return "", fmt.Errorf("read cgroups of process %d: %w", p.PID, err)
	}
	for line := range strings.Lines(string(content)) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		var file string
		switch {
		case parts[1] == "memory":
			file = filepath.Join("/sys/fs/cgroup/memory", parts[2], first)
		case parts[0] == "0" && parts[1] == "":
			file = filepath.Join("/sys/fs/cgroup", parts[2], second)
		default:
			continue
		}
		if _, err := os.Stat(file); err == nil {
			return file, nil
		}
	}
	return "", fmt.Errorf("process %d has no cgroup that counts memory", p.PID)
}
