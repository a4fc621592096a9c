// Package scenario runs stories on the real cluster: Given, When, Then. One test binary shares one cluster with Agentlet
// installed; each scenario has a namespace of its own. Scenarios that break nodes, or that measure, run one at a time;
// the others call Parallel.
package scenario

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/toolchain"
)

// SampleImage is the application of e2e/sample.
const SampleImage = "agentlet.test/sample:e2e"

// Namespace and Release of the installation.
const (
	SystemNamespace = "agentlet-system"
	Release         = "agentlet"
)

// Env is what the scenarios of a run share.
type Env struct {
	Cluster *cluster.Cluster
	Kube    kubernetes.Interface
	// Consul is a client of a Consul server, or of an agent where Consul runs in pods.
	Consul *api.Client
	// Root is the repository's folder, Out the folder for figures and reports, Helm the helm program.
	Root, Out, Helm string

	release func() error
}

// Release lets other runs have the cluster.
func (e *Env) Release() error { return e.release() }

// FiguresFile is where figures are merged into.
func (e *Env) FiguresFile() string { return filepath.Join(e.Out, "figures.json") }

// BenchFile is where the figures of make bench are merged into.
func (e *Env) BenchFile() string { return filepath.Join(e.Out, "bench.json") }

// shared is the environment of this test binary, made by Main.
var shared *Env

// Main is a test binary's TestMain: it starts the cluster if it isn't up, installs what was built from this tree, runs
// the tests, and with CI=true takes the cluster down. Without AGENTLET_SCENARIOS all scenarios are skipped: they need root
// and a machine of their own.
func Main(m *testing.M) int {
	if os.Getenv("AGENTLET_SCENARIOS") == "" {
		fmt.Println("SKIPPED: scenarios need a cluster; run them with make e2e")
		return 0
	}
	ctx, cancel := context.WithTimeout(context.Background(), 45*time.Minute)
	env, err := Start(ctx, os.Stderr)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL: prepare scenarios:", err)
		return 1
	}
	shared = env
	code := m.Run()
	if os.Getenv("CI") != "" {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
		defer cancel()
		if err := env.Cluster.Down(ctx); err != nil {
			fmt.Fprintln(os.Stderr, "take the cluster down:", err)
		}
	}
	return code
}

// Start brings a cluster up with Agentlet installed from this tree and the sample's image loaded, in the place of one
// that is up with other options. Each step is logged. It keeps other runs off the cluster until Release or the
// program's end.
func Start(ctx context.Context, log io.Writer, values ...string) (*Env, error) {
	root, err := toolchain.SourceRoot()
	if err != nil {
		return nil, err
	}
	root = filepath.Dir(root)
	env := &Env{Root: root, Out: filepath.Join(root, ".out")}
	env.release, err = cluster.Lock(ctx, cluster.DefaultName,
		func() { fmt.Fprintln(log, "waiting for another run on this cluster to end") })
	if err != nil {
		return nil, err
	}
	options, err := ClusterOptions(log)
	if err != nil {
		return nil, err
	}
	// All at once, before anything is started, so that it is told how much there is to build.
	sets := []string{toolchain.Kubernetes, toolchain.Consul, toolchain.Helm}
	if options.Kubernetes != "" && options.Kubernetes != toolchain.Kubernetes {
		sets = append(sets, options.Kubernetes)
	}
	tools, err := toolchain.EnsureAll(ctx, log, sets, toolchain.Job{Name: "image", Do: env.buildImage})
	if err != nil {
		return nil, err
	}
	env.Helm = tools.Program(toolchain.Helm, "helm")
	env.Cluster, err = cluster.Up(ctx, options)
	if errors.Is(err, cluster.ErrOtherOptions) { // nobody uses it: we have the lock
		if err := cluster.Down(ctx, options.Name, log); err != nil {
			return nil, err
		}
		env.Cluster, err = cluster.Up(ctx, options)
	}
	if err != nil {
		return nil, err
	}
	if env.Kube, err = env.Cluster.Client(); err != nil {
		return nil, err
	}
	if env.Consul, err = cluster.ConsulClient(env.ConsulAddr()); err != nil {
		return nil, err
	}
	type step struct {
		name string
		do   func(context.Context) error
	}
	steps := []step{
		{"load the images", env.loadImages},
		{"install the chart", func(ctx context.Context) error {
			return errors.Join(env.clearPendingRelease(ctx), env.Install(ctx, values...))
		}},
	}
	if env.InCluster() {
		steps = slices.Insert(steps, 0,
			step{"run Consul in pods", func(ctx context.Context) error { return env.startConsul(ctx, log) }})
	}
	for _, step := range steps {
		began := time.Now()
		if err := step.do(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", step.name, err)
		}
		fmt.Fprintf(log, "  %-28s %6.1fs\n", step.name, time.Since(began).Seconds())
	}
	return env, nil
}

func (e *Env) buildImage(ctx context.Context, log io.Writer, label string) error {
	command := exec.CommandContext(ctx, "make", "-C", e.Root, "image", "VERBOSE=-v")
	command.Env = append(os.Environ(), "MAKEFLAGS=", "MFLAGS=", "CGO_ENABLED=0")
	command.Dir = e.Root
	return toolchain.Watch(ctx, log, label, command, append(strings.Fields(toolchain.CompileFlags), "./cmd/..."))
}

func (e *Env) loadImages(ctx context.Context) error {
	tarball := filepath.Join(e.Out, "sample.tar")
	if err := cluster.BuildImage(ctx, filepath.Join(e.Root, "e2e"), "./sample", SampleImage, tarball); err != nil {
		return err
	}
	return errors.Join(
		e.Cluster.LoadImage(ctx, tarball),
		e.Cluster.LoadImage(ctx, filepath.Join(e.Out, "image.tar")),
	)
}

// clearPendingRelease forgets an installation that was interrupted half-way: helm would refuse to go on from there.
func (e *Env) clearPendingRelease(ctx context.Context) error {
	err := e.Kube.CoreV1().Secrets(SystemNamespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{
		LabelSelector: "owner=helm,name=" + Release + ",status in (pending-install,pending-upgrade,pending-rollback)",
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("clear interrupted installation: %w", err)
	}
	return nil
}

// Install installs or upgrades the chart, as a user would, and restarts the webhook's pods, whose image may have been
// built anew under the same name. values are helm's --set pairs.
func (e *Env) Install(ctx context.Context, values ...string) error {
	return e.InstallChart(ctx, e.Chart(), values...)
}

// Chart is the folder of this tree's chart.
func (e *Env) Chart() string { return filepath.Join(e.Root, "charts", "agentlet") }

// InstallChart installs a chart as Install does.
func (e *Env) InstallChart(ctx context.Context, chart string, values ...string) error {
	args := []string{
		"upgrade", "--install", Release, chart,
		"-n", SystemNamespace, "--create-namespace", "--wait", "--timeout", "3m",
		"--set", "image.tag=dev", "--set", "podAnnotations.restarted=" + time.Now().UTC().Format("150405.000"),
	}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	return e.Command(ctx, e.Helm, args...)
}

// Kubectl runs kubectl as the administrator and returns what it printed.
func (e *Env) Kubectl(ctx context.Context, args ...string) (string, error) {
	return e.output(ctx, e.Cluster.Kubectl(), args...)
}

// HelmOutput runs helm in the namespace of the installation and returns what it printed.
func (e *Env) HelmOutput(ctx context.Context, args ...string) (string, error) {
	return e.output(ctx, e.Helm, append(args, "-n", SystemNamespace)...)
}

// Command runs a program with the cluster's kubeconfig; its output is part of the error when it fails.
func (e *Env) Command(ctx context.Context, name string, args ...string) error {
	_, err := e.output(ctx, name, args...)
	return err
}

func (e *Env) output(ctx context.Context, name string, args ...string) (string, error) {
	command := exec.CommandContext(ctx, name, args...)
	command.Env = append(os.Environ(), "KUBECONFIG="+e.Cluster.Kubeconfig(), "MAKEFLAGS=", "MFLAGS=")
	out, err := command.CombinedOutput()
	if err != nil {
		return string(out), fmt.Errorf("%s %s: %w\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out), nil
}
