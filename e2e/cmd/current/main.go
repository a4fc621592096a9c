// Command current runs the demo, or scenarios, on the cluster of the kubeconfig's current context, and removes everything again:
//
//	current demo              a rolling restart under load
//	current e2e --run REGEXP  the chosen scenarios that need nothing but a cluster's API
//	current down              removes what a run has left that was killed
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/agentlet/agentlet/e2e/cluster/current"
)

// interruptedCode is the exit code that a shell reports for a program that SIGINT has ended.
const interruptedCode = 130

func main() {
	ctx, stop := interruptible(context.Background())
	err := command().ExecuteContext(ctx)
	interrupted := ctx.Err() != nil
	stop()
	switch {
	case err == nil:
	case interrupted:
		fmt.Println("INTERRUPTED:", err)
		os.Exit(interruptedCode)
	default:
		fmt.Println("FAILED:", err)
		os.Exit(1)
	}
}

// interruptible returns a context that ends with the first signal, so that what was made is removed: also if the terminal is
// closed, or if the reader of the output ends, as `| tee` does at Ctrl-C. A second signal ends the program at once, but for a
// hangup, which a shell and the kernel both send.
func interruptible(parent context.Context) (context.Context, context.CancelFunc) {
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	unheard := []os.Signal{syscall.SIGPIPE}
	if !signal.Ignored(syscall.SIGHUP) { // as it is below nohup
		signals, unheard = append(signals, syscall.SIGHUP), append(unheard, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(parent, signals...)
	context.AfterFunc(ctx, stop)
	// Nobody listens, but these don't end the program any more. Unlike Ignore, it isn't inherited by what is called.
	signal.Notify(make(chan os.Signal, 1), unheard...)
	return ctx, stop
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use: "current", Short: "Try Agentlet on the kubeconfig's current cluster", SilenceUsage: true, SilenceErrors: true,
	}
	var options current.Options
	var cluster, pattern string
	flags := root.PersistentFlags()
	flags.StringVar(&cluster, "cluster", "current", "which cluster: current is the only one")
	flags.StringVar(&options.Images, "images", "", "how images come to the nodes: kind, k3d, minikube, registry, present or command")
	flags.StringVar(&options.Image, "image", "", "registry/name:tag, to be pushed, or with --images=present taken as it is")
	flags.StringVar(&options.Load, "load", "", "a command that brings the image of a tarball, its last argument, to the nodes")
	flags.BoolVar(&options.PlainHTTP, "plain-http", false, "the registry has no TLS")
	root.PersistentPreRunE = func(*cobra.Command, []string) error {
		if cluster != "current" {
			return fmt.Errorf("CLUSTER=%s: want current, which is the kubeconfig's current context", cluster)
		}
		return nil
	}
	add := func(name, short string, do func(ctx context.Context, c *current.Cluster) error) *cobra.Command {
		command := &cobra.Command{Use: name, Short: short, Args: cobra.NoArgs, RunE: func(command *cobra.Command, _ []string) error {
			c, err := current.Open("", os.Stdout)
			if err != nil {
				return err
			}
			return do(command.Context(), c)
		}}
		root.AddCommand(command)
		return command
	}
	add("demo", "A rolling restart under load", func(ctx context.Context, c *current.Cluster) error {
		return within(ctx, c, options, demo)
	})
	e2e := add("e2e", "The chosen scenarios that need nothing but an API", func(ctx context.Context, c *current.Cluster) error {
		return within(ctx, c, options, func(ctx context.Context, c *current.Cluster) error { return scenarios(ctx, c, pattern) })
	})
	e2e.Flags().StringVar(&pattern, "run", ".", "regular expression of the scenarios' names")
	add("down", "Remove what an earlier run has left", func(ctx context.Context, c *current.Cluster) error { return c.Down(ctx) })
	return root
}

// within does something in the prepared cluster, and removes everything in the end, also after a failure or an interruption.
func within(ctx context.Context, c *current.Cluster, o current.Options, do func(context.Context, *current.Cluster) error) error {
	made, err := c.Up(ctx, o)
	if err == nil {
		err = do(ctx, c)
	}
	if !made {
		return err
	}
	if err != nil {
		said, _, _ := strings.Cut(err.Error(), "\n")
		fmt.Println("\nfailed:", said)
	}
	fmt.Println("\nremoving what was made, which takes up to a minute or two; a second Ctrl-C leaves it to " + current.Remove)
	began := time.Now()
	left := c.Down(context.WithoutCancel(ctx))
	if left == nil {
		fmt.Printf("  %-28s %6.1fs\n", "all of it is removed", time.Since(began).Seconds())
	}
	if err = errors.Join(err, left); err == nil {
		fmt.Printf("PASSED on context %s\n", c.Context)
	}
	return err
}

// demo runs the demo, and lets a person at a terminal look around.
func demo(ctx context.Context, c *current.Cluster) error {
	if err := c.Demo(ctx); err != nil {
		return err
	}
	if !term.IsTerminal(int(os.Stdin.Fd())) {
		return nil
	}
	fmt.Println("\nit keeps running: look around, and press Enter to end it")
	for _, line := range c.Guide() {
		fmt.Println("  " + line)
	}
	enter := make(chan struct{})
	go func() { defer close(enter); _, _ = bufio.NewReader(os.Stdin).ReadString('\n') }()
	select {
	case <-enter:
	case <-ctx.Done():
	}
	return nil
}

// scenarios runs the scenarios, with their whole output in a log.
func scenarios(ctx context.Context, c *current.Cluster, pattern string) (err error) {
	name := filepath.Join(c.Root, ".out", "current", "scenarios.log")
	log, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("create log: %w", err)
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	fmt.Println("\nthe scenarios; their whole output is in", name)
	command := exec.CommandContext(ctx, "go", "test", "-v", "-count=1", "-timeout=1h", "-parallel=2", "-run", pattern, "./scenarios")
	command.Dir = filepath.Join(c.Root, "e2e")
	command.Env = append(append(os.Environ(), "AGENTLET_SCENARIOS=1", "AGENTLET_LONG="), c.Environment()...)
	// The tests and what they have started end together.
	command.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	command.Cancel = func() error { return syscall.Kill(-command.Process.Pid, syscall.SIGKILL) }
	reader, writer := io.Pipe()
	command.Stdout, command.Stderr = writer, writer
	shown := make(chan struct{})
	go func() { defer close(shown); show(reader, log) }()
	err = command.Run()
	_ = writer.Close() // never fails
	<-shown
	if err != nil {
		return fmt.Errorf("scenarios: %w", err)
	}
	return nil
}

// told matches the lines of a run that are shown while it runs.
var told = regexp.MustCompile(`^\s*--- |^(ok|FAIL|PASS|panic)|(Given|When|Then) .*\)$|SKIPPED|_test\.go:\d+:`)

// empty matches what go says of a test whose parts were all skipped, and shown as such.
var empty = regexp.MustCompile(`--- PASS: .*\(0\.00s\)$`)

func show(reader io.Reader, log io.Writer) {
	lines := bufio.NewScanner(reader)
	lines.Buffer(make([]byte, 1<<20), 1<<20)
	for lines.Scan() {
		fmt.Fprintln(log, lines.Text())
		if told.MatchString(lines.Text()) && !empty.MatchString(lines.Text()) {
			fmt.Println(lines.Text())
		}
	}
	_, _ = io.Copy(log, reader) // for a line longer than the buffer: the writer must not block
}
