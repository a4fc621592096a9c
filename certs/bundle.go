package certs

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

const (
	// fieldManager owns the caBundles that are written here.
	fieldManager = "agentlet-webhook"
	// resync is how often the bundle is checked without an event, because a former CA is removed after a time.
	resync = 10 * time.Minute
	// callTimeout bounds one call to the API server.
	callTimeout = 10 * time.Second
	// Five repairs at once, then one in ten seconds, so that a tool that undoes each of them causes only a few requests.
	repairBurst = 5
	repairPause = 10 * time.Second
)

func newRepairs() *rate.Limiter { return rate.NewLimiter(rate.Every(repairPause), repairBurst) }

// bundles are the caBundles that have to trust one source's certificate.
type bundles struct {
	mutating *bundle
	// validating is nil where there is no such configuration.
	validating *bundle
}

// newBundles returns the bundles of the configurations with these names. validatingName may be empty.
func newBundles(config bundleConfig, mutatingName, validatingName string) bundles {
	b := bundles{mutating: newBundle(config, mutating(config.client, mutatingName))}
	if validatingName != "" {
		b.validating = newBundle(config, validating(config.client, validatingName))
	}
	return b
}

// Run keeps the bundles up to date until the context ends.
func (b bundles) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return b.mutating.Run(ctx) })
	if b.validating != nil {
		group.Go(func() error { return b.validating.Run(ctx) })
	}
	return group.Wait()
}

// trusts is nil when the API server would accept the certificate for the name, for each webhook. A validating configuration
// that can't be read or written doesn't count, because without a certificate no pod could be created.
func (b bundles) trusts(certificate *tls.Certificate, name string) error {
	now := time.Now()
	if err := b.mutating.trusts(certificate, name, now); err != nil {
		return err
	}
	if b.validating != nil && b.validating.awaited() {
		return b.validating.trusts(certificate, name, now)
	}
	return nil
}

// bundle keeps the caBundles of one webhook configuration equal to mergeBundle's result for the CA in one Secret, and restores
// them after changes of others. Every replica runs one. They agree because each adds only the CA that it observes, and each
// patch names the resource version that it is based on.
type bundle struct {
	bundleConfig
	configuration configuration
	log           *slog.Logger

	configurations cache.SharedIndexInformer
	factory        informers.SharedInformerFactory
	changed        signal     // there is something to check
	strangers      foreignCAs // for Run's goroutine only

	mu   sync.Mutex
	last error // of the last attempt, for Trusted
}

// bundleConfig is common to the bundles of one source.
type bundleConfig struct {
	client kubernetes.Interface
	// secret with the CA's certificate under key. The caller runs it.
	secret *watchedSecret
	key    string
	// ours: the CA is a sharedAuthority, for whose predecessors isFormer decides how long they are needed.
	ours bool
	// readOnly: another program writes the bundle, and here it is only read.
	readOnly bool
	log      *slog.Logger
}

func newBundle(config bundleConfig, configuration configuration) *bundle {
	factory := informers.NewSharedInformerFactoryWithOptions(config.client, resync, byName(configuration.name))
	return &bundle{
		bundleConfig: config, configuration: configuration, log: config.log.With("configuration", configuration.String()),
		configurations: configuration.informer(factory), factory: factory, changed: newSignal(), strangers: foreignCAs{},
	}
}

// Run works until the context ends. A failure is logged, kept for Trusted, and retried with backoff and jitter.
func (b *bundle) Run(ctx context.Context) error {
	for _, informer := range []cache.SharedIndexInformer{b.secret.informer, b.configurations} {
		if err := b.changed.on(informer); err != nil {
			return fmt.Errorf("watch for the CA bundle: %w", err)
		}
	}
	b.factory.Start(ctx.Done())
	defer b.factory.Shutdown()
	repairs := newRepairs()
	backoff := newBackoff()
	var retry <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-b.changed:
		case <-retry:
		}
		err := b.sync(ctx, repairs)
		if ctx.Err() != nil {
			return nil
		}
		b.remember(err)
		if err == nil {
			backoff, retry = newBackoff(), nil
			continue
		}
		pause := backoff.Step()
		retry = time.After(pause)
		b.log.WarnContext(ctx, "the CA bundle is not in sync", "error", err, "retry", pause)
	}
}

func newBackoff() wait.Backoff {
	return wait.Backoff{Duration: 200 * time.Millisecond, Factor: 2, Jitter: 0.5, Steps: 100, Cap: time.Minute}
}

func (b *bundle) remember(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.last = err
}

// lastError is the error of the last attempt to write the bundle, or nil.
func (b *bundle) lastError() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last
}

// sync brings the configuration's bundles up to date. A missing object is no error, because its creation causes an event.
func (b *bundle) sync(ctx context.Context, repairs *rate.Limiter) error {
	patch, err := b.pending()
	if err != nil || patch == nil {
		return err
	}
	if err := repairs.Wait(ctx); err != nil {
		return fmt.Errorf("wait to patch the CA bundle: %w", err)
	}
	// Compute the patch again: the objects may have changed during the wait.
	if patch, err = b.pending(); err != nil || patch == nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = b.configuration.patch(ctx, patch)
	switch {
	case err == nil:
		b.log.InfoContext(ctx, "CA bundle written")
		return nil
	case apierrors.IsConflict(err), apierrors.IsNotFound(err):
		return nil // another replica or a person was faster, and their change causes an event
	default:
		return fmt.Errorf("patch CA bundle of %s: %w", b.configuration, err)
	}
}

// pending returns the patch to send, or nil.
func (b *bundle) pending() ([]byte, error) {
	authority, version, hooks := b.authority(), "", []hook(nil)
	if object := b.current(); object != nil {
		version, hooks = object.GetResourceVersion(), hooksOf(object)
	}
	if b.readOnly || len(authority) == 0 || len(hooks) == 0 {
		return nil, nil
	}
	certificates, now := parseBundle(authority), time.Now()
	if len(certificates) == 0 {
		return nil, fmt.Errorf("the %s of %s holds no certificate", b.key, b.secret)
	}
	b.strangers.observe(certificates, hooks, now)
	return patchFor(version, hooks, func(existing []byte) []byte {
		return mergeBundle(certificates, existing, func(other *x509.Certificate) bool {
			if b.ours && isOurs(other) {
				return isFormer(other, certificates[0], now)
			}
			return b.strangers.retain(other, now)
		})
	})
}

// patchFor returns a strategic merge patch of the bundles that have to change, or nil. It names the resource version that it
// is based on, so that it can't restore a webhook that was removed since.
func patchFor(version string, hooks []hook, merge func(existing []byte) []byte) ([]byte, error) {
	type clientConfig struct {
		CABundle []byte `json:"caBundle"`
	}
	type webhook struct {
		Name         string       `json:"name"`
		ClientConfig clientConfig `json:"clientConfig"`
	}
	var patch struct {
		Metadata struct {
			ResourceVersion string `json:"resourceVersion"`
		} `json:"metadata"`
		Webhooks []webhook `json:"webhooks"`
	}
	patch.Metadata.ResourceVersion = version
	for _, existing := range hooks {
		wanted := merge(existing.caBundle)
		if !bytes.Equal(wanted, existing.caBundle) {
			patch.Webhooks = append(patch.Webhooks, webhook{existing.name, clientConfig{wanted}})
		}
	}
	if len(patch.Webhooks) == 0 {
		return nil, nil
	}
	return json.Marshal(patch)
}

// authority returns the CA's certificate in the Secret as observed last, or nil.
func (b *bundle) authority() []byte {
	if secret := b.secret.get(); secret != nil {
		return secret.Data[b.key]
	}
	return nil
}

// current returns the webhook configuration as observed last, or nil. It is read-only.
func (b *bundle) current() metav1.Object {
	object, found, err := b.configurations.GetStore().GetByKey(b.configuration.name)
	if err != nil || !found {
		return nil
	}
	configuration, _ := object.(metav1.Object)
	return configuration
}

// awaited reports whether a new certificate waits until these webhooks trust it: as long as this replica can read and write
// them. It is for webhooks without which pods can be created.
func (b *bundle) awaited() bool {
	return !b.readOnly && b.configurations.HasSynced() && b.lastError() == nil
}

// trusts is nil when every webhook of the configuration, as observed last, would accept the certificate for the name.
func (b *bundle) trusts(certificate *tls.Certificate, name string, now time.Time) error {
	hooks, err := b.hooks()
	if err != nil {
		return err
	}
	var problems []error
	for _, hook := range hooks {
		if err := verify(certificate, name, hook.caBundle, now); err != nil {
			problems = append(problems, fmt.Errorf("verify serving certificate against webhook %s: %w", hook.name, err))
		}
	}
	if len(problems) > 0 {
		problems = append(problems, b.lastError())
	}
	return errors.Join(problems...)
}

// hooks returns the configuration's webhooks as observed last, or an error that says why there are none.
func (b *bundle) hooks() ([]hook, error) {
	object := b.current()
	switch {
	case !b.configurations.HasSynced():
		return nil, fmt.Errorf("%s is not read yet", b.configuration)
	case object == nil && b.configuration.optional:
		return nil, nil
	case object == nil:
		return nil, fmt.Errorf("%s does not exist", b.configuration)
	}
	hooks := hooksOf(object)
	if len(hooks) == 0 && !b.configuration.optional {
		return nil, fmt.Errorf("%s holds no webhook", b.configuration)
	}
	return hooks, nil
}
