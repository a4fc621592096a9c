package current

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/load/driver"
	"github.com/agentlet/agentlet/e2e/observe"
)

const (
	// shop is the demo's namespace, service the example's Deployment, Consul service and label app.
	shop    = "agentlet-try-shop"
	service = "web"
	example = "examples/web.yaml"
	// rate is the number of requests per second during the restart.
	rate = 50
	// tail is how long the load continues after the last old pod is gone, so that late failures are seen.
	tail = 2 * time.Second
	// patience is how long a Deployment may take to be Ready, or to be replaced.
	patience = 3 * time.Minute
)

// Demo deploys examples/web.yaml, restarts it under load, and prints when each pod passed each station. It returns an error if a
// request failed, or if a pod passed its stations in a wrong order.
func (c *Cluster) Demo(ctx context.Context) error {
	labels := map[string]string{Label: Applications, contract.InjectLabel: contract.InjectEnabled}
	if err := c.CreateNamespace(ctx, shop, labels); err != nil {
		return err
	}
	d := &demo{Cluster: c, timeline: observe.NewTimeline(nil), driver: driver.Client{Kube: c.Kube, Namespace: shop}}
	consul, err := c.Consul()
	if err != nil {
		return err
	}
	state, err := StartDriver(ctx, d.driver, driver.Pod(c.Image, service, ConsulPort))
	if err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	if _, err := d.timeline.Pods(watching, c.Kube, shop, "app="+service); err != nil {
		return err
	}
	d.timeline.Catalog(watching, consul, service)

	fmt.Fprintf(c.log, "\n%s is deployed: milliseconds since each pod's admission\n", service)
	if err := d.deploy(ctx, state.Reports); err != nil {
		return err
	}
	err = d.await(ctx, func(lives []observe.Life) bool {
		return len(lives) > 0 && observe.AllPassed(lives, observe.Ready, observe.InCatalog)
	})
	if err != nil {
		return err
	}
	first := d.timeline.Lives()
	d.print(first, observe.Admitted, births)

	fmt.Fprintf(c.log, "\nit is restarted under load: %d requests per second, a new connection each, sent where Consul says\n", rate)
	if err := d.restart(ctx, len(first)); err != nil {
		return err
	}
	if state, err = d.driver.State(ctx); err != nil {
		return err
	}
	d.mergeReports(state)
	lives := d.timeline.Lives()
	fmt.Fprintln(c.log, "new pods: milliseconds since admission")
	d.print(lives[len(first):], observe.Admitted, births)
	fmt.Fprintln(c.log, "old pods: milliseconds since deletion")
	d.print(lives[:len(first)], observe.Deleted, deaths)
	return d.judge(state, first)
}

// StartDriver creates a driver's pod, of which its namespace has no other, and waits until it answers.
func StartDriver(ctx context.Context, client driver.Client, pod *corev1.Pod) (state driver.State, err error) {
	err = poll(ctx, "the creation of the driver's pod, which needs its namespace's service account", func(ctx context.Context) (bool, error) {
		_, err := client.Kube.CoreV1().Pods(client.Namespace).Create(ctx, pod, metav1.CreateOptions{})
		// The answer to an earlier try may have been lost.
		return err == nil || apierrors.IsAlreadyExists(err), err
	})
	if err != nil {
		return state, err
	}
	err = poll(ctx, "the driver", func(ctx context.Context) (bool, error) {
		state, err = client.State(ctx)
		return err == nil, err
	})
	return state, err
}

var (
	births = []observe.Station{observe.ContainersReady, observe.InCatalog, observe.GateOpen, observe.Ready}
	deaths = []observe.Station{observe.OutOfCatalog, observe.Terminated, observe.Gone}
)

// demo is the state of a run.
type demo struct {
	*Cluster
	timeline *observe.Timeline
	driver   driver.Client
}

// deploy creates the example's Deployment with the sample's image, which reports its SIGTERM to the driver.
func (d *demo) deploy(ctx context.Context, reports string) error {
	content, err := os.ReadFile(filepath.Join(d.Root, example))
	if err != nil {
		return fmt.Errorf("read example: %w", err)
	}
	var deployment appsv1.Deployment
	if err := yaml.UnmarshalStrict(content, &deployment); err != nil {
		return fmt.Errorf("decode %s: %w", example, err)
	}
	deployment.Namespace = shop
	application := &deployment.Spec.Template.Spec.Containers[0]
	application.Image, application.Command = d.Image, []string{driver.Sample}
	application.Env = append(application.Env, driver.Reporting(reports)...)
	if _, err := d.Kube.AppsV1().Deployments(shop).Create(ctx, &deployment, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("create deployment: %w", err)
	}
	return nil
}

// restart restarts the Deployment under load, and returns after the last answer.
func (d *demo) restart(ctx context.Context, replicas int) error {
	if err := d.driver.Load(ctx, rate); err != nil {
		return err
	}
	if _, err := d.Kubectl(ctx, "-n", shop, "rollout", "restart", "deployment/"+service); err != nil {
		return err
	}
	err := d.await(ctx, func(lives []observe.Life) bool {
		return len(lives) == 2*replicas && observe.AllPassed(lives[:replicas], observe.Gone) &&
			observe.AllPassed(lives[replicas:], observe.Ready, observe.InCatalog)
	})
	if err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(tail):
	}
	return d.driver.Load(ctx, 0)
}

// await waits until the lives fulfil a condition.
func (d *demo) await(ctx context.Context, condition func([]observe.Life) bool) error {
	err := poll(ctx, "the pods", func(context.Context) (bool, error) { return condition(d.timeline.Lives()), nil })
	if err != nil {
		return errors.Join(err, errors.New(d.describe(ctx, shop)))
	}
	return nil
}

// print prints a line per pod, with the milliseconds from one station to others.
func (d *demo) print(lives []observe.Life, from observe.Station, stations []observe.Station) {
	for _, life := range lives {
		fmt.Fprintf(d.log, "  %-24s", life.Pod)
		for _, station := range stations {
			text := "?"
			if took, ok := life.Between(from, station); ok {
				text = fmt.Sprint(took.Milliseconds())
			}
			fmt.Fprintf(d.log, "  %s %s", station, text)
		}
		fmt.Fprintln(d.log)
	}
}

// mergeReports adds the SIGTERMs that the driver knows of, by this machine's clock.
func (d *demo) mergeReports(state driver.State) {
	ahead := time.Until(state.Now)
	for _, life := range state.Lives {
		if at, reported := life.At[observe.Terminated]; reported {
			d.timeline.Pass(life.UID, observe.Terminated, at.Add(-ahead))
		}
	}
}

// judge returns everything that went wrong. Stations of the end are compared on the driver's clock.
func (d *demo) judge(state driver.State, old []observe.Life) error {
	fmt.Fprintf(d.log, "\nrequests: %d  failed: %d\n", state.Requests, state.Failed)
	errs := []error{Orderly(state, old)}
	for _, life := range d.timeline.Lives() {
		if took, ok := life.Between(observe.InCatalog, observe.Ready); !ok || took < 0 {
			errs = append(errs, fmt.Errorf("%s was Ready before it was in the catalog", life.Pod))
		}
	}
	return errors.Join(errs...)
}

// Orderly returns an error if a request failed, if there was none, or if one of the pods that are gone got SIGTERM before the
// catalog had removed it.
func Orderly(state driver.State, gone []observe.Life) error {
	var errs []error
	if state.Failed > 0 || state.Requests == 0 {
		errs = append(errs, fmt.Errorf("%d of %d requests failed: %v", state.Failed, state.Requests, state.Errors))
	}
	for _, life := range gone {
		i := slices.IndexFunc(state.Lives, func(l observe.Life) bool { return l.UID == life.UID })
		if i < 0 {
			errs = append(errs, fmt.Errorf("%s was never in the catalog", life.Pod))
		} else if took, ok := state.Lives[i].Between(observe.OutOfCatalog, observe.Terminated); !ok || took < 0 {
			errs = append(errs, fmt.Errorf("%s got no SIGTERM after it left the catalog: %v", life.Pod, state.Lives[i].At))
		}
	}
	return errors.Join(errs...)
}

// pollInterval is how often a condition is evaluated.
const pollInterval = 200 * time.Millisecond

// poll waits for a condition. The error contains the condition's last one.
func poll(ctx context.Context, what string, condition func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		ok, err := condition(ctx)
		if ok {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", what, cmp.Or(last, ctx.Err()))
		case <-ticker.C:
		}
	}
}

// Guide returns how to look around while the demo's pods run.
func (c *Cluster) Guide() []string {
	kubectl := "kubectl --context=" + c.Context
	return []string{
		kubectl + " get pods -n " + shop + " -o wide",
		kubectl + " rollout restart -n " + shop + " deployment/" + service,
		kubectl + " port-forward -n " + ConsulNamespace + " consul-server-0 8500    # Consul's UI: http://localhost:8500/ui",
	}
}
