package cluster

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// identity identifies a process by its PID and start time, because the kernel reuses PIDs.
type identity struct {
	PID    int    `json:"pid"`
	Start  uint64 `json:"start"` // clock ticks between boot and the process's start
	BootID string `json:"boot"`
}

// identify reads the identity of a running process. For a zombie it returns os.ErrProcessDone.
func identify(pid int) (identity, error) {
	id, state, err := readIdentityOf(pid)
	if err != nil {
		return identity{}, err
	}
	if state == 'Z' || state == 'X' {
		return identity{}, os.ErrProcessDone
	}
	return id, nil
}

// readIdentityOf reads the identity and the state of the process with this PID, zombies included.
func readIdentityOf(pid int) (identity, byte, error) {
	stat, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return identity{}, 0, os.ErrProcessDone
	}
	if err != nil {
		return identity{}, 0, fmt.Errorf("read process status: %w", err)
	}
	state, start, err := parseStat(stat)
	if err != nil {
		return identity{}, 0, err
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return identity{}, 0, fmt.Errorf("read boot id: %w", err)
	}
	return identity{PID: pid, Start: start, BootID: strings.TrimSpace(string(boot))}, state, nil
}

// parseStat reads the state (field 3) and the start time (field 22) of /proc/PID/stat. Field 2 is the program's name
// in parentheses, and may itself contain spaces and parentheses.
func parseStat(stat []byte) (state byte, start uint64, err error) {
	_, rest, ok := bytes.Cut(stat[max(0, bytes.LastIndexByte(stat, ')')):], []byte(") "))
	fields := strings.Fields(string(rest))
	if !ok || len(fields) < 20 {
		return 0, 0, fmt.Errorf("parse process status %q: too few fields", stat)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	if err != nil {
		return 0, 0, fmt.Errorf("parse process start: %w", err)
	}
	return fields[0][0], start, nil
}

// alive reports whether this process still runs.
func (i identity) alive() bool {
	now, err := identify(i.PID)
	return err == nil && now == i
}

// open returns a pidfd of this process. The identity is compared after opening, so the descriptor can't refer to a later process
// with the same PID. os.ErrProcessDone means that the process has ended. A zombie can be opened: its other threads may still be
// ending, and hold its ports.
func (i identity) open() (int, error) {
	fd, err := unix.PidfdOpen(i.PID, 0)
	if errors.Is(err, unix.ESRCH) {
		return -1, os.ErrProcessDone
	}
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", i.PID, err)
	}
	if now, _, err := readIdentityOf(i.PID); err != nil || now != i {
		return -1, errors.Join(os.ErrProcessDone, unix.Close(fd))
	}
	return fd, nil
}

// signal sends sig to this process. os.ErrProcessDone means that it has ended.
func (i identity) signal(sig unix.Signal) error {
	fd, err := i.open()
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	err = unix.PidfdSendSignal(fd, sig, nil, 0)
	if errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	}
	if err != nil {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(sig), i.PID, err)
	}
	return nil
}

// waitGone waits until the process and all its threads have ended; its ports and files are free then.
func (i identity) waitGone(ctx context.Context) error {
	fd, err := i.open()
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	for {
		// The descriptor wakes the poll at once; the timeout only serves ctx.
		const limit = 100 * time.Millisecond
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(limit.Milliseconds()))
		if n > 0 {
			return nil
		}
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d: %w", i.PID, err)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for end of process %d: %w", i.PID, ctx.Err())
		}
	}
}
