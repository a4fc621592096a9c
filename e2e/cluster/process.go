package cluster

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Names of the processes, as Cluster.Process and Node.Process know them.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	ConsulServer      = "consul-server" // the first; with three: consul-server, consul-server-2, consul-server-3
	Containerd        = "containerd"
	Kubelet           = "kubelet"
	KubeProxy         = "kube-proxy"
	ConsulAgent       = "consul"
)

// Bounds of the waits. They are generous: two cores may be busy with a build at the same time.
const (
	startTimeout = 90 * time.Second
	stopTimeout  = 90 * time.Second
)

// Process is one program of the cluster, running or not. Its methods may be called from any program that is
// attached to the cluster, but not concurrently for the same process.
type Process struct {
	Name    string // see the constants; unique on its node
	Path    string
	Args    []string
	Env     []string `json:",omitempty"`
	Netns   string   `json:",omitempty"` // name of its network namespace; empty: the host's
	Cgroup  string   // below every cgroup controller's root
	Probe   probe    // answers once it is ready
	LogFile string   // stdout and stderr, appended
	PIDFile string
}

// Start starts the process unless it runs, and waits until it is ready. It outlives the calling program.
func (p *Process) Start(ctx context.Context) error {
	if _, running := p.PID(); !running {
		if err := p.launch(); err != nil {
			return fmt.Errorf("start %s: %w", p.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err := poll(ctx, func(ctx context.Context) error {
		if _, running := p.PID(); !running {
			return permanent(errors.New("it ended"))
		}
		return p.Probe.try(ctx)
	})
	if err != nil {
		return fmt.Errorf("start %s: wait until ready: %w; the end of %s:\n%s", p.Name, err, p.LogFile, lastLines(p.LogFile))
	}
	return nil
}

// launch starts the program in a session of its own and writes its pid file.
func (p *Process) launch() error {
	log, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	name, args := p.Path, p.Args
	if p.Netns != "" {
		// Not `ip netns exec`: that remounts /sys, and the kubelet then misses the cgroup mounts. nsenter replaces
		// itself by the program, so that its pid is the program's.
		name, args = "nsenter", append([]string{"--net=" + netnsPath(p.Netns), p.Path}, p.Args...)
	}
	path, err := lookPath(name)
	if err != nil {
		return err
	}
	if err := inheritNothing(); err != nil {
		return err
	}
	command := exec.Command(path, args...) //nolint:noctx // it outlives every context
	command.Dir = filepath.Dir(p.LogFile)
	// Nothing else of the caller's environment: a proxy or a Consul token in it would change what is tested.
	command.Env = append([]string{"PATH=" + searchPath(), "HOME=" + command.Dir}, p.Env...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return err
	}
	// Reaps it when it ends before this program does; its exit status is of no interest.
	go func() { _ = command.Wait() }()
	if err := p.register(command.Process.Pid); err != nil {
		return errors.Join(err, command.Process.Kill())
	}
	return nil
}

// inheritNothing keeps the files that this program was started with from the programs that it starts, which outlive it: among
// them may be the lock of whoever waits for its end.
func inheritNothing() error {
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return fmt.Errorf("list open files: %w", err)
	}
	for _, entry := range open {
		if fd, err := strconv.Atoi(entry.Name()); err == nil && fd > int(os.Stderr.Fd()) {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// register puts a new process where Down finds it: into its cgroup and its pid file.
func (p *Process) register(pid int) error {
	if err := joinCgroup(p.Cgroup, pid); err != nil {
		return err
	}
	id, err := identify(pid)
	if err != nil {
		return fmt.Errorf("identify process: %w", err)
	}
	content, err := json.Marshal(id)
	if err != nil {
		return fmt.Errorf("encode pid: %w", err)
	}
	return writeFile(p.PIDFile, content)
}

// PID returns the process id, and whether the process runs. A paused process runs.
func (p *Process) PID() (int, bool) {
	id, ok := readIdentity(p.PIDFile)
	if !ok || !id.alive() {
		return 0, false
	}
	return id.PID, true
}

func readIdentity(file string) (identity, bool) {
	var id identity
	content, err := os.ReadFile(file)
	if err != nil || json.Unmarshal(content, &id) != nil {
		return identity{}, false
	}
	return id, true
}

// Stop sends SIGTERM, and returns when the process has gone. It does nothing to a process that doesn't run. A
// process that doesn't act on SIGTERM for 90 seconds is an error, and stays.
func (p *Process) Stop(ctx context.Context) error {
	return p.end(ctx, "stop", unix.SIGTERM, unix.SIGCONT) // a paused process acts on SIGTERM only when continued
}

// Kill sends SIGKILL, and returns when the process has gone. It does nothing to a process that doesn't run.
func (p *Process) Kill(ctx context.Context) error {
	return p.end(ctx, "kill", unix.SIGKILL)
}

func (p *Process) end(ctx context.Context, verb string, signals ...unix.Signal) error {
	id, ok := readIdentity(p.PIDFile)
	if !ok {
		return nil
	}
	for _, sig := range signals {
		if err := id.signal(sig); errors.Is(err, os.ErrProcessDone) {
			return nil
		} else if err != nil {
			return fmt.Errorf("%s %s: %w", verb, p.Name, err)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	if err := id.waitGone(ctx); err != nil {
		return fmt.Errorf("%s %s: %w", verb, p.Name, err)
	}
	return nil
}

// Pause freezes the process with SIGSTOP: its connections stay open, and nobody answers on them.
func (p *Process) Pause() error { return p.send("pause", unix.SIGSTOP) }

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.send("resume", unix.SIGCONT) }

func (p *Process) send(verb string, sig unix.Signal) error {
	id, ok := readIdentity(p.PIDFile)
	if !ok {
		return fmt.Errorf("%s %s: %w", verb, p.Name, os.ErrProcessDone)
	}
	if err := id.signal(sig); err != nil {
		return fmt.Errorf("%s %s: %w", verb, p.Name, err)
	}
	return nil
}

// Restart stops and starts the process.
func (p *Process) Restart(ctx context.Context) error {
	if err := p.Stop(ctx); err != nil {
		return err
	}
	return p.Start(ctx)
}
