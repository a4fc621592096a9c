package demo

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/agentlet/agentlet/e2e/cluster"
	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/figures"
	"github.com/agentlet/agentlet/hack/restart"
)

// kind is a way to register pods in Consul.
type kind struct {
	// service is the name of the Deployment, of its pods' label app, and of the Consul service.
	service        string
	births, deaths table
	// adapt, if not nil, changes the example's Deployment, which is Agentlet's.
	adapt func(*appsv1.Deployment)
	// temporary is set if the Deployment is removed after its restart.
	temporary bool
}

// Names of the services.
const (
	web    = "web"
	byHand = "web-by-hand"
)

// kinds returns both, in the order of the demo.
func kinds() (withoutAgentlet, withAgentlet kind) {
	return kind{service: byHand, births: birthsByHand, deaths: deathsByHand, adapt: registerByHand, temporary: true},
		kind{service: web, births: births, deaths: deaths}
}

// rollout is a Deployment that is restarted under load, and what is measured of it.
type rollout struct {
	kind

	screen   *screen
	timeline *observe.Timeline
	load     *load.Client
	// first are the UIDs of the pods that the restart replaces.
	first map[string]bool
	// began is when the restart began.
	began time.Time

	// result is what the restart was, once it is over.
	result restart.Restart

	mu     sync.Mutex
	failed []time.Time // when failed requests began
}

func newRollout(k kind, s *screen) *rollout {
	r := &rollout{kind: k, screen: s, first: map[string]bool{}}
	r.timeline = observe.NewTimeline(r.passed)
	return r
}

// passed prints a station if nothing can be redrawn. It is called under the timeline's lock.
func (r *rollout) passed(life observe.Life, station observe.Station) {
	if !r.screen.live {
		r.screen.say(passages(life, station)...)
	}
}

// deploy creates the Deployment, and shows its pods until all are Ready. Its watches last as long as ctx.
func (r *rollout) deploy(ctx context.Context, env *scenario.Env) error {
	for _, earlier := range []string{byHand, web} {
		if err := r.remove(ctx, env, earlier); err != nil {
			return err
		}
	}
	collector, err := r.timeline.Collect(ctx, cluster.HostIP)
	if err != nil {
		return err
	}
	if _, err := r.timeline.Pods(ctx, env.Kube, namespace, "app="+r.service); err != nil {
		return err
	}
	r.timeline.Catalog(ctx, env.Consul, r.service)
	for _, node := range env.Cluster.Nodes {
		agent, err := cluster.ConsulClient(node.ConsulAddr())
		if err != nil {
			return err
		}
		r.timeline.Agent(ctx, agent, r.service)
	}
	if err := r.create(ctx, env, collector); err != nil {
		return err
	}
	return r.screen.follow(ctx, func(width int) []string {
		return slices.Concat([]string{"pods: milliseconds since admission"}, r.births.render(r.timeline.Lives(), width, r.screen.style))
	}, nil, func(context.Context) (bool, error) {
		lives := r.timeline.Lives()
		return len(lives) >= replicas && observe.AllPassed(lives, observe.Ready, observe.InCatalog), nil
	})
}

// restart restarts the Deployment under load, shows the new and the old pods, and says what the time went into.
func (r *rollout) restart(ctx context.Context, env *scenario.Env) error {
	for _, life := range r.timeline.Lives() {
		r.first[life.UID] = true
	}
	loading, enough := context.WithCancel(ctx)
	defer enough()
	r.load = load.New(env.Consul, r.service)
	r.load.Failed = func(failure load.Failure) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.failed = append(r.failed, failure.Began)
	}
	if err := r.load.Follow(loading); err != nil {
		return err
	}
	r.began = time.Now()
	ended := make(chan struct{})
	go func() { defer close(ended); r.load.Run(loading, rate) }()
	if _, err := env.Kubectl(ctx, "-n", namespace, "rollout", "restart", "deployment/"+r.service); err != nil {
		return err
	}
	var over time.Time
	err := r.screen.follow(ctx, r.block, r.loadLine, func(context.Context) (bool, error) {
		fresh, old := r.generations()
		if len(fresh) < replicas || !observe.AllPassed(fresh, observe.Ready, observe.InCatalog) ||
			!observe.AllPassed(old, observe.Gone) {
			return false, nil
		}
		if over.IsZero() {
			over = time.Now()
		}
		if time.Since(over) < tail {
			return false, nil
		}
		enough()
		<-ended // count the last answers
		return true, nil
	})
	if err != nil {
		return err
	}
	r.result = r.measured()
	fresh, old := r.generations()
	r.screen.say("")
	r.screen.say(r.births.notes(fresh)...)
	r.screen.say(r.deaths.notes(old)...)
	if errs := r.load.Errors(); len(errs) > 0 {
		r.screen.say("")
		r.screen.say(failures(errs)...)
	}
	if r.temporary {
		if err := r.remove(ctx, env, r.service); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// generations returns the lives of the new pods, and of those that the restart has replaced.
func (r *rollout) generations() (fresh, old []observe.Life) {
	for _, life := range r.timeline.Lives() {
		if r.first[life.UID] {
			old = append(old, life)
		} else {
			fresh = append(fresh, life)
		}
	}
	return fresh, old
}

func (r *rollout) block(width int) []string {
	fresh, old := r.generations()
	return slices.Concat(
		[]string{r.loadLine(), "", "new pods: milliseconds since admission"}, r.births.render(fresh, width, r.screen.style),
		[]string{"", "old pods: milliseconds since deletion"}, r.deaths.render(old, width, r.screen.style),
	)
}

func (r *rollout) loadLine() string {
	requests, failed := r.load.Counts()
	fresh, old := r.generations()
	text := r.screen.style.good
	if failed > 0 {
		text = r.screen.style.bad
	}
	return fmt.Sprintf("%s  of %s requests  pods replaced: %d of %d  passing in Consul: %d",
		text(fmt.Sprintf("failed: %d", failed)), figures.Thousands(int(requests)),
		min(count(old, observe.Gone), count(fresh, observe.Ready)), replicas, len(r.load.Instances()))
}

// measured returns the restart with times since its beginning.
func (r *rollout) measured() restart.Restart {
	requests, _ := r.load.Counts()
	fresh, old := r.generations()
	since := func(at time.Time) int { return int(at.Sub(r.began).Milliseconds()) }
	pods := func(lives []observe.Life) (pods []restart.Pod) {
		for _, life := range lives {
			pod := restart.Pod{Name: life.Pod, At: map[string]int{}}
			for station, at := range sound(life).At {
				pod.At[string(station)] = since(at)
			}
			pods = append(pods, pod)
		}
		return pods
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	failed := []int{}
	for _, at := range r.failed {
		failed = append(failed, since(at))
	}
	slices.Sort(failed)
	return restart.Restart{Requests: int(requests), Failed: failed, Old: pods(old), New: pods(fresh)}
}
