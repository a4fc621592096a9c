// Package grants is who may patch a gate. In each opted-in namespace it binds the service accounts that injected pods run
// under, and no others, to the one ClusterRole that an agentlet needs.
//
// The binding is a RoleBinding with one fixed name. An account is added as soon as an injected pod that runs under it
// is seen, which is before that pod is scheduled. That is done only while the namespace is opted in, and while the
// admission policies are in force that bound the role to a pod's own gate and events. The account is taken out again
// when no injected pod has needed it for a while; the binding goes with its last account. What is there stays as long
// as it is needed: also when the namespace's label goes, and when a policy does. Nothing here is asked at admission,
// and an admission waits for nothing here.
//
// Every replica of the webhook works on all namespaces. They agree because each change is a function of what all of them
// see, is made by server-side apply, and names the version of the binding that it was made for. Nothing is remembered
// across a restart that matters: what was missed is found again in the lists that every watch begins with.
package grants

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	// FieldManager is the name under which the bindings' fields are ours, and the value of ManagedByLabel.
	FieldManager = "agentlet-webhook"
	// ManagedByLabel finds the bindings that are made here.
	ManagedByLabel = "app.kubernetes.io/managed-by"

	// resync is how often every binding and policy is looked at without an event, in case one was lost.
	resync = 10 * time.Minute
	// callTimeout bounds one call to the API server.
	callTimeout = 10 * time.Second
	// unbindDelay is how long an account stays bound after its last injected pod has gone: a Recreate or a Job that follows
	// another finds its rights in place, and a pod that the kubelet reports as ended a moment early keeps them.
	unbindDelay = 30 * time.Second
	// workers bounds the namespaces that are worked on at once.
	workers = 4
)

// Config says which binding is kept, and what has to be there before.
type Config struct {
	Client kubernetes.Interface
	// Namespaces are the opted-in namespaces: name and label contract.InjectLabel are read of each. Whoever gives the informer
	// runs it, after New.
	Namespaces cache.SharedIndexInformer
	// Binding is the name of the RoleBinding in each namespace. It is this package's: whatever else is written into it is
	// put back. Role is the ClusterRole that it binds to.
	Binding, Role string
	// Policies are the ValidatingAdmissionPolicies without each of which nothing is granted; their bindings have the same names.
	Policies []string
	// Excluded are namespaces that are never granted, whatever their label says: those of which the webhook is not asked.
	Excluded []string
	Log      *slog.Logger
}

// Grants keeps the bindings.
type Grants struct {
	config  Config
	metrics *metrics

	bindings  cache.SharedIndexInformer // those with our name
	policies  []policy
	factories []informers.SharedInformerFactory
}

// policy is one of those that count.
type policy struct {
	name               string
	policies, bindings cache.SharedIndexInformer // of this name
}

// New returns Grants that do nothing before Run.
func New(config Config) (*Grants, error) {
	g := &Grants{config: config}
	g.metrics = newMetrics(g)
	named := func(name string) informers.SharedInformerFactory {
		f := informers.NewSharedInformerFactoryWithOptions(config.Client, resync, byName(name), informers.WithTransform(trim))
		g.factories = append(g.factories, f)
		return f
	}
	g.bindings = named(config.Binding).Rbac().V1().RoleBindings().Informer()
	watched := []cache.SharedIndexInformer{config.Namespaces, g.bindings}
	for _, name := range config.Policies {
		admission := named(name).Admissionregistration().V1()
		p := policy{name, admission.ValidatingAdmissionPolicies().Informer(), admission.ValidatingAdmissionPolicyBindings().Informer()}
		g.policies, watched = append(g.policies, p), append(watched, p.policies, p.bindings)
	}
	for _, informer := range watched {
		err := informer.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
			g.watchFailed(err)
			cache.DefaultWatchErrorHandler(ctx, r, err)
		})
		if err != nil {
			return nil, fmt.Errorf("watch for grants: %w", err)
		}
	}
	return g, nil
}

// Run keeps the bindings until the context ends. A failure is logged and tried again with backoff and jitter; it never ends
// Run.
func (g *Grants) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	c := newController(g)
	defer c.queue.ShutDown()
	if err := c.handle(ctx); err != nil {
		return err
	}
	for _, factory := range g.factories {
		factory.Start(ctx.Done())
	}
	var running sync.WaitGroup
	if cache.WaitForCacheSync(ctx.Done(), g.synced()...) {
		c.logPolicies(ctx)
		for range workers {
			running.Go(func() {
				for c.next(ctx) {
				}
			})
		}
	}
	<-ctx.Done()
	c.queue.ShutDown()
	running.Wait()
	c.watches.wait()
	for _, factory := range g.factories {
		factory.Shutdown()
	}
	return nil
}

// Ready is nil when whoever is granted the role is bounded by the policies: until then nothing is granted, and new pods could
// not open their gates. It says what is missing.
func (g *Grants) Ready() error {
	if !g.policiesRead() {
		return errors.New("admission policies are not read yet")
	}
	if err := g.policiesInForce(); err != nil {
		return fmt.Errorf("nothing more is granted: %w", err)
	}
	if !g.config.Namespaces.HasSynced() || !g.bindings.HasSynced() {
		return errors.New("namespaces and role bindings are not read yet")
	}
	return nil
}

// policiesRead reports whether every policy, and its binding, is known to be there or not.
func (g *Grants) policiesRead() bool {
	return !slices.ContainsFunc(g.policies, func(p policy) bool { return !p.policies.HasSynced() || !p.bindings.HasSynced() })
}

// policiesInForce is nil when the policies and their bindings, as last seen, bound every grant.
func (g *Grants) policiesInForce() error {
	var problems []string
	for _, p := range g.policies {
		if err := inForce(p.name, stored(p.policies, p.name), stored(p.bindings, p.name)); err != nil {
			problems = append(problems, err.Error())
		}
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

func (g *Grants) synced() []cache.InformerSynced {
	return []cache.InformerSynced{g.config.Namespaces.HasSynced, g.bindings.HasSynced, g.policiesRead}
}
