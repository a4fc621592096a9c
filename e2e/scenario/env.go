// Package scenario runs scenarios on a real cluster, in steps Given, When, Then. All scenarios of a test binary share one cluster
// with Agentlet installed; each has its own namespace. Scenarios that break nodes, or that measure, run one at a time; the others
// call Parallel.
package scenario

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/cluster/current"
	"github.com/agentlet/agentlet/hack/image"
	"github.com/agentlet/agentlet/hack/toolchain"
)

// SampleImage is the application of e2e/images/sample.
const SampleImage = "agentlet.test/sample:e2e"

// Namespace and Release are those of the Helm installation.
const (
	SystemNamespace = "agentlet-system"
	Release         = "agentlet"
)

// Env is what all scenarios of a run share.
type Env struct {
	// Cluster is the test cluster; nil on the kubeconfig's cluster, which is Current then.
	Cluster *cluster.Cluster
	Current *current.Cluster
	Kube    kubernetes.Interface
	// Consul is a client of a Consul server, or of an agent if Consul runs in pods.
	Consul *api.Client
	// Root is the repository's folder, Out the folder for figures and reports, Helm the path of helm.
	Root, Out, Helm string

	release func() error
	census  *census
}

// Release releases the cluster's lock, so that other runs can use it.
func (e *Env) Release() error { return e.release() }

// FiguresFile is the path of the file into which figures are merged.
func (e *Env) FiguresFile() string { return filepath.Join(e.Out, "figures.json") }

// BenchFile is the path of the file into which the figures of `make bench` are merged.
func (e *Env) BenchFile() string { return filepath.Join(e.Out, "bench.json") }

// shared is this test binary's environment, set by Main.
var shared *Env

// Main is the TestMain of a test binary. It starts the cluster unless it is up, installs this tree's build, and runs the tests;
// with CI=true it also takes the cluster down. Without AGENTLET_SCENARIOS all scenarios are skipped, because they need root and a
// dedicated machine.
func Main(m *testing.M) int {
	if os.Getenv("AGENTLET_SCENARIOS") == "" {
		fmt.Println("SKIPPED: scenarios need a cluster; run them with make e2e")
		return 0
	}
	if os.Getenv(current.ContextVariable) != "" {
		return onCurrent(m)
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

// Start brings up a cluster with Agentlet installed from this tree and the sample's image loaded. A running cluster with other
// options is replaced. Each step is logged. Start holds the cluster's lock until Release, or until the program ends.
func Start(ctx context.Context, log io.Writer, values ...string) (*Env, error) {
	root, err := toolchain.Root()
	if err != nil {
		return nil, err
	}
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
	if err := cluster.CanInstallPackages(); err != nil {
		return nil, err
	}
	// All at once, before anything is started, so that it is told how much there is to build.
	sets := []string{toolchain.Kubernetes, cmp.Or(options.ConsulTools, toolchain.Consul), toolchain.Helm}
	if options.Kubernetes != "" && options.Kubernetes != toolchain.Kubernetes {
		sets = append(sets, options.Kubernetes)
	}
	tools, err := toolchain.EnsureAll(ctx, log, sets, toolchain.Job{Name: "image", Do: env.buildImage})
	if err != nil {
		return nil, err
	}
	env.Helm = tools.Program(toolchain.Helm, "helm")
	env.Cluster, err = cluster.Up(ctx, options)
	if errors.Is(err, cluster.ErrOtherOptions) { // nobody uses the cluster: its lock is ours
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
	steps := []step{
		{"load the images", env.loadImages, func() string { return "compiling the sample, and importing on each node" }},
		{"install the chart", func(ctx context.Context) error {
			return errors.Join(env.clearPendingRelease(ctx), env.Install(ctx, values...))
		}, func() string { return env.podsReady(ctx, SystemNamespace) }},
	}
	if env.InCluster() {
		steps = slices.Insert(steps, 0, step{
			"run Consul in pods", func(ctx context.Context) error { return env.startConsul(ctx, log) },
			func() string { return env.podsReady(ctx, ConsulNamespace) },
		})
	}
	for _, step := range steps {
		if err := step.run(ctx, log); err != nil {
			return nil, err
		}
	}
	return env, nil
}

// step is a part of Start.
type step struct {
	name string
	do   func(context.Context) error
	// state says how far it is.
	state func() string
}

// run does the step, and shows how far it is if it takes long.
func (s step) run(ctx context.Context, log io.Writer) error {
	began := time.Now()
	progress := toolchain.StartProgress(log, "  "+s.name, func(time.Time) string { return s.state() })
	if err := s.do(ctx); err != nil {
		progress.Stop("failed")
		return fmt.Errorf("%s: %w", s.name, err)
	}
	if !progress.Stop("done") {
		fmt.Fprintf(log, "  %-28s %6.1fs\n", s.name, time.Since(began).Seconds())
	}
	return nil
}

// podsReady says how many pods of a namespace are ready.
func (e *Env) podsReady(ctx context.Context, namespace string) string {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	pods, err := e.Kube.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{})
	if err != nil || len(pods.Items) == 0 {
		return "no pods yet"
	}
	ready := 0
	for i := range pods.Items {
		if IsReady(&pods.Items[i]) {
			ready++
		}
	}
	return fmt.Sprintf("pods ready: %d of %d", ready, len(pods.Items))
}

func (e *Env) buildImage(ctx context.Context, log io.Writer, label string) error {
	command := exec.CommandContext(ctx, "make", "-C", e.Root, "image", "VERBOSE=-v")
	command.Env = append(os.Environ(), "MAKEFLAGS=", "MFLAGS=", "CGO_ENABLED=0")
	command.Dir = e.Root
	return toolchain.Watch(ctx, log, label, command, append(strings.Fields(toolchain.CompileFlags), "./cmd/..."))
}

func (e *Env) loadImages(ctx context.Context) error {
	tarball := filepath.Join(e.Out, "sample.tar")
	if err := cluster.BuildImage(ctx, filepath.Join(e.Root, "e2e"), "./images/sample", SampleImage, tarball); err != nil {
		return err
	}
	return errors.Join(
		e.Cluster.LoadImage(ctx, tarball),
		e.Cluster.LoadImage(ctx, filepath.Join(e.Out, "image.tar")),
		e.loadExamples(ctx, tarball),
	)
}

// named matches the image of a container in a manifest.
var named = regexp.MustCompile(`(?m)^\s*(?:- )?image: (\S+)`)

// loadExamples loads the sample under the names of the public images of examples. So these run as they are, with nothing pulled.
func (e *Env) loadExamples(ctx context.Context, sample string) error {
	files, err := filepath.Glob(filepath.Join(e.Root, "examples", "*.yaml"))
	if err != nil {
		return fmt.Errorf("find examples: %w", err)
	}
	var names []string
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("read example: %w", err)
		}
		for _, match := range named.FindAllStringSubmatch(string(text), -1) {
			names = append(names, match[1])
		}
	}
	slices.Sort(names)
	tarball := filepath.Join(e.Out, "example.tar")
	for _, name := range slices.Compact(names) {
		if err := image.Rename(sample, name, tarball); err != nil {
			return err
		}
		if err := e.Cluster.LoadImage(ctx, tarball); err != nil {
			return err
		}
	}
	return nil
}

// clearPendingRelease deletes an interrupted installation, because helm refuses to continue it.
func (e *Env) clearPendingRelease(ctx context.Context) error {
	err := e.Kube.CoreV1().Secrets(SystemNamespace).DeleteCollection(ctx, metav1.DeleteOptions{}, metav1.ListOptions{
		LabelSelector: "owner=helm,name=" + Release + ",status in (pending-install,pending-upgrade,pending-rollback)",
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("clear interrupted installation: %w", err)
	}
	return nil
}

// Install installs or upgrades the chart, as a user would. It then restarts the webhook's pods, because their image may have been
// rebuilt under the same name. values are helm's --set pairs.
func (e *Env) Install(ctx context.Context, values ...string) error {
	return e.InstallChart(ctx, e.Chart(), append([]string{"tests.enabled=true"}, values...)...)
}

// Chart returns the folder of this tree's chart.
func (e *Env) Chart() string { return filepath.Join(e.Root, "charts", "agentlet") }

// InstallChart installs a chart from another folder, as Install does.
func (e *Env) InstallChart(ctx context.Context, chart string, values ...string) error {
	args := []string{
		"upgrade", "--install", Release, chart,
		"-n", SystemNamespace, "--create-namespace", "--wait", "--timeout", "3m",
		"--set", "image.repository=agentlet/agentlet", "--set", "image.tag=dev",
		"--set", "podAnnotations.restarted=" + time.Now().UTC().Format("150405.000"),
	}
	for _, value := range values {
		args = append(args, "--set", value)
	}
	return e.Command(ctx, e.Helm, args...)
}

// Kubectl runs kubectl as the administrator and returns its output.
func (e *Env) Kubectl(ctx context.Context, args ...string) (string, error) {
	if e.Current != nil {
		return e.Current.KubectlSays(ctx, args...)
	}
	return e.output(ctx, e.Cluster.Kubectl(), args...)
}

// HelmOutput runs helm in the installation's namespace and returns its output.
func (e *Env) HelmOutput(ctx context.Context, args ...string) (string, error) {
	return e.output(ctx, e.Helm, append(args, "-n", SystemNamespace)...)
}

// Command runs a program with the cluster's kubeconfig. If it fails, the error contains its output.
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
