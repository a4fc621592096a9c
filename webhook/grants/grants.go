// Package grants allows injected pods to patch their gates. In each opted-in namespace it binds the service accounts of
// injected pods, and no others, to the one ClusterRole that an agentlet needs.
//
// The binding is a RoleBinding with a fixed name. An account is added when an injected pod with this account is observed,
// which is before the pod is scheduled. Accounts are added only while the namespace is opted in, and while the admission
// policies are in force that restrict the role to a pod's own gate and events. An account is removed when no injected pod
// has needed it for a while, and the binding with its last account. A grant that pods need stays, also when the namespace's
// label or a policy is removed. An admission neither uses this package nor waits for it.
//
// Every replica of the webhook reconciles all namespaces. They agree because each change is computed from what all of them
// observe, is made by server-side apply, and names the version of the binding that it is based on. No state has to survive
// a restart, because every watch begins with a list.
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
	// FieldManager owns the bindings' fields. It is also the value of ManagedByLabel.
	FieldManager = "agentlet-webhook"
	// ManagedByLabel is the label of the bindings.
	ManagedByLabel = "app.kubernetes.io/managed-by"

	// resync is how often all bindings and policies are reconciled without an event, in case one was lost.
	resync = 10 * time.Minute
	// callTimeout bounds one call to the API server.
	callTimeout = 10 * time.Second
	// unbindDelay is how long an account stays bound after its last injected pod has ended. So the next pod of a Recreate or
	// of a series of Jobs has its grant at once, and a pod that the kubelet reports as ended a moment early keeps it.
	unbindDelay = 30 * time.Second
	// workers is the number of namespaces that are reconciled at once.
	workers = 4
)

// Config of Grants.
type Config struct {
	Client kubernetes.Interface
	// Namespaces is an informer of the opted-in namespaces. Their name and label contract.InjectLabel are read. The caller runs
	// the informer, after New.
	Namespaces cache.SharedIndexInformer
	// Binding is the name of the RoleBinding in each namespace. Changes that others make to it are undone. Role is the
	// ClusterRole that it binds to.
	Binding, Role string
	// Policies are the ValidatingAdmissionPolicies that have to be in force before a grant. Their bindings have the same names.
	Policies []string
	// Excluded are namespaces without grants, whatever their label is, because the API server doesn't call the webhook for them.
	Excluded []string
	Log      *slog.Logger
}

// Grants keeps the bindings up to date.
type Grants struct {
	config  Config
	metrics *metrics

	bindings  cache.SharedIndexInformer // those with our name
	policies  []policy
	factories []informers.SharedInformerFactory
}

// policy is one of Config.Policies.
type policy struct {
	name               string
	policies, bindings cache.SharedIndexInformer // of objects with this name
}

// New returns Grants that work from Run on.
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

// Run keeps the bindings up to date until the context ends. A failure is logged and retried with backoff and jitter, and never
// ends Run.
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

// Ready is nil when the policies are in force. Before that there are no new grants, so new pods couldn't open their gates. The
// error says what is missing.
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

// policiesRead reports whether all policies and their bindings have been listed.
func (g *Grants) policiesRead() bool {
	return !slices.ContainsFunc(g.policies, func(p policy) bool { return !p.policies.HasSynced() || !p.bindings.HasSynced() })
}

// policiesInForce is nil when the policies and their bindings, as observed last, restrict every grant.
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
