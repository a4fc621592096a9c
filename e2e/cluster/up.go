package cluster

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/agentlet/agentlet/hack/filelock"
	"github.com/agentlet/agentlet/hack/toolchain"
)

const cleanupTimeout = time.Minute

// ErrOtherOptions means that the cluster is up with other options than those asked for.
var ErrOtherOptions = errors.New("up with other options: take it down first")

// Up starts a cluster and returns when it is healthy. A cluster that is already healthy is returned as it is; if it has other
// options, the error is ErrOtherOptions. Up removes the remains of an unhealthy cluster first. If Up fails, it leaves only the
// logs behind.
func Up(ctx context.Context, options Options) (c *Cluster, err error) {
	options, err = options.complete()
	if err != nil {
		return nil, fmt.Errorf("check options: %w", err)
	}
	l, err := newLayout(options.Name)
	if err != nil {
		return nil, err
	}
	if err := requireRoot(); err != nil {
		return nil, err
	}
	lock, err := l.lock(ctx, options.Log)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Release()) }()
	if err := l.refuseOthers(); err != nil {
		return nil, err
	}
	if running, err := reuse(ctx, l, options); running != nil || err != nil {
		return running, err
	}
	return start(ctx, l, options)
}

// lock serializes Up and Down of all clusters of this user.
func (l layout) lock(ctx context.Context, log io.Writer) (*filelock.Lock, error) {
	return filelock.Acquire(ctx, filepath.Join(filepath.Dir(l.dir), ".lock"), func() {
		fmt.Fprintln(log, "waiting for another up or down")
	})
}

// refuseOthers fails if another cluster exists, because all clusters share the same addresses.
func (l layout) refuseOthers() error {
	bridges, err := filepath.Glob("/sys/class/net/br-*")
	if err != nil {
		return fmt.Errorf("list bridges: %w", err)
	}
	for _, bridge := range bridges {
		other := layout{name: filepath.Base(bridge)[len("br-"):]}
		if other.name != l.name && exists(filepath.Join("/sys/class/net", other.hostLink(1))) {
			return fmt.Errorf("cluster %q is up, and has the addresses that %q needs: take it down first", other.name, l.name)
		}
	}
	return nil
}

// reuse returns the running cluster if it is healthy, and nil if there is none or only remains of one.
func reuse(ctx context.Context, l layout, options Options) (*Cluster, error) {
	c, err := loadCluster(l)
	if err != nil {
		return nil, nil //nolint:nilerr,nilnil // whatever is there is no cluster
	}
	if err := c.Healthy(ctx); err != nil {
		fmt.Fprintf(options.Log, "cluster %s is not healthy, starting anew: %v\n", l.name, err)
		return nil, nil //nolint:nilnil // remains
	}
	if same, err := sameOptions(c.Options, options); err != nil {
		return nil, err
	} else if !same {
		return nil, fmt.Errorf("cluster %q is %w", l.name, ErrOtherOptions)
	}
	c.Options.Log = options.Log
	fmt.Fprintf(options.Log, "cluster %s is up\n", l.name)
	return c, nil
}

// sameOptions compares options after a round trip through JSON, which turns every number into a float.
func sameOptions(a, b Options) (bool, error) {
	encodedA, errA := json.Marshal(a)
	encodedB, errB := json.Marshal(b)
	return bytes.Equal(encodedA, encodedB), errors.Join(errA, errB)
}

func start(ctx context.Context, l layout, options Options) (*Cluster, error) {
	sets := []string{toolchain.Kubernetes}
	if options.Kubernetes != toolchain.Kubernetes {
		sets = append(sets, options.Kubernetes)
	}
	if options.Consul == ConsulAgents {
		sets = append(sets, options.ConsulTools)
	}
	tools, err := toolchain.Ensure(ctx, options.Log, sets...)
	if err != nil {
		return nil, err
	}
	if options.Consul == ConsulAgents {
		tools[toolchain.Consul] = tools[options.ConsulTools] // the rest of this package knows one Consul
	}
	c := newCluster(l, options, tools)
	if err := c.bringUp(ctx, &steps{log: options.Log}); err != nil {
		// Clean up even if ctx has ended: nothing may stay behind.
		cleanup, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		return nil, errors.Join(fmt.Errorf("start cluster: %w (logs: %s)", err, l.path("logs")), l.clean(cleanup, true))
	}
	return c, nil
}

// bringUp runs all steps from nothing to a healthy cluster.
func (c *Cluster) bringUp(ctx context.Context, steps *steps) error {
	began := time.Now()
	type step struct {
		name string
		do   func(context.Context) error
	}
	for _, s := range []step{
		{"remains removed", func(ctx context.Context) error { return c.layout.clean(ctx, false) }},
		{"packages installed", ensurePackages},
		{"configuration written", func(context.Context) error { return c.writeConfig() }},
		{"network made", func(ctx context.Context) error { return c.layout.makeNetwork(ctx, c.Options) }},
		{"control plane and runtimes started", func(ctx context.Context) error { return c.startBase(ctx, steps) }},
		{"nodes started", func(ctx context.Context) error { return c.startNodes(ctx, steps) }},
		{"cluster healthy", c.WaitHealthy},
	} {
		if err := steps.do(ctx, s.name, s.do); err != nil {
			return err
		}
	}
	steps.print("cluster "+c.Name()+" is up", time.Since(began))
	return nil
}

// writeConfig writes the cluster's folder, and creates the cgroups that its processes join.
func (c *Cluster) writeConfig() error {
	l := c.layout
	for _, dir := range []string{"logs", "pids"} {
		if err := os.MkdirAll(l.path(dir), 0o755); err != nil {
			return fmt.Errorf("make folder: %w", err)
		}
	}
	if err := c.saveState(); err != nil {
		return err
	}
	if err := l.writePKI(c.Options.Nodes); err != nil {
		return fmt.Errorf("write certificates: %w", err)
	}
	if err := l.writeWebhookFiles(); err != nil {
		return fmt.Errorf("write what webhooks are shown: %w", err)
	}
	if err := l.writeUsers(c.Options.Nodes); err != nil {
		return fmt.Errorf("write kubeconfigs: %w", err)
	}
	if err := l.writeServerConfigs(c.Options); err != nil {
		return err
	}
	if err := makeCgroup(l.controlCgroup()); err != nil {
		return err
	}
	for _, n := range c.Nodes {
		if err := n.writeConfig(c.Options); err != nil {
			return fmt.Errorf("write configuration of %s: %w", n.Name, err)
		}
		if err := makeCgroup(l.systemCgroup(n.number)); err != nil {
			return err
		}
	}
	return nil
}

// startBase starts the control plane, the Consul servers and the container runtimes concurrently; none needs another.
func (c *Cluster) startBase(ctx context.Context, steps *steps) error {
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		for _, name := range []string{Etcd, APIServer, ControllerManager, Scheduler} {
			if err := steps.start(groupCtx, "", c.Process(name)); err != nil {
				return err
			}
		}
		return nil
	})
	for _, server := range c.ConsulServers() {
		group.Go(func() error { return steps.start(groupCtx, "", server) })
	}
	for _, n := range c.Nodes {
		group.Go(func() error { return steps.start(groupCtx, n.Name, n.Process(Containerd)) })
	}
	var tarball string
	group.Go(func() (err error) {
		tarball, err = c.layout.buildPause(groupCtx)
		return err
	})
	if err := group.Wait(); err != nil {
		return err
	}
	return c.LoadImage(ctx, tarball)
}

// startNodes starts the nodes' other processes.
func (c *Cluster) startNodes(ctx context.Context, steps *steps) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, n := range c.Nodes {
		for _, p := range n.Processes {
			group.Go(func() error { return steps.start(ctx, n.Name, p) })
		}
	}
	return group.Wait()
}

// steps prints a line for each finished step. It is safe for concurrent use.
type steps struct {
	mutex sync.Mutex
	log   io.Writer
}

func (s *steps) do(ctx context.Context, name string, do func(context.Context) error) error {
	began := time.Now()
	if err := do(ctx); err != nil {
		return err
	}
	s.print(name, time.Since(began))
	return nil
}

func (s *steps) start(ctx context.Context, node string, p *Process) error {
	if _, running := p.PID(); running {
		return nil
	}
	return s.do(ctx, "  "+qualified(node, p.Name), p.Start)
}

func (s *steps) print(name string, took time.Duration) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	fmt.Fprintf(s.log, "%6.1fs  %s\n", took.Seconds(), name)
}
