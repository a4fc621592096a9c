// Command check runs the checks that a change must pass, one after the other, and prints each one's duration:
//
//	check lint | prose | unit | verify | chart | vulncheck  one step
//	check scenarios                  the scenarios that are not long
//	check e2e --run REGEXP           chosen scenarios
//	check fmt [--diff]               format all modules, or only show what that would change
//	check message FILE               one commit's message
//	check unit-e2e                   e2e's own code: linted, and its tests that need no cluster
//	check test                       all steps, and the scenarios except the long ones
//	check soak                       all steps, and all scenarios; then check consul and check oldest
//	check consul                     the scenarios about a Consul in pods, as in examples/consul
//	check oldest                     the main scenarios on the oldest supported Kubernetes
//	check consul-1.16                some scenarios on Consul 1.16, which is under the Mozilla Public License
//	check chaos --duration D --seed N  random faults for this time; without a seed, a random one
//	check bench --run REGEXP         the measurements of make bench, by the names of its scenarios
//	check bench-scale                the measurements of make bench-scale
//
// Without root or Linux the scenarios are skipped with a message, and so is vulncheck without its database. With CI=true that is
// a failure.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "check:", err)
		os.Exit(1) //nolint:gocritic // nothing is left to stop
	}
}

func command() *cobra.Command {
	root := &cobra.Command{Use: "check", Short: "Run the checks of this repository", SilenceUsage: true, SilenceErrors: true}
	add := func(name, short string, steps ...step) *cobra.Command {
		c := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(c *cobra.Command, _ []string) error {
			return run(c.Context(), steps)
		}}
		root.AddCommand(c)
		return c
	}
	add("lint", "Lint all modules but e2e, the workflows and the docs' prose", proseStep, linterStep, actionlintStep, lintStep)
	add("prose", "Check the docs' sentences, words, links and length", proseStep)
	add("unit", "Unit and integration tests with the race detector", consulStep, unitStep)
	add("unit-e2e", "Lint e2e, and run its tests that need no cluster", consulStep, linterStep, unitE2EStep)
	add("verify", "Fail if something generated is stale or a module is untidy", verifyStep)
	add("vulncheck", "Look for known vulnerabilities in what the code calls", vulncheckStep)
	add("chart", "Lint the chart, run its unit tests, and render it twice", helmStep, unittestStep, chartStep)
	cluster := []step{kubernetesStep, consulStep, helmStep, certManagerStep, templateStep, corednsStep}
	all := slices.Concat(cluster, []step{
		unittestStep, proseStep, linterStep, actionlintStep, lintStep, verifyStep, chartStep, unitStep,
	})
	add("scenarios", "The scenarios that are not long", slices.Concat(cluster, []step{scenarios(".", false)})...)
	all = append(all, unitE2EStep)
	add("test", "Everything but the long scenarios", slices.Concat(all, []step{scenarios(".", false)})...)
	add(
		"soak",
		"Everything, also with Consul in pods, and on the oldest Kubernetes",
		slices.Concat(all, []step{scenarios(".", true), inPodsStep, strangerStep, oldestToolStep, oldestStep})...)
	add("oldest", "The main scenarios on the oldest Kubernetes that is supported",
		kubernetesStep, oldestToolStep, consulStep, helmStep, oldestStep)
	add("consul-1.16", "Some scenarios on Consul 1.16, which is under the Mozilla Public License",
		kubernetesStep, mplToolStep, helmStep, consulMPLStep)
	add("consul", "The scenarios about a Consul in pods", kubernetesStep, consulStep, helmStep, inPodsStep)
	root.AddCommand(formatCommand(), messageCommand())
	var pattern string
	e2e := add("e2e", "Chosen scenarios")
	e2e.Flags().StringVar(&pattern, "run", ".", "regular expression of the scenarios' names")
	e2e.RunE = func(c *cobra.Command, _ []string) error {
		return run(c.Context(), slices.Concat(cluster, []step{scenarios(pattern, true)}))
	}
	var duration time.Duration
	var seed string
	chaos := add("chaos", "Cause faults at random on the real cluster, and check that nothing is lost")
	chaos.Flags().DurationVar(&duration, "duration", 15*time.Minute, "how long")
	chaos.Flags().StringVar(&seed, "seed", "", "number that the choice of faults is made of; empty: one at random")
	chaos.RunE = func(c *cobra.Command, _ []string) error {
		campaign, err := chaosStep(duration, seed)
		if err != nil {
			return err
		}
		return run(c.Context(), []step{kubernetesStep, consulStep, helmStep, campaign})
	}
	bench := add("bench", "Measure, and print the figures with their targets")
	bench.Flags().StringVar(&pattern, "run", ".", "regular expression within the scenarios' names, after TestBench")
	bench.RunE = func(c *cobra.Command, _ []string) error {
		return run(c.Context(), []step{kubernetesStep, consulStep, helmStep, benchmarks("^TestBench.*(" + pattern + ")"), figuresStep})
	}
	scale := add("bench-scale", "Measure how the figures grow with the number of pods")
	scale.RunE = func(c *cobra.Command, _ []string) error {
		return run(c.Context(), []step{kubernetesStep, consulStep, helmStep, benchmarks("^TestScale"), figuresStep})
	}
	return root
}

// checkPrerequisites returns why scenarios can't run on this machine, or nil.
func checkPrerequisites() error {
	if runtime.GOOS != "linux" {
		return errors.New("the cluster needs Linux")
	}
	if os.Geteuid() != 0 {
		return errors.New("the cluster needs root: network namespaces, cgroups, containers")
	}
	return nil
}
