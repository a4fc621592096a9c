package agentlet

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// overrides are what the application has said of itself by the local API. They hold until it takes them back, or one of the
// containers that count has restarted: a new process is not what the old one said of itself. They are in this process's
// memory alone: after its own restart the tags are withdrawn, for they claim something; a maintenance, which gives something
// up, is found again at the Consul agent and goes on.
type overrides struct {
	maintenance bool
	reason      string
	tags        []string
	// maintenanceSetAt and tagsSetAt are when that was said.
	maintenanceSetAt, tagsSetAt time.Time
	// restored: an earlier agentlet's maintenance has been looked for at the Consul agent, or the application has spoken since.
	restored bool
	// paidTo is when all changes so far will be paid for; see afford.
	paidTo time.Time
	// waiters is closed when Consul has what was said; nil: nobody waits for it.
	waiters chan struct{}
}

// overrideRequest is one call of the local API: exactly one of its two parts is there.
type overrideRequest struct {
	maintenance *maintenance
	tags        *[]string
}

type maintenance struct {
	enabled bool
	reason  string
}

// refusal is a word that is not taken, with the HTTP status that says so.
type refusal struct {
	code int
	why  string
}

func (r *refusal) Error() string { return r.why }

// Each change of a word may be a raft write, and an application may change its mind in a loop: so many changes at once, and
// then one in each changeEvery. Saying the same again is free.
const (
	changesAtOnce = 10
	changeEvery   = time.Second
)

// afford reports whether one more change may be made now, and counts it if so.
func (w *overrides) afford(now time.Time) bool {
	if w.paidTo.Sub(now) > (changesAtOnce-1)*changeEvery {
		return false
	}
	w.paidTo = later(w.paidTo, now).Add(changeEvery)
	return true
}

// setOverride takes in a word, or says why not.
func (s *state) setOverride(w overrideRequest, now time.Time) error {
	switch {
	case s.terminating():
		return &refusal{http.StatusConflict, "the pod terminates"}
	case s.reg == nil:
		return &refusal{http.StatusServiceUnavailable, "the pod's annotations are not known yet; try again in a moment"}
	case !s.localAPIEnabled():
		return &refusal{http.StatusForbidden, "the pod's annotation " + contract.LocalAPI + " does not say " + string(contract.LocalAPIEnabled)}
	}
	if w.tags != nil {
		for _, service := range s.reg.Services {
			if service.EnableTagOverride && len(*w.tags) > 0 {
				return &refusal{http.StatusConflict, "tags: the service " + service.Name + " leaves its tags to others, by enable_tag_override"}
			}
		}
		for i, tag := range *w.tags {
			if why := s.allowed.Tags.Refusal(tag); why != "" {
				return &refusal{http.StatusForbidden, fmt.Sprintf("tags[%d]: %q: %s", i, clip(tag), why)}
			}
		}
	}
	next := s.overrides
	if m := w.maintenance; m != nil {
		next.maintenance, next.reason, next.maintenanceSetAt, next.restored = m.enabled, m.reason, now, true
	}
	if w.tags != nil {
		next.tags, next.tagsSetAt = *w.tags, now
	}
	if next.changes(s.overrides) && !next.afford(now) {
		return &refusal{http.StatusTooManyRequests, "too many changes; the next one in " + changeEvery.String()}
	}
	s.overrides = next
	s.reconcile()
	return nil
}

// changes reports whether they say something else than others.
func (w overrides) changes(from overrides) bool {
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
// container that counts was restarted. The kubelet tells a start to the second, so a word of the very second of a restart
// stays.
func (s *state) expireOverrides() {
	switch restarted := s.restartedAt(); {
	case s.reg == nil:
	case !s.localAPIEnabled():
		s.overrides = overrides{restored: true, waiters: s.overrides.waiters, paidTo: s.overrides.paidTo}
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
	wanted := s.wanted()
	return len(wanted) > 0 && !slices.ContainsFunc(wanted, func(i *instance) bool { return !s.converged(i) })
}

func (s *state) converged(i *instance) bool {
	return i.agent == present && i.upToDate() && i.readiness == s.health(i) && i.maintenanceOutput == s.maintenanceOutput() && i.confirmed && !i.lost()
}

// allDueConverged reports whether there is nothing more to wait for: the catalog has what was said of every service that is to be there
// now.
func (s *state) allDueConverged() bool {
	return s.terminating() || !slices.ContainsFunc(s.wanted(), func(i *instance) bool { return s.shouldRegister(i) && !s.converged(i) })
}

// notifyConverged lets those go who wait until Consul has what was said.
func (s *state) notifyConverged() {
	if s.overrides.waiters != nil && s.allDueConverged() {
		close(s.overrides.waiters)
		s.overrides.waiters = nil
	}
}

// convergedCh is closed when Consul has what was said.
func (s *state) convergedCh() <-chan struct{} {
	if s.overrides.waiters == nil {
		s.overrides.waiters = make(chan struct{})
	}
	return s.overrides.waiters
}
