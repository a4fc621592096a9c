package agentlet

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// Override is one call of the local API: what the application says of itself. Exactly one of its two parts is there.
type Override struct {
	Maintenance *Maintenance
	// Tags are all that the application adds to those of the annotations; an empty list takes them back.
	Tags *[]string
}

// Maintenance takes the pod out of passing, for a reason, or back.
type Maintenance struct {
	Enabled bool
	Reason  string
}

// Kinds of refusals of an override.
var (
	ErrOverrideUnavailable = errors.New("overrides are not taken now")
	ErrOverrideConflict    = errors.New("the override conflicts with the pod's state")
	ErrOverrideForbidden   = errors.New("the override is not allowed")
	ErrTooManyOverrides    = errors.New("too many overrides")
)

// overrideError is a refusal of a kind, with a message for the caller.
type overrideError struct {
	kind error
	why  string
}

func (e *overrideError) Error() string { return e.why }
func (e *overrideError) Unwrap() error { return e.kind }

// overrides hold until the application takes them back, or one of the containers that count has restarted: a new
// process is not what the old one said of itself. They are in this process's memory alone: after its own restart the
// tags are withdrawn, for they claim something; a maintenance, which gives something up, is found again at the Consul
// agent and goes on.
type overrides struct {
	maintenance bool
	reason      string
	tags        []string
	// maintenanceSetAt and tagsSetAt are when that was said.
	maintenanceSetAt, tagsSetAt time.Time
	// restored: an earlier agentlet's maintenance has been looked for at the Consul agent, or the application has spoken since.
	restored bool
	// changes bounds how often they change.
	changes *rate.Limiter
	// convergedCh is closed when Consul has what was said; nil: nobody waits for it.
	convergedCh chan struct{}
}

// Each change may be a raft write, and an application may change its mind in a loop: so many changes at once, and then
// one in each changeEvery. Saying the same again is free.
const (
	changesAtOnce = 10
	changeEvery   = time.Second
)

func newOverrides() overrides {
	return overrides{changes: rate.NewLimiter(rate.Every(changeEvery), changesAtOnce)}
}

// overrideWait bounds the last question of an override, whether the catalog has it.
const overrideWait = time.Second

// Override has the registrar follow an override, and waits until the catalog shows it or ctx ends; inCatalog reports whether it
// does. The error is one of the kinds of refusals, with what is wrong.
func (r *Registrar) Override(ctx context.Context, o Override) (inCatalog bool, err error) {
	var converged <-chan struct{}
	if !r.ask(ctx, func(s *state, now time.Time) {
		if err = s.setOverride(o, now); err == nil {
			converged = s.convergedCh()
		}
	}) {
		return false, &overrideError{ErrOverrideUnavailable, "the agentlet is starting or ending"}
	}
	if err != nil {
		return false, err
	}
	select {
	case <-converged:
	case <-ctx.Done():
	case <-r.done:
	}
	bounded, cancel := context.WithTimeout(context.WithoutCancel(ctx), overrideWait)
	defer cancel()
	r.ask(bounded, func(s *state, _ time.Time) { inCatalog = s.allConverged() })
	return inCatalog, nil
}

// setOverride takes an override in, or says why not.
func (s *state) setOverride(o Override, now time.Time) error {
	switch {
	case s.terminating():
		return &overrideError{ErrOverrideConflict, "the pod terminates"}
	case s.unserved.reason != "":
		return &overrideError{ErrOverrideConflict, s.unserved.message}
	case s.reg == nil:
		return &overrideError{ErrOverrideUnavailable, "the pod's annotations are not known yet; try again in a moment"}
	case !s.localAPIEnabled():
		return &overrideError{
			ErrOverrideForbidden,
			"the pod's annotation " + contract.LocalAPI + " does not say " + string(contract.LocalAPIEnabled),
		}
	}
	if o.Tags != nil {
		if err := s.checkTags(*o.Tags); err != nil {
			return err
		}
	}
	next := s.overrides
	if m := o.Maintenance; m != nil {
		next.maintenance, next.reason, next.maintenanceSetAt, next.restored = m.Enabled, m.Reason, now, true
	}
	if o.Tags != nil {
		next.tags, next.tagsSetAt = *o.Tags, now
	}
	if next.differ(s.overrides) && !next.changes.AllowN(now, 1) {
		return &overrideError{ErrTooManyOverrides, "too many changes; the next one in " + changeEvery.String()}
	}
	s.overrides = next
	s.reconcile()
	return nil
}

// checkTags says why the application may not add these tags.
func (s *state) checkTags(tags []string) error {
	for _, service := range s.reg.Services {
		if service.EnableTagOverride && len(tags) > 0 {
			return &overrideError{
				ErrOverrideConflict,
				"tags: the service " + service.Name + " leaves its tags to others, by enable_tag_override",
			}
		}
	}
	for i, tag := range tags {
		if why := s.allowed.Tags.Refusal(tag); why != "" {
			return &overrideError{ErrOverrideForbidden, fmt.Sprintf("tags[%d]: %q: %s", i, registration.Excerpt(tag), why)}
		}
	}
	return nil
}

// differ reports whether they say something else than others.
func (w overrides) differ(from overrides) bool {
	return w.maintenance != from.maintenance || w.reason != from.reason || !slices.Equal(w.tags, from.tags)
}

// localAPIEnabled reports whether the pod asks for the local API.
func (s *state) localAPIEnabled() bool {
	return s.reg != nil && s.reg.Settings.LocalAPI == contract.LocalAPIEnabled
}

// inMaintenance reports whether the application has taken itself out of passing.
func (s *state) inMaintenance() bool { return s.overrides.maintenance && s.localAPIEnabled() }

// maintenanceOutput is the readiness check's output in a maintenance; empty where there is none.
func (s *state) maintenanceOutput() string {
	if !s.inMaintenance() {
		return ""
	}
	return contract.MaintenanceOutput + s.overrides.reason
}

// expireOverrides drops what no longer holds: all of it where the pod asks for the local API no more, and what was said before a
// container that counts was restarted. The kubelet reports a start to the second, so an override in the very second of a restart
// stays.
func (s *state) expireOverrides() {
	switch restarted := s.restartedAt(); {
	case s.reg == nil:
	case !s.localAPIEnabled():
		s.overrides = overrides{restored: true, convergedCh: s.overrides.convergedCh, changes: s.overrides.changes}
	default:
		if restarted.After(s.overrides.maintenanceSetAt) {
			s.overrides.maintenance, s.overrides.reason = false, ""
		}
		if restarted.After(s.overrides.tagsSetAt) {
			s.overrides.tags = nil
		}
	}
}

// restartedAt is when a container that counts was last started anew; zero if none was.
func (s *state) restartedAt() (last time.Time) {
	var exclude []string
	if s.reg != nil {
		exclude = s.reg.Settings.Exclude
	}
	for _, container := range registration.Counting(s.pod, exclude) {
		for _, status := range slices.Concat(s.pod.Status.ContainerStatuses, s.pod.Status.InitContainerStatuses) {
			if status.Name == container.Name && status.RestartCount > 0 && status.State.Running != nil {
				last = later(last, status.State.Running.StartedAt.Time)
			}
		}
	}
	return last
}

// restoreMaintenance takes up the maintenance that an earlier agentlet of this pod has left at the Consul agent. A container that
// has started since this process began, as all do when a node restarts, knows nothing of it.
func (s *state) restoreMaintenance(observed map[string]Observed) {
	if s.overrides.restored {
		return
	}
	s.overrides.restored = true
	for _, id := range slices.Sorted(maps.Keys(observed)) {
		if o := observed[id]; o.MaintenanceOutput != "" && !s.overrides.maintenance {
			s.overrides.maintenance, s.overrides.reason = true, o.MaintenanceOutput[len(contract.MaintenanceOutput):]
			s.overrides.maintenanceSetAt = s.began.Truncate(time.Second).Add(-1)
		}
	}
	if s.pod != nil {
		s.expireOverrides()
		s.reconcile()
	}
}

// mergeTags adds the application's tags to those of the annotations, once each.
func (s *state) mergeTags(tags []string) []string {
	if !s.localAPIEnabled() || len(s.overrides.tags) == 0 {
		return tags
	}
	tags = slices.Clone(tags)
	for _, tag := range s.overrides.tags {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

// allConverged reports whether the catalog has every service as it should be, with what was said.
func (s *state) allConverged() bool {
	return len(s.wanted) > 0 && !slices.ContainsFunc(s.wanted, func(i *instance) bool { return !s.converged(i) })
}

func (s *state) converged(i *instance) bool {
	return i.agent == present && i.upToDate() && i.readiness == s.health(i) && i.maintenanceOutput == s.maintenanceOutput() &&
		i.confirmed &&
		!i.lost()
}

// allDueConverged reports whether there is nothing more to wait for: the catalog has what was said of every service
// that is to be there now.
func (s *state) allDueConverged() bool {
	return s.terminating() ||
		!slices.ContainsFunc(s.wanted, func(i *instance) bool { return s.shouldRegister(i) && !s.converged(i) })
}

// notifyConverged lets those go who wait until Consul has the overrides.
func (s *state) notifyConverged() {
	if s.overrides.convergedCh != nil && s.allDueConverged() {
		close(s.overrides.convergedCh)
		s.overrides.convergedCh = nil
	}
}

// convergedCh is closed when Consul has the overrides.
func (s *state) convergedCh() <-chan struct{} {
	if s.overrides.convergedCh == nil {
		s.overrides.convergedCh = make(chan struct{})
	}
	return s.overrides.convergedCh
}
