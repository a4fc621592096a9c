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

// Names of the processes, for Cluster.Process and Node.Process.
const (
	Etcd              = "etcd"
	APIServer         = "kube-apiserver"
	ControllerManager = "kube-controller-manager"
	Scheduler         = "kube-scheduler"
	ConsulServer      = "consul-server" // the first of up to three: consul-server, consul-server-2, consul-server-3
	Containerd        = "containerd"
	Kubelet           = "kubelet"
	KubeProxy         = "kube-proxy"
	ConsulAgent       = "consul"
)

// Time limits. They are generous, because a build may keep both cores busy.
const (
	startTimeout = 90 * time.Second
	stopTimeout  = 90 * time.Second
)

// Process is one program of the cluster, running or not. Any program that is attached to the cluster may call its methods, but
// not concurrently for the same process.
type Process struct {
	Name    string // one of the constants; unique on its node
	Path    string
	Args    []string
	Env     []string `json:",omitempty"`
	Netns   string   `json:",omitempty"` // name of its network namespace; empty for the host's
	Cgroup  string   // path below every cgroup controller's root
	Probe   probe    // succeeds once the process is ready
	LogFile string   // gets stdout and stderr, appended
	PIDFile string
}

// Start starts the process unless it runs, and waits until it is ready. The process outlives the calling program.
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

// launch starts the program in a new session and writes its PID file.
func (p *Process) launch() error {
	log, err := os.OpenFile(p.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("open log: %w", err)
	}
	defer func() { _ = log.Close() }()
	name, args := p.Path, p.Args
	if p.Netns != "" {
		// Don't use `ip netns exec`: it remounts /sys, which hides the cgroup mounts from the kubelet. nsenter execs the program,
		// so the PID is the program's.
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
	// Pass no other variable of the caller: a proxy or a Consul token in the environment would change what is tested.
	command.Env = append([]string{"PATH=" + searchPath(), "HOME=" + command.Dir}, p.Env...)
	command.Stdout, command.Stderr = log, log
	command.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := command.Start(); err != nil {
		return err
	}
	// Reap the process if it ends before this program does; its exit status is not needed.
	go func() { _ = command.Wait() }()
	if err := p.register(command.Process.Pid); err != nil {
		return errors.Join(err, command.Process.Kill())
	}
	return nil
}

// inheritNothing sets close-on-exec on the files that this program inherited, because its child processes outlive it. One of
// these files may be a lock that another program waits for.
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

// register makes a new process known to Down: it moves it into its cgroup and writes its PID file.
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

// PID returns the process ID, and whether the process runs. A paused process counts as running.
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

// Stop sends SIGTERM, and returns when the process has ended. If the process doesn't run, Stop does nothing. If it doesn't end
// within 90 seconds, Stop returns an error and leaves it.
func (p *Process) Stop(ctx context.Context) error {
	return p.end(ctx, "stop", unix.SIGTERM, unix.SIGCONT) // a paused process handles SIGTERM only after SIGCONT
}

// Kill sends SIGKILL, and returns when the process has ended. If the process doesn't run, Kill does nothing.
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

// Pause freezes the process with SIGSTOP: its connections stay open, but get no answers.
func (p *Process) Pause() error { return p.send("pause", unix.SIGSTOP) }

// Resume continues a paused process.
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
