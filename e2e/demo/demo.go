// Package demo demonstrates Agentlet on the test cluster. The same three pods are restarted under the same load twice: first
// registered in Consul by hand, with requests that fail, then by Agentlet, without any. The demo shows when each pod passes each
// station of its life, and leaves everything running for inspection.
package demo

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/demo/intro"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/restart"
)

// ErrInterrupted means that the context of Up or Down ended first.
var ErrInterrupted = errors.New("interrupted")

const (
	namespace = "shop"
	replicas  = 3
	// rate is the number of requests per second during a restart.
	rate = 100
	// tail is how long the load continues after the last old pod is gone, so that late failures are seen.
	tail = 2 * time.Second
)

// Up runs the demo. It uses a cluster that is already up, and recreates the Deployments. What it has started keeps running, also
// after an error.
func Up(ctx context.Context, out *os.File) error {
	if err := intro.Check(); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	d := &demo{screen: newScreen(out), out: out}
	withoutAgentlet, withAgentlet := kinds()
	d.byHand, d.agentlet = newRollout(withoutAgentlet, d.screen), newRollout(withAgentlet, d.screen)
	stages := []stage{
		{"Start a Kubernetes of two nodes with Consul, and install Agentlet", nil, d.start},
		{"Without Agentlet: deploy " + d.byHand.service, []string{byHandIs}, d.byHand.deploy},
		{fmt.Sprintf("Without Agentlet: restart it under %d requests/s", rate), loadIs, d.byHand.restart},
		{"With Agentlet: deploy " + d.agentlet.service, []string{agentletIs}, d.agentlet.deploy},
		{fmt.Sprintf("With Agentlet: restart it under %d requests/s", rate), loadIs, d.agentlet.restart},
	}
	for i, s := range stages {
		d.screen.title(fmt.Sprintf("%d of %d  %s", i+1, len(stages), s.title))
		d.screen.say(s.text...)
		if err := s.do(ctx, d.env); err != nil {
			return explain(ctx, s.title, err)
		}
	}
	result := restart.Comparison{Rate: rate, ByHand: d.byHand.result, Agentlet: d.agentlet.result}
	file, err := keep(result, d.env.Out)
	if err != nil {
		return err
	}
	d.screen.title("It keeps running: look around")
	d.screen.say(guide(d.env, file)...)
	wrong := d.judge()
	d.screen.verdict(result.Verdict(), wrong == nil)
	return wrong
}

// stage is a part of the demo, with text below its title.
type stage struct {
	title string
	text  []string
	do    func(context.Context, *scenario.Env) error
}

// Texts below the titles.
const (
	byHandIs = "As people do it by hand: a sidecar registers its pod with the node's Consul agent at its start, and deregisters it at\n" +
		"SIGTERM. Consul's HTTP check runs every 10 s, as in the examples of its documentation; with one each second far fewer\n" +
		"requests fail. There is no gate, and no preStop hook."
	agentletIs = "The same application with one annotation, agentlet.dev/service-names."
)

var loadIs = []string{"Each request opens a new connection to one of the instances that Consul shows as passing at that moment."}

// Down removes the cluster with everything in it, when no other program uses it any more.
func Down(ctx context.Context, out *os.File) error {
	if err := intro.Check(); err != nil {
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
	screen           *screen
	out              *os.File
	env              *scenario.Env
	byHand, agentlet *rollout
}

func (d *demo) start(ctx context.Context, _ *scenario.Env) (err error) {
	if d.env, err = scenario.Start(ctx, d.out); err != nil {
		return err
	}
	return openNamespace(ctx, d.env.Kube)
}

// keep writes what was measured, for the documentation's picture, and returns the file.
func keep(result restart.Comparison, dir string) (file string, err error) {
	data, err := json.MarshalIndent(result, "", " ")
	if err != nil {
		return "", fmt.Errorf("encode measurements: %w", err)
	}
	file = filepath.Join(dir, restart.File)
	if err := os.WriteFile(file, append(data, '\n'), 0o644); err != nil {
		return "", fmt.Errorf("write measurements: %w", err)
	}
	return file, nil
}

// judge returns everything that went wrong with Agentlet, after the output is complete.
func (d *demo) judge() error {
	fresh, old := d.agentlet.generations()
	return errors.Join(d.agentlet.load.Check(), errors.Join(disorders(fresh, old)...))
}
