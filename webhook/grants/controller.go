package grants

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
)

// Backoff of one namespace's failures.
const (
	firstRetry  = 200 * time.Millisecond
	longestWait = 2 * time.Minute
)

// controller is the running part of Grants.
type controller struct {
	*Grants
	queue   workqueue.TypedRateLimitingInterface[string] // of namespaces
	watches *watches

	mu        sync.Mutex
	idle      map[string]map[string]time.Time // namespace → account → since when no pod needs its grant
	loggedErr error                           // the last one logged of the policies
	created   map[string]*rate.Limiter        // namespace → creations of its binding
}

// jittered adds jitter, so that replicas and namespaces don't retry in step.
type jittered struct {
	workqueue.TypedRateLimiter[string]
}

func newBackoff() workqueue.TypedRateLimiter[string] {
	return jittered{workqueue.NewTypedItemExponentialFailureRateLimiter[string](firstRetry, longestWait)}
}

func (j jittered) When(namespace string) time.Duration {
	return wait.Jitter(j.TypedRateLimiter.When(namespace), 0.5)
}

func newController(g *Grants) *controller {
	queue := workqueue.NewTypedRateLimitingQueue(newBackoff())
	return &controller{
		Grants:  g,
		queue:   queue,
		watches: newWatches(g.config.Client, queue.Add, g.watchFailed),
		idle:    map[string]map[string]time.Time{},
		created: map[string]*rate.Limiter{},
	}
}

// handle enqueues the namespaces that an event concerns.
func (c *controller) handle(ctx context.Context) error {
	one := func(namespace func(key string) string) cache.ResourceEventHandler {
		add := func(object any) {
			if key, err := cache.DeletionHandlingMetaNamespaceKeyFunc(object); err == nil {
				c.queue.Add(namespace(key))
			}
		}
		return cache.ResourceEventHandlerFuncs{AddFunc: add, UpdateFunc: func(_, now any) { add(now) }, DeleteFunc: add}
	}
	// When the last policy appears, grants that were withheld are due.
	policyChanged := func(any) {
		c.logPolicies(ctx)
		for _, namespace := range c.config.Namespaces.GetStore().ListKeys() {
			c.queue.Add(namespace)
		}
	}
	changes := cache.ResourceEventHandlerFuncs{
		AddFunc: policyChanged, UpdateFunc: func(_, now any) { policyChanged(now) }, DeleteFunc: policyChanged,
	}
	handlers := map[cache.SharedIndexInformer]cache.ResourceEventHandler{
		c.config.Namespaces: one(func(key string) string { return key }),
		c.bindings: one(func(key string) string {
			namespace, _, _ := cache.SplitMetaNamespaceKey(key) // the key of an object is always valid
			return namespace
		}),
	}
	for _, p := range c.policies {
		handlers[p.policies], handlers[p.bindings] = changes, changes
	}
	for informer, handler := range handlers {
		if _, err := informer.AddEventHandler(handler); err != nil {
			return fmt.Errorf("watch for grants: %w", err)
		}
	}
	return nil
}

// logPolicies logs once for each change whether grants are given.
func (c *controller) logPolicies(ctx context.Context) {
	if !c.policiesRead() {
		return
	}
	err := c.policiesInForce()
	c.mu.Lock()
	same := (err == nil) == (c.loggedErr == nil) && (err == nil || err.Error() == c.loggedErr.Error())
	c.loggedErr = err
	c.mu.Unlock()
	switch {
	case same:
	case err == nil:
		c.config.Log.InfoContext(ctx, "RBAC grants resumed")
	default:
		c.config.Log.WarnContext(ctx, "RBAC grants suspended", "reason", err)
	}
}

// next reconciles one namespace. It returns false when the queue has ended.
func (c *controller) next(ctx context.Context) bool {
	namespace, ended := c.queue.Get()
	if ended {
		return false
	}
	defer c.queue.Done(namespace)
	again, err := c.reconcile(ctx, namespace)
	switch {
	case ctx.Err() != nil:
	case err != nil:
		c.metrics.failures.WithLabelValues(writing).Inc()
		c.config.Log.WarnContext(ctx, "grant failed", "namespace", namespace, "failures", c.queue.NumRequeues(namespace)+1, "error",
			err)
		c.queue.AddRateLimited(namespace)
	default:
		c.queue.Forget(namespace)
		if again > 0 {
			c.queue.AddAfter(namespace, again)
		}
	}
	return true
}

// reconcile brings the namespace's binding up to date. again is when to reconcile without an event, or 0.
func (c *controller) reconcile(ctx context.Context, namespace string) (again time.Duration, err error) {
	optedIn := c.optedIn(namespace)
	binding, _ := stored(c.bindings, namespace+"/"+c.config.Binding).(*rbacv1.RoleBinding)
	another := binding != nil && !c.ours(binding)
	if !optedIn && (binding == nil || another) {
		c.watches.stop(namespace)
		c.forget(namespace)
		return 0, nil
	}
	needed, listed := c.watches.pods(ctx, namespace).accounts()
	if !listed {
		return 0, nil // the list causes an event
	}
	if another {
		if len(needed) == 0 {
			return 0, nil
		}
		return 0, fmt.Errorf("role binding %s/%s binds another role, %s: remove it, or its pods' gates stay closed",
			namespace, c.config.Binding, binding.RoleRef.Name)
	}
	bound := accountsOf(binding)
	wanted, again := c.kept(namespace, bound, needed, time.Now())
	if optedIn && c.policiesInForce() == nil {
		maps.Copy(wanted, needed)
	}
	creates := binding == nil && len(wanted) > 0
	if creates && c.creations(namespace).Tokens() < 1 {
		return createPause, nil
	}
	err = c.write(ctx, namespace, binding, slices.Sorted(maps.Keys(wanted)))
	if creates && err == nil {
		c.creations(namespace).Allow() // a failure has its own backoff
	}
	return again, err
}

// A namespace's binding is created five times at once, and then once in ten seconds. So a tool that prunes unknown objects
// and deletes it each time causes only a few requests.
const (
	createBurst = 5
	createPause = 10 * time.Second
)

// creations is the limiter of the namespace's creations.
func (c *controller) creations(namespace string) *rate.Limiter {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.created[namespace] == nil {
		c.created[namespace] = rate.NewLimiter(rate.Every(createPause), createBurst)
	}
	return c.created[namespace]
}

// kept returns the accounts that stay bound: those that pods need now, and for unbindDelay those that pods have needed.
func (c *controller) kept(
	namespace string,
	bound []string,
	needed map[string]bool,
	now time.Time,
) (kept map[string]bool, again time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, idle := c.idle[namespace], map[string]time.Time{}
	kept = map[string]bool{}
	for _, account := range bound {
		if needed[account] {
			kept[account] = true
			continue
		}
		since, known := before[account]
		if !known {
			since = now
		}
		if left := since.Add(unbindDelay).Sub(now); left > 0 {
			kept[account], idle[account] = true, since
			if again == 0 || left < again {
				again = left
			}
		}
	}
	if c.idle[namespace] = idle; len(idle) == 0 {
		delete(c.idle, namespace)
	}
	return kept, again
}

func (c *controller) forget(namespace string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.idle, namespace)
	delete(c.created, namespace)
}
