package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"syscall"
	"time"

	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/e2e/toolchain"
	"github.com/agentlet/agentlet/internal/bench"
)

// scenarios runs those whose names match on the real cluster; long ones only where asked for.
func scenarios(pattern string, long bool) step {
	return step{"scenarios", func(ctx context.Context, t *tree) error {
		if long {
			return t.runScenarios(ctx, "scenarios.log", pattern, "4h", "AGENTLET_LONG=1")
		}
		return t.runScenarios(ctx, "scenarios.log", pattern, "60m")
	}}
}

// chaosStep causes faults at random. Seeds that are chosen here are small, to be typed again.
func chaosStep(duration time.Duration, seed string) (step, error) {
	if seed == "" {
		seed = strconv.Itoa(rand.IntN(1_000_000))
	}
	if _, err := strconv.ParseUint(seed, 10, 64); err != nil {
		return step{}, fmt.Errorf("--seed=%s: want a number", seed)
	}
	if duration <= 0 {
		return step{}, fmt.Errorf("--duration=%s: want more than that", duration)
	}
	return step{"chaos, seed " + seed, func(ctx context.Context, t *tree) error {
		timeout := duration + time.Hour // for what surrounds it
		return t.runScenarios(
			ctx,
			"chaos.log",
			"^TestChaos$",
			timeout.String(),
			"AGENTLET_LONG=1",
			"AGENTLET_CHAOS_DURATION="+duration.String(),
			"AGENTLET_CHAOS_SEED="+seed,
		)
	}}, nil
}

// benchmarks runs the scenarios that measure.
func benchmarks(pattern string) step {
	return step{"benchmarks", func(ctx context.Context, t *tree) error {
		return t.runScenarios(ctx, "bench.log", pattern, "3h", "AGENTLET_BENCH=1")
	}}
}

// onOldest are the scenarios that are run on the oldest Kubernetes too: whatever its API server and kubelet may do in
// another way.
const onOldest = "TestBasic|TestTrust|TestInject|TestWorkloads|TestContract|TestProbe|TestEvents|TestPlugin|TestChart|TestUpgrade"

// oldestStep runs them there.
var oldestStep = instead("oldest kubernetes", "oldest.log", onOldest, "AGENTLET_KUBERNETES="+toolchain.KubernetesOldest)

// inPodsStep runs the scenarios about the Consul of examples/consul.
var inPodsStep = instead("consul on kubernetes", "consul-on-kubernetes.log", "TestConsulOnKubernetes",
	"AGENTLET_CONSUL="+scenario.InClusterConsul, "AGENTLET_LONG=1")

// instead runs scenarios on a cluster of another kind, in the place of the one that may be up, and removes it.
func instead(name, log, pattern string, env ...string) step {
	return step{name, func(ctx context.Context, t *tree) error {
		if err := checkPrerequisites(); err != nil {
			return fmt.Errorf("%w: %w", errSkipped, err)
		}
		err := t.runScenarios(ctx, log, pattern, "60m", env...)
		return errors.Join(err, show(context.WithoutCancel(ctx), t.e2e, nil, "go", "run", "./cmd/cluster", "down"))
	}}
}

// figuresStep prints what make bench has measured, now and before.
var figuresStep = step{"figures", func(_ context.Context, t *tree) error {
	figures, err := bench.Read(filepath.Join(t.root, ".out", "bench.json"))
	if err != nil {
		return err
	}
	return bench.Print(os.Stdout, figures)
}}

// runScenarios runs scenarios, with the log in .out.
func (t *tree) runScenarios(ctx context.Context, log, pattern, timeout string, env ...string) error {
	if err := checkPrerequisites(); err != nil {
		return fmt.Errorf("%w: %w", errSkipped, err)
	}
	command := exec.CommandContext(ctx, "go", "test", "-v", "-count=1", "-timeout="+timeout, "-parallel=4", "-run", pattern,
		"./scenarios")
	command.Dir = t.e2e
	command.Env = append(append(os.Environ(), "AGENTLET_SCENARIOS=1"), env...)
	interruptible(command)
	return runCommand(command, filepath.Join(t.root, ".out", log))
}

// undoTimeout is what scenarios get to undo what they have broken, when they are interrupted.
const undoTimeout = 10 * time.Minute

// interruptible has the tests hear of an interruption, and end by themselves: whoever breaks a cluster mends it then. They are in
// a group of processes of their own, so that they hear of it once, however it came.
func interruptible(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGINT) }
	command.WaitDelay = undoTimeout
}

// told are the lines of a run that a reader wants to see while it goes on; the log has them all.
var told = regexp.MustCompile(
	`^(\s*---|=== RUN|ok|FAIL|PASS|panic)|(Given|When|Then) .*\)$|^  \S.*s$|^waiting|SKIPPED|_test\.go:\d+:`)

// runCommand runs the tests and tells what happens; all of the output goes to the log, and a failure's end to the terminal.
func runCommand(command *exec.Cmd, logFile string) (err error) {
	if err := os.MkdirAll(filepath.Dir(logFile), 0o755); err != nil {
		return fmt.Errorf("make folder for the log: %w", err)
	}
	log, err := os.Create(logFile)
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	reader, writer := io.Pipe()
	command.Stdout, command.Stderr = writer, writer
	done := make(chan []string)
	go func() { done <- stream(reader, log) }()
	err = errors.Join(command.Run(), writer.Close())
	tail := <-done
	if err != nil {
		fmt.Printf("\nthe end of %s:\n", logFile)
		for _, line := range tail {
			fmt.Println(line)
		}
		return fmt.Errorf("scenarios: %w", err)
	}
	return nil
}

// tailLines of a failed run are shown.
const tailLines = 400

func stream(reader io.Reader, log io.Writer) (tail []string) {
	lines := bufio.NewScanner(reader)
	lines.Buffer(make([]byte, 1<<20), 1<<20)
	for lines.Scan() {
		line := lines.Text()
		fmt.Fprintln(log, line)
		if told.MatchString(line) {
			fmt.Println(line)
		}
		if tail = append(tail, line); len(tail) > tailLines {
			tail = tail[1:]
		}
	}
	_, _ = io.Copy(log, reader) // a line beyond the buffer; the writer must not block
	return tail
}
