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
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/agentlet/agentlet/hack/bench"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// scenarios returns a step that runs the scenarios whose names match on the real cluster, the long ones only if long is set.
func scenarios(pattern string, long bool) step {
	return step{"scenarios", func(ctx context.Context, t *tree) error {
		if long {
			return t.runScenarios(ctx, "scenarios.log", pattern, "4h", "AGENTLET_LONG=1")
		}
		return t.runScenarios(ctx, "scenarios.log", pattern, "60m")
	}}
}

// chaosStep returns a step that causes random faults. A seed that is chosen here is small, so that it is easy to type.
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
		timeout := duration + time.Hour // allow for the set-up and the end
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

// benchmarks returns a step that runs the measuring scenarios.
func benchmarks(pattern string) step {
	return step{"benchmarks", func(ctx context.Context, t *tree) error {
		return t.runScenarios(ctx, "bench.log", pattern, "3h", "AGENTLET_BENCH=1")
	}}
}

// onOldest selects the scenarios that also run on the oldest Kubernetes: those that depend on the API server's and the kubelet's
// behaviour.
const onOldest = "TestBasic|TestTrust|TestInject|TestWorkloads|TestContract|TestProbe|TestEvents|TestPlugin|TestChart|TestUpgrade"

// oldestStep runs the scenarios of onOldest on the oldest Kubernetes.
var oldestStep = instead("oldest kubernetes", "oldest.log", onOldest, "AGENTLET_KUBERNETES="+toolchain.KubernetesOldest)

// onConsulMPL selects the scenarios that also run on another Consul: registration, a rolling restart, drains, logins and TLS, and
// what is put back.
const onConsulMPL = "TestBasic|TestFaultACLLogin$|TestFaultAgentletKilled|TestFaultMeddlers"

// consulMPLStep runs the scenarios of onConsulMPL on the newest Consul under the Mozilla Public License.
var consulMPLStep = instead("consul 1.16", "consul-1.16.log", onConsulMPL, "AGENTLET_CONSUL_TOOLS="+toolchain.ConsulMPL)

// inPodsStep runs the scenarios about the Consul of examples/consul.
var inPodsStep = instead("consul on kubernetes", "consul-on-kubernetes.log", "TestConsulOnKubernetes",
	"AGENTLET_CONSUL=in-cluster", "AGENTLET_LONG=1")

// strangerPackage has the test of strangerStep.
const strangerPackage = "./cluster/current"

// strangerStep treats a test cluster as a stranger's, by its kubeconfig alone. It replaces a running cluster.
var strangerStep = step{"current context", func(ctx context.Context, t *tree) error {
	if err := checkPrerequisites(); err != nil {
		return fmt.Errorf("%w: %w", errSkipped, err)
	}
	command := exec.CommandContext(ctx, "go", "test", "-v", "-count=1", "-timeout=40m", "-run", "^TestStranger$", strangerPackage)
	command.Dir, command.Env = t.e2e, append(os.Environ(), "AGENTLET_STRANGER=1")
	interruptible(command)
	return runCommand(command, filepath.Join(t.root, ".out", "current.log"))
}}

// instead returns a step that runs scenarios on another kind of cluster, which replaces a running one, and removes that cluster
// afterwards.
func instead(name, log, pattern string, env ...string) step {
	return step{name, func(ctx context.Context, t *tree) error {
		if err := checkPrerequisites(); err != nil {
			return fmt.Errorf("%w: %w", errSkipped, err)
		}
		err := t.runScenarios(ctx, log, pattern, "60m", env...)
		return errors.Join(err, show(context.WithoutCancel(ctx), t.e2e, nil, "go", "run", "./cmd/cluster", "down"))
	}}
}

// figuresStep prints the figures of `make bench`, with the previous ones. Where nothing was measured it doesn't print older ones.
var figuresStep = step{"figures", func(_ context.Context, t *tree) error {
	if err := checkPrerequisites(); err != nil {
		return fmt.Errorf("%w: %w", errSkipped, err)
	}
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

// undoTimeout is how long interrupted scenarios may take to undo what they have broken.
const undoTimeout = 10 * time.Minute

// interruptible makes an interruption reach the tests once, so that they end by themselves and repair the cluster. They run in
// their own process group, because a terminal would otherwise signal them, too.
func interruptible(command *exec.Cmd) {
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGINT) }
	command.WaitDelay = undoTimeout
}

// told matches the lines of a run that are shown while it runs; the log contains all lines.
var told = regexp.MustCompile(
	`^(\s*---|=== RUN|ok|FAIL|PASS|panic)|(Given|When|Then) .*\)$|^  \S.*s$|^waiting|SKIPPED|_test\.go:\d+:`)

// noTests is what `go test` prints where no name of a test matches. It ends successfully.
const noTests = "testing: warning: no tests to run"

// runCommand runs the tests and shows their progress. The log gets the whole output, and the terminal the end of a failure. It is
// a failure, too, that no test has run.
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
		return fmt.Errorf("go test: %w", err)
	}
	if slices.Contains(tail, noTests) {
		return fmt.Errorf("no name of a scenario matches %s", command.Args[slices.Index(command.Args, "-run")+1])
	}
	return nil
}

// tailLines is how many lines of a failed run are shown.
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
	_, _ = io.Copy(log, reader) // for a line longer than the buffer: the writer must not block
	return tail
}
