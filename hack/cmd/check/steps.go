package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/agentlet/agentlet/hack/toolchain"
)

// step is a part of a check.
type step struct {
	name string
	do   func(context.Context, *tree) error
}

// tree is the checked repository.
type tree struct{ root, hack, e2e string }

func findTree() (*tree, error) {
	root, err := toolchain.Root()
	if err != nil {
		return nil, err
	}
	return &tree{root: root, hack: filepath.Join(root, "hack"), e2e: filepath.Join(root, "e2e")}, nil
}

// errSkipped means that this machine can't run a step.
var errSkipped = errors.New("SKIPPED")

// run runs the steps in order, ends at the first failure, and prints the duration of each.
func run(ctx context.Context, steps []step) error {
	t, err := findTree()
	if err != nil {
		return err
	}
	var report strings.Builder
	table := tabwriter.NewWriter(&report, 0, 0, 2, ' ', 0)
	began := time.Now()
	var failure error
	for _, s := range steps {
		fmt.Printf("\n==> %s\n", s.name)
		start := time.Now()
		err := s.do(ctx, t)
		outcome := "ok"
		switch {
		case errors.Is(err, errSkipped) && os.Getenv("CI") == "":
			outcome = err.Error()
			fmt.Println("!!!", err)
		case err != nil:
			outcome = "FAILED"
			failure = fmt.Errorf("%s: %w", s.name, err)
		}
		fmt.Fprintf(table, "  %s\t%8.1fs\t%s\n", s.name, time.Since(start).Seconds(), outcome)
		if failure != nil {
			break
		}
	}
	fmt.Fprintf(table, "  in all\t%8.1fs\n", time.Since(began).Seconds())
	failure = errors.Join(failure, table.Flush())
	fmt.Printf("\n%s", report.String())
	return failure
}

func tool(set string) step {
	return step{"tools: " + set, func(ctx context.Context, _ *tree) error {
		_, err := toolchain.Ensure(ctx, os.Stderr, set)
		return err
	}}
}

var (
	kubernetesStep = tool(toolchain.Kubernetes)
	consulStep     = tool(toolchain.Consul)
	oldestToolStep = tool(toolchain.KubernetesOldest)
	mplToolStep    = tool(toolchain.ConsulMPL)
	helmStep       = tool(toolchain.Helm)
	linterStep     = tool(toolchain.GolangciLint)
	actionlintStep = tool(toolchain.Actionlint)

	unittestStep    = tool(toolchain.HelmUnittest)
	certManagerStep = tool(toolchain.CertManager)
	templateStep    = tool(toolchain.ConsulTemplate)
	corednsStep     = tool(toolchain.CoreDNS)

	chartStep  = step{"chart", chart}
	lintStep   = step{"lint", lint}
	proseStep  = step{"prose", checkProse}
	verifyStep = step{"verify", verify}
	unitStep   = step{"unit, race, integration", unit}

	unitE2EStep = step{"e2e's own code", func(ctx context.Context, t *tree) error {
		if err := lintModules(ctx, t, t.e2e); err != nil {
			return err
		}
		env, err := testPrograms(ctx)
		if err != nil {
			return err
		}
		return test(ctx, t.e2e, env)
	}}
)

// lint lints what most changes touch, which compiles nothing of e2e.
func lint(ctx context.Context, t *tree) error {
	tools, err := toolchain.Ensure(ctx, os.Stderr, toolchain.Actionlint)
	if err != nil {
		return err
	}
	if err := errors.Join(checkCommits(ctx, t), lintModules(ctx, t, t.root, t.hack)); err != nil {
		return err
	}
	// Without these two it would say something else where shellcheck or pyflakes happens to be installed.
	return show(ctx, t.root, nil, tools.Program(toolchain.Actionlint, "actionlint"), "-shellcheck=", "-pyflakes=")
}

// lintModules lints the modules in these folders.
func lintModules(ctx context.Context, t *tree, modules ...string) error {
	tools, err := toolchain.Ensure(ctx, os.Stderr, toolchain.GolangciLint)
	if err != nil {
		return err
	}
	linter := tools.Program(toolchain.GolangciLint, "golangci-lint")
	for _, dir := range modules {
		err := show(ctx, dir, nil, linter, "run", "--allow-parallel-runners", "--timeout=15m",
			"--config", filepath.Join(t.root, ".golangci.yml"), "./...")
		if err != nil {
			return err
		}
	}
	return nil
}

// verify regenerates all generated files. It fails if that changes the tree, or if a module is not tidy.
func verify(ctx context.Context, t *tree) error {
	for _, dir := range []string{t.root, t.hack, t.e2e} {
		if err := show(ctx, dir, nil, "go", "mod", "tidy", "-diff"); err != nil {
			return fmt.Errorf("%s is untidy, run go mod tidy: %w", filepath.Join(dir, "go.mod"), err)
		}
	}
	before, err := changes(ctx, t)
	if err != nil {
		return err
	}
	if err := show(ctx, t.root, nil, "make", "generate"); err != nil {
		return err
	}
	after, err := changes(ctx, t)
	if err != nil {
		return err
	}
	if !bytes.Equal(before, after) {
		return errors.New("something generated was stale; run make generate and commit what it writes")
	}
	return nil
}

// changes returns the difference between the working tree and the last commit.
func changes(ctx context.Context, t *tree) ([]byte, error) {
	var all bytes.Buffer
	for _, args := range [][]string{{"status", "--porcelain"}, {"diff", "HEAD"}} {
		command := exec.CommandContext(ctx, "git", args...)
		command.Dir = t.root
		out, err := command.Output()
		if err != nil {
			return nil, fmt.Errorf("git %s: %w", args[0], err)
		}
		all.Write(out)
	}
	return all.Bytes(), nil
}

// unit tests the product and hack.
func unit(ctx context.Context, t *tree) error {
	env, err := testPrograms(ctx)
	if err != nil {
		return err
	}
	return errors.Join(test(ctx, t.root, env), test(ctx, t.hack, env))
}

// testPrograms returns the variables that tell tests where the programs are that they run. It says which tests are skipped.
func testPrograms(ctx context.Context) ([]string, error) {
	tools, err := toolchain.Ensure(ctx, os.Stderr, toolchain.Consul, toolchain.Helm)
	if err != nil {
		return nil, err
	}
	env := []string{
		"AGENTLET_TEST_CONSUL=" + tools.Program(toolchain.Consul, "consul"),
		"AGENTLET_TEST_HELM=" + tools.Program(toolchain.Helm, "helm"),
	}
	switch kubernetes, built, err := toolchain.Built(ctx, toolchain.Kubernetes); {
	case err != nil:
		return nil, err
	case !built:
		fmt.Println("!!! SKIPPED: kubectl's commands in the docs: Kubernetes is not built yet; make e2e does that")
	default:
		env = append(env, "AGENTLET_TEST_KUBECTL="+kubernetes.Program(toolchain.Kubernetes, "kubectl"))
	}
	switch programs, err := toolchain.FindPrometheus(ctx); {
	case errors.Is(err, toolchain.ErrNotDebian):
		fmt.Println("!!! SKIPPED: the alerts:", err)
	case err != nil:
		return nil, err
	default:
		env = append(env, "AGENTLET_TEST_PROMTOOL="+programs.Promtool)
	}
	return env, nil
}

// test runs a module's tests.
func test(ctx context.Context, module string, env []string) error {
	return show(ctx, module, env, "go", "test", "-race", "-timeout=15m", "./...")
}

// show runs a program with its output on the terminal.
func show(ctx context.Context, dir string, env []string, name string, args ...string) error {
	command := exec.CommandContext(ctx, name, args...)
	command.Dir, command.Stdout, command.Stderr = dir, os.Stdout, os.Stderr
	command.Env = append(os.Environ(), env...)
	if err := command.Run(); err != nil {
		return fmt.Errorf("%s %s: %w", filepath.Base(name), strings.Join(args, " "), err)
	}
	return nil
}
