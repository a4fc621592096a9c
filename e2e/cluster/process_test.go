package cluster

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// shell starts a process without a cgroup, because a test without root can't create one.
func shell(t *testing.T, script string) *Process {
	t.Helper()
	l := testLayout(t)
	return &Process{
		Name: "shell", Path: "/bin/sh", Args: []string{"-c", script},
		LogFile: l.path("shell.log"), PIDFile: l.path("shell.pid"),
	}
}

func TestProcessThatNeverRan(t *testing.T) {
	p := shell(t, "true")
	if _, running := p.PID(); running {
		t.Error("runs")
	}
	if err := p.Stop(t.Context()); err != nil {
		t.Errorf("stop = %v", err)
	}
	if err := p.Kill(t.Context()); err != nil {
		t.Errorf("kill = %v", err)
	}
	if err := p.Pause(); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("pause = %v, want ErrProcessDone", err)
	}
}

func TestProcessLifeInACgroup(t *testing.T) {
	if err := requireRoot(); err != nil {
		t.Skip(err)
	}
	const cgroup = "agentlet-unittest"
	if err := makeCgroup(cgroup); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := removeCgroup(context.WithoutCancel(t.Context()), cgroup); err != nil {
			t.Error(err)
		}
	})
	p := shell(t, "echo started; sleep 60 & wait")
	p.Cgroup = cgroup
	if err := p.launch(); err != nil {
		t.Fatal(err)
	}
	pid, running := p.PID()
	if !running {
		t.Fatal("doesn't run")
	}
	err := poll(t.Context(), func(ctx context.Context) error {
		if !strings.Contains(lastLines(p.LogFile), "started") {
			return errors.New("no output yet")
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Pause(); err != nil {
		t.Error(err)
	}
	began := time.Now()
	if err := p.Stop(t.Context()); err != nil {
		t.Fatalf("stop of a paused process: %v", err)
	}
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("stop took %s", took)
	}
	if now, running := p.PID(); running {
		t.Errorf("pid %d runs as %d", pid, now)
	}
	// The child process stays, as containers do. The cleanup kills it by removing the cgroup.
}

func TestStartOfAProgramThatEnds(t *testing.T) {
	if err := requireRoot(); err != nil {
		t.Skip(err)
	}
	const cgroup = "agentlet-unittest2"
	if err := makeCgroup(cgroup); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := removeCgroup(context.WithoutCancel(t.Context()), cgroup); err != nil {
			t.Error(err)
		}
	})
	p := shell(t, "sleep 0.1; echo the reason; exit 1")
	p.Cgroup = cgroup
	p.Probe = probe{URL: "unix://" + p.PIDFile + "-nobody"}
	err := p.Start(t.Context())
	if err == nil || !strings.Contains(err.Error(), "the reason") {
		t.Errorf("start = %v, want the log's end in it", err)
	}
}

func TestStartedProgramsInheritNothing(t *testing.T) {
	if err := requireRoot(); err != nil {
		t.Skip(err)
	}
	const cgroup = "agentlet-unittest3"
	if err := makeCgroup(cgroup); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() {
		if err := removeCgroup(context.WithoutCancel(t.Context()), cgroup); err != nil {
			t.Error(err)
		}
	})
	// Open the file as an inherited one is open, for example that of flock, without close-on-exec.
	held, err := unix.Open(filepath.Join(t.TempDir(), "lock"), unix.O_CREAT|unix.O_RDWR, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(held) })
	p := shell(t, "sleep 0.2; ls -l /proc/$$/fd; echo listed; exit 1")
	p.Cgroup = cgroup
	p.Probe = probe{URL: "unix://" + p.PIDFile + "-nobody"}
	if err := p.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "listed") || strings.Contains(err.Error(), "/lock") {
		t.Errorf("start = %v, want a list of open files without the lock", err)
	}
}
