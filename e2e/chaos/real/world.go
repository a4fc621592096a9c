// Package real executes the steps of a campaign on a real cluster: it implements the World of e2e/chaos. It keeps an undo
// function for each active fault, and checks the invariants at each quiet moment.
package real

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/chaos"
	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// workload is the name of the campaign's Deployment.
const workload = "sample"

// Replicas of the Deployment: the initial number, and the bounds of scaling.
const (
	firstReplicas = 6
	fewReplicas   = 3
	manyReplicas  = 8
)

// Rate is the client's requests per second.
const Rate = 100

// Options configures a World.
type Options struct {
	// Namespace is the campaign's, and opted in. The service has the same name.
	Namespace string
	// Template is the template of the application's pods.
	Template corev1.PodTemplateSpec
	// Secured, if not nil, is the Consul that the pods use instead of the cluster's own.
	Secured *cluster.Secured
	// Folder is for files; the caller removes it.
	Folder string
	// Log gets lines about events other than the steps.
	Log func(line string)
}

// World is the cluster with the campaign's workload and client.
type World struct {
	*scenario.Env
	Options

	consul    consul
	client    *load.Client
	finish    func()
	baseline  counts
	watch     *watcher
	mu        sync.Mutex
	failures  []chaos.Failure
	undo      map[string]undo
	removeAll []func(context.Context) error
}

// undo ends a fault, and describes what happened.
type undo func(ctx context.Context) (seen string, err error)

// begin begins a fault, describes what happened, and returns the function that ends it. If it fails half-way, undo is not nil
// either.
type begin func(ctx context.Context, w *World, step chaos.Step) (seen string, undo undo, err error)

// change executes a change that people make.
type change func(ctx context.Context, w *World, step chaos.Step) (seen string, err error)

// Start creates the workload, waits until it is quiet, and starts the client's requests. things are those of this cluster beside
// the common ones. Call Stop in any case, also after a failed Start.
func Start(ctx context.Context, env *scenario.Env, options Options) (w *World, things []chaos.Thing, err error) {
	w = &World{Env: env, Options: options, undo: map[string]undo{}, finish: func() {}}
	if things, err = w.prepare(ctx); err != nil {
		return w, nil, err
	}
	w.watch = watchPods(ctx, w.Kube, options.Namespace, scenario.SystemNamespace)
	if err := w.deploy(ctx); err != nil {
		return w, nil, err
	}
	if _, err := w.Settle(ctx); err != nil {
		return w, nil, fmt.Errorf("before the first fault: %w", err)
	}
	if w.baseline, err = w.count(ctx); err != nil {
		return w, nil, err
	}
	w.client = load.New(w.consul.clients[0], w.Namespace, w.consul.clients[1:]...)
	w.client.Failed = w.failed
	following, enough := context.WithCancel(context.WithoutCancel(ctx))
	if err := w.client.Follow(following); err != nil {
		enough()
		return w, nil, err
	}
	done := make(chan struct{})
	go func() { defer close(done); w.client.Run(following, Rate) }()
	w.finish = func() { enough(); <-done }
	return w, things, nil
}

// prepare selects the Consul, and detects what this machine and this cluster support.
func (w *World) prepare(ctx context.Context) (things []chaos.Thing, err error) {
	if installed("iptables") {
		if err := w.tryDrop(ctx); err != nil {
			w.Log("no packets are dropped: " + err.Error())
		} else {
			things = append(things, chaos.PacketFilter)
		}
	}
	if installed("dbus-daemon") {
		things = append(things, chaos.MessageBus)
	}
	more, err := w.chooseConsul(ctx)
	return append(things, more...), err
}

// installed reports whether a program is installed, also in folders outside root's PATH.
func installed(program string) bool {
	folders := append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin", "/sbin", "/usr/bin")
	return slices.ContainsFunc(folders, func(folder string) bool { return executable(filepath.Join(folder, program)) })
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// tryDrop checks whether this machine can drop packets.
func (w *World) tryDrop(ctx context.Context) error {
	node := w.Cluster.Nodes[0]
	return errors.Join(node.Drop(ctx, 0.0001), node.Deliver(ctx))
}

// deploy creates the Deployment, spread over the nodes, and a PodDisruptionBudget.
func (w *World) deploy(ctx context.Context) error {
	template := *w.Template.DeepCopy()
	if template.Annotations == nil {
		template.Annotations = map[string]string{}
	}
	template.Annotations[contract.HeartbeatTTL] = chaos.HeartbeatTTL.String()
	template.Annotations[contract.DeregisterAfter] = chaos.DeregisterAfter.String()
	template.Spec.TerminationGracePeriodSeconds = new(int64(chaos.GracePeriod.Seconds()))
	template.Spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{{
		MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
		LabelSelector: &metav1.LabelSelector{MatchLabels: template.Labels},
	}}
	w.Template = template
	_, err := w.Kube.AppsV1().Deployments(w.Namespace).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: workload},
		Spec: appsv1.DeploymentSpec{
			Replicas: new(int32(firstReplicas)), Selector: &metav1.LabelSelector{MatchLabels: template.Labels}, Template: template,
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create deployment: %w", err)
	}
	_, err = w.Kube.PolicyV1().PodDisruptionBudgets(w.Namespace).Create(ctx, &policyv1.PodDisruptionBudget{
		ObjectMeta: metav1.ObjectMeta{Name: workload},
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable: new(intstr.FromInt32(1)), Selector: &metav1.LabelSelector{MatchLabels: template.Labels},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("create disruption budget: %w", err)
	}
	return nil
}

// Do executes a step.
func (w *World) Do(ctx context.Context, step chaos.Step) (seen string, err error) {
	key := fmt.Sprintf("%s@%d", step.Name, step.Node)
	switch step.Kind {
	case chaos.Begin:
		do, ok := faults()[step.Name]
		if !ok {
			return "", fmt.Errorf("nobody knows how to cause %q", step.Name)
		}
		seen, back, err := do(ctx, w, step)
		if back != nil {
			w.undo[key] = back
		}
		return seen, err
	case chaos.End:
		back, ok := w.undo[key]
		if !ok {
			return "there is nothing to undo", nil
		}
		seen, err = back(ctx)
		if err == nil {
			delete(w.undo, key)
		}
		return seen, err
	case chaos.During:
		do, ok := changes()[step.Name]
		if !ok {
			return "", fmt.Errorf("nobody knows how to do %q", step.Name)
		}
		return do(ctx, w, step)
	default:
		return "", fmt.Errorf("a step of the kind %q", step.Kind)
	}
}

func (w *World) failed(f load.Failure) {
	w.mu.Lock()
	defer w.mu.Unlock()
	host, _, _ := strings.Cut(f.Instance, ":")
	w.failures = append(w.failures, chaos.Failure{
		Began: f.Began, Ended: f.Ended, Instance: w.describe(f.Instance), Error: f.Err.Error(),
		PodEnded: host != "" && !w.watch.lives(host),
	})
}

// describe adds to an instance's address the pod that has it, or had it last.
func (w *World) describe(instance string) string {
	if instance == "" {
		return "nobody"
	}
	host, _, _ := strings.Cut(instance, ":")
	return strings.TrimSpace(instance + " " + w.watch.holder(host))
}

// Failures returns the requests that failed since the last call.
func (w *World) Failures() []chaos.Failure {
	w.mu.Lock()
	defer w.mu.Unlock()
	failures := w.failures
	w.failures = nil
	return failures
}

// Requests returns how many requests were sent so far.
func (w *World) Requests() int64 {
	if w.client == nil {
		return 0
	}
	requests, _ := w.client.Counts()
	return requests
}

// Stop ends the client, and undoes what the campaign has changed outside its namespace. The workload is deleted with the
// namespace.
func (w *World) Stop(ctx context.Context) error {
	w.finish()
	var errs []error
	for _, back := range w.undo { // ended here if the campaign could not end it
		_, err := back(ctx)
		errs = append(errs, err)
	}
	for _, remove := range slices.Backward(w.removeAll) {
		errs = append(errs, remove(ctx))
	}
	if w.watch != nil {
		w.watch.stop()
	}
	return errors.Join(errs...)
}

// Limits of calls of the API server and of Consul, which may have just restarted.
const (
	callTimeout = 10 * time.Second
	tryTimeout  = time.Minute
	tryPause    = 200 * time.Millisecond
)

// eventually repeats do until it succeeds, for up to a minute. ErrNothing ends it at once.
func eventually(ctx context.Context, what string, do func(ctx context.Context) error) error {
	return within(ctx, tryTimeout, what, do)
}

func within(ctx context.Context, bound time.Duration, what string, do func(ctx context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	ticker := time.NewTicker(tryPause)
	defer ticker.Stop()
	var last error
	for {
		call, done := context.WithTimeout(ctx, callTimeout)
		err := do(call)
		done()
		if err == nil || errors.Is(err, chaos.ErrNothing) {
			return err
		}
		if ctx.Err() == nil || last == nil {
			last = err // keep the earlier error if the end cut this try short: it says more
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w: %w", what, ctx.Err(), last)
		case <-ticker.C:
		}
	}
}

// put sends a PUT request to the sample in a pod.
func put(ctx context.Context, ip, path string) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPut, "http://"+ip+":8080"+path, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

// query returns options for a Consul query that ends with ctx.
func query(ctx context.Context) *api.QueryOptions { return (&api.QueryOptions{}).WithContext(ctx) }
