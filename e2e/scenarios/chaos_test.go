package scenarios_test

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/agentlet/agentlet/e2e/chaos"
	chaosreal "github.com/agentlet/agentlet/e2e/chaos/real"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// afterChaos is how much longer than its duration a campaign may take: for its start, for the round that runs when the time is
// over, and for a quiet moment that times out.
const afterChaos = 15 * time.Minute

// TestChaos causes random faults for AGENTLET_CHAOS_DURATION, from the seed AGENTLET_CHAOS_SEED. Without a duration it runs the
// kept seeds.
func TestChaos(t *testing.T) {
	runs, err := chosenRuns()
	if err != nil {
		t.Fatal(err)
	}
	for _, run := range runs {
		t.Run(run.Name(), func(t *testing.T) { campaign(t, run) })
	}
}

func chosenRuns() ([]chaos.Run, error) {
	text := os.Getenv("AGENTLET_CHAOS_DURATION")
	if text == "" {
		return chaos.Kept(), nil
	}
	duration, err := time.ParseDuration(text)
	if err != nil {
		return nil, fmt.Errorf("AGENTLET_CHAOS_DURATION=%s: want a duration, such as 15m", text)
	}
	seed, err := strconv.ParseUint(os.Getenv("AGENTLET_CHAOS_SEED"), 10, 64)
	if err != nil {
		return nil, fmt.Errorf("AGENTLET_CHAOS_SEED=%s: want a number", os.Getenv("AGENTLET_CHAOS_SEED"))
	}
	return []chaos.Run{{Seed: seed, Duration: duration}}, nil
}

func campaign(t *testing.T, run chaos.Run) {
	s := scenario.New(t, scenario.Long(), scenario.Lasting(run.Duration+afterChaos))
	whole(s)
	// Let an interruption end the campaign instead of the program, so that all faults are undone.
	ctx, enough := signal.NotifyContext(s.Ctx, os.Interrupt, syscall.SIGTERM)
	defer enough()
	log, err := chaosLog(s, run)
	s.Must(err)
	options := chaosreal.Options{Namespace: s.Namespace, Template: s.Sample(s.Annotations()), Folder: s.TempDir(), Log: log}
	if chaos.WithACLs(run.Seed) {
		log("with TLS, ACLs and logins, at a Consul of its own")
		g := guard(s, cluster.SecuredOptions{})
		g.forget()
		// Set Consul's shortest token TTL, so that the token of a killed agentlet expires soon.
		g.run("method-jwt.sh", "-max-token-ttl 1h", "-max-token-ttl 1m")
		g.run("rule-jwt.sh")
		g.install(g.inline(), "consul.acl.mode=login", "consul.acl.authMethod=agentlet", "consul.acl.audience=consul")
		options.Secured, options.Template = g.secured, g.account(s.Service())
	}
	world, things, err := chaosreal.Start(ctx, s.Env, options)
	s.Afterwards(6*time.Minute, func(ctx context.Context) {
		if err := world.Stop(ctx); err != nil {
			s.Errorf("end the campaign: %v", err)
		}
	})
	s.Must(err)
	c := chaos.Campaign{
		Seed: run.Seed, Duration: run.Duration, Rate: chaosreal.Rate, World: world, Log: log,
		Steps: run.Begin(len(s.Cluster.Nodes), things...),
	}
	report, err := c.Run(ctx)
	for _, line := range report.Table() {
		log(line)
	}
	if err != nil {
		log("FAILED: " + err.Error())
		s.Errorf("%v\nagain with: %s; its steps: %s", err, run.Again(), chaosFile(s, run))
		return
	}
	log(run.Name() + " held")
}

// chaosFile returns the path of the file with a campaign's steps.
func chaosFile(s *scenario.S, run chaos.Run) string {
	return filepath.Join(s.Out, "chaos", run.Name()+".log")
}

// chaosLog returns a function that writes lines to the campaign's file, and shows them.
func chaosLog(s *scenario.S, run chaos.Run) (log func(line string), err error) {
	if err := os.MkdirAll(filepath.Dir(chaosFile(s, run)), 0o755); err != nil {
		return nil, fmt.Errorf("make folder: %w", err)
	}
	file, err := os.Create(chaosFile(s, run))
	if err != nil {
		return nil, fmt.Errorf("make file: %w", err)
	}
	s.Cleanup(func() { file.Close() })
	return func(line string) {
		fmt.Fprintln(file, line)
		s.Log(line)
	}, nil
}
