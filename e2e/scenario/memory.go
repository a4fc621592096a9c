package scenario

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// AnonymousMemory returns the resident anonymous memory, in bytes, of a container's process on this machine. The process is the
// one whose command line contains words and whose environment contains the pod's UID.
func AnonymousMemory(words, uid string) (int64, error) {
	pid, err := find(words, uid)
	if err != nil {
		return 0, err
	}
	return rssAnon(filepath.Join("/proc", strconv.Itoa(pid), "status"))
}

// Kill sends SIGKILL to the process that AnonymousMemory would measure.
func Kill(words, uid string) error {
	pid, err := find(words, uid)
	if err != nil {
		return err
	}
	return syscall.Kill(pid, syscall.SIGKILL)
}

// ReadFile reads a file as the container of that process sees it, through its root in /proc.
func ReadFile(words, uid, path string) ([]byte, error) {
	pid, err := find(words, uid)
	if err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "root", path))
}

// find returns the PID of a container's process, by its command line and its pod's UID. The containers that scenarios look for
// have the UID in their environment.
func find(words, uid string) (int, error) {
	commands, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return 0, err
	}
	for _, file := range commands {
		command, err := os.ReadFile(file)
		if err != nil || !strings.Contains(string(bytes.ReplaceAll(command, []byte{0}, []byte{' '})), words) {
			continue
		}
		folder := filepath.Dir(file)
		if environment, err := os.ReadFile(filepath.Join(folder, "environ")); err == nil && bytes.Contains(environment, []byte(uid)) {
			return strconv.Atoi(filepath.Base(folder))
		}
	}
	return 0, errors.New("no such process")
}

func rssAnon(file string) (int64, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("read process status: %w", err)
	}
	lines := bufio.NewScanner(bytes.NewReader(content))
	for lines.Scan() {
		if value, found := strings.CutPrefix(lines.Text(), "RssAnon:"); found {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s has no RssAnon", file)
}
