package cluster

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestParseStat(t *testing.T) {
	const rest = " S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4711 20 21"
	for name, test := range map[string]struct {
		stat string
		ok   bool
	}{
		"plain":            {"12 (cat)" + rest, true},
		"hostile name":     {"12 (a) R 1 (b c)" + rest, true},
		"cut off":          {"12 (cat) S 1 2", false},
		"empty":            {"", false},
		"no program name":  {"12 cat" + rest, false},
		"start is no time": {"12 (c) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 x", false},
	} {
		t.Run(name, func(t *testing.T) {
			state, start, err := parseStat([]byte(test.stat))
			if (err == nil) != test.ok {
				t.Fatalf("error %v, want ok = %v", err, test.ok)
			}
			if test.ok && (state != 'S' || start != 4711) {
				t.Errorf("state %c, start %d", state, start)
			}
		})
	}
}

func startSleep(t *testing.T) (identity, *exec.Cmd) {
	t.Helper()
	command := exec.CommandContext(t.Context(), "sleep", "60")
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := identify(command.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return id, command
}

func TestIdentityOutlivesItsProcess(t *testing.T) {
	id, command := startSleep(t)
	if !id.alive() {
		t.Fatal("a running process is not alive")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := id.waitGone(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("waitGone of a running process = %v", err)
	}

	if err := id.signal(unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := id.waitGone(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id.alive() {
		t.Error("a zombie is alive")
	}
	_ = command.Wait() // always an error: the process was killed
	if err := id.signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal after the end = %v, want ErrProcessDone", err)
	}
}

func TestRecycledPIDIsNotSignalled(t *testing.T) {
	current, command := startSleep(t)
	for name, change := range map[string]func(*identity){
		"another start": func(i *identity) { i.Start-- },
		"another boot":  func(i *identity) { i.BootID = "other" },
	} {
		t.Run(name, func(t *testing.T) {
			former := current
			change(&former)
			if former.alive() {
				t.Error("alive")
			}
			if err := former.signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
				t.Errorf("signal = %v, want ErrProcessDone", err)
			}
			if err := former.waitGone(t.Context()); err != nil {
				t.Errorf("waitGone = %v", err)
			}
		})
	}
	if !current.alive() {
		t.Error("the process that has the pid now was killed")
	}
	_ = command.Process.Kill()
	_ = command.Wait()
}
