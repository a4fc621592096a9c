// Package demo demonstrates Agentlet on the test cluster. Three pods start, each Ready only when Consul has it, and are then
// restarted under load without a failed request. The demo shows when each pod passes each station of its life, and leaves
// everything running for inspection.
package demo

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// ErrInterrupted means that the context of Up or Down ended first.
var ErrInterrupted = errors.New("interrupted")

const (
	namespace = "shop"
	// service is the name of the Deployment, of its pods' label app, and of the Consul service.
	service  = "web"
	replicas = 3
	// rate is the number of requests per second during the restart.
	rate = 100
	// tail is how long the load continues after the last old pod is gone, so that late failures are seen.
	tail = 2 * time.Second
)

// Up runs the demo. It uses a cluster that is already up, and recreates the Deployment. What it has started keeps running, also
// after an error.
func Up(ctx context.Context, out *os.File) error {
	if err := requireRoot(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d := &demo{screen: newScreen(out), out: out}
	d.timeline = observe.NewTimeline(d.passed)
	for _, stage := range []struct {
		title string
		do    func(context.Context) error
	}{
		{"Start a cluster with a Consul agent on each node, and install Agentlet", d.start},
		{"Deploy " + service + ": milliseconds since each pod's admission", d.deploy},
		{fmt.Sprintf("Restart it under load: %d requests a second, a new connection each, sent where Consul says", rate), d.restart},
	} {
		d.screen.title(stage.title)
		if err := stage.do(ctx); err != nil {
			what, _, _ := strings.Cut(stage.title, ":")
			return explain(ctx, what, err)
		}
	}
	d.screen.title("It keeps running: look around")
	d.screen.say(guide(d.env)...)
	requests, failed := d.load.Counts()
	d.screen.say("", fmt.Sprintf("requests: %d  failed: %d", requests, failed))
	return d.judge()
}

// Down removes the cluster with everything in it, when no other program uses it any more.
func Down(ctx context.Context, out *os.File) error {
	if err := requireRoot(); err != nil {
		return err
	}
	release, err := cluster.Lock(ctx, cluster.DefaultName,
		func() { fmt.Fprintln(out, "waiting for another run on this cluster to end") })
	if err != nil {
		return explain(ctx, "wait for the cluster", err)
	}
	defer release() //nolint:errcheck // the end of the program releases it too
	if err := cluster.Down(ctx, cluster.DefaultName, out); err != nil {
		return explain(ctx, "take the cluster down", err)
	}
	return nil
}

func requireRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("needs root, for network namespaces, cgroups and mounts: sudo -E make demo")
	}
	return nil
}

// explain adds to the error of a failed stage how to continue.
func explain(ctx context.Context, stage string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%w (%s). What is there stays: `make demo` goes on from here, `make demo-down` removes all of it",
			ErrInterrupted, stage)
	}
	return fmt.Errorf("%s: %w\n`make demo` tries again, `make demo-down` removes what is there", stage, err)
}

// demo is the state of one run.
type demo struct {
	screen   *screen
	out      *os.File
	timeline *observe.Timeline
	env      *scenario.Env
	load     *load.Client
	// first are the UIDs of the pods that the restart replaces.
	first map[string]bool
}

func (d *demo) start(ctx context.Context) (err error) {
	if d.env, err = scenario.Start(ctx, d.out); err != nil {
		return err
	}
	return openNamespace(ctx, d.env.Kube)
}

// deploy creates the Deployment, and shows its pods until all are Ready. Its watches last as long as ctx.
func (d *demo) deploy(ctx context.Context) error {
	if err := removeDeployment(ctx, d.env.Kube); err != nil {
		return err
	}
	collector, err := d.timeline.Collect(ctx, cluster.HostIP)
	if err != nil {
		return err
	}
	if _, err := d.timeline.Pods(ctx, d.env.Kube, namespace, "app="+service); err != nil {
		return err
	}
	d.timeline.Catalog(ctx, d.env.Consul, service)
	for _, node := range d.env.Cluster.Nodes {
		agent, err := cluster.ConsulClient(node.ConsulAddr())
		if err != nil {
			return err
		}
		d.timeline.Agent(ctx, agent, service)
	}
	if err := createDeployment(ctx, d.env, collector); err != nil {
		return err
	}
	return d.screen.follow(ctx, func(width int) []string {
		return births.render(d.timeline.Lives(), width, d.screen.style)
	}, nil, func(ctx context.Context) (bool, error) {
		lives := d.timeline.Lives()
		return len(lives) >= replicas && all(lives, observe.Ready, observe.InCatalog), nil
	})
}

// restart restarts the Deployment under load, and shows the new and the old pods.
func (d *demo) restart(ctx context.Context) error {
	d.first = map[string]bool{}
	for _, life := range d.timeline.Lives() {
		d.first[life.UID] = true
	}
	loading, enough := context.WithCancel(ctx)
	defer enough()
	d.load = load.New(d.env.Consul, service)
	if err := d.load.Follow(loading); err != nil {
		return err
	}
	ended := make(chan struct{})
	go func() { defer close(ended); d.load.Run(loading, rate) }()
	if _, err := d.env.Kubectl(ctx, "-n", namespace, "rollout", "restart", "deployment/"+service); err != nil {
		return err
	}
	var over time.Time
	err := d.screen.follow(ctx, d.restartBlock, d.loadLine, func(ctx context.Context) (bool, error) {
		fresh, old := d.generations()
		if len(fresh) < replicas || !all(fresh, observe.Ready, observe.InCatalog) || !all(old, observe.Gone) {
			return false, nil
		}
		if over.IsZero() {
			over = time.Now()
		}
		if time.Since(over) < tail {
			return false, nil
		}
		enough()
		<-ended // count the last answers
		return true, nil
	})
	if err != nil {
		return err
	}
	return ctx.Err()
}

// generations returns the lives of the new pods, and of those that the restart has replaced.
func (d *demo) generations() (fresh, old []observe.Life) {
	for _, life := range d.timeline.Lives() {
		if d.first[life.UID] {
			old = append(old, life)
		} else {
			fresh = append(fresh, life)
		}
	}
	return fresh, old
}

func (d *demo) restartBlock(width int) []string {
	fresh, old := d.generations()
	lines := append(
		[]string{d.loadLine(), "", "new pods: milliseconds since admission"},
		births.render(fresh, width, d.screen.style)...)
	lines = append(lines, "", "old pods: milliseconds since deletion")
	return append(lines, deaths.render(old, width, d.screen.style)...)
}

func (d *demo) loadLine() string {
	requests, failed := d.load.Counts()
	return fmt.Sprintf("requests: %d  failed: %d  passing: %d", requests, failed, len(d.load.Instances()))
}

// passed prints a station if nothing can be redrawn. It is called under the timeline's lock.
func (d *demo) passed(life observe.Life, station observe.Station) {
	if !d.screen.live {
		d.screen.say(passages(life, station)...)
	}
}

// judge returns everything that went wrong, after the output is complete.
func (d *demo) judge() error {
	var errs []error
	if requests, failed := d.load.Counts(); failed > 0 {
		errs = append(errs, fmt.Errorf("%d of %d requests failed: %v", failed, requests, d.load.Errors()))
	}
	fresh, old := d.generations()
	return errors.Join(append(errs, disorders(fresh, old)...)...)
}
