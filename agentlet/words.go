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

// words are what the application has said of itself by the local API. They hold until it takes them back, or one of the
// containers that count has restarted: a new process is not what the old one said of itself. They are in this process's
// memory alone: after its own restart the tags are withdrawn, for they claim something; a maintenance, which gives something
// up, is found again at the Consul agent and goes on.
type words struct {
	maintenance bool
	reason      string
	tags        []string
	// maintainedAt and taggedAt are when that was said.
	maintainedAt, taggedAt time.Time
	// recalled: an earlier agentlet's maintenance has been looked for at the Consul agent, or the application has spoken since.
	recalled bool
	// paidTo is when all changes so far will be paid for; see afford.
	paidTo time.Time
	// heard is closed when Consul has what was said; nil: nobody waits for it.
	heard chan struct{}
}

// saying is one call of the local API: exactly one of its two parts is there.
type saying struct {
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
func (w *words) afford(now time.Time) bool {
	if w.paidTo.Sub(now) > (changesAtOnce-1)*changeEvery {
		return false
	}
	w.paidTo = later(w.paidTo, now).Add(changeEvery)
	return true
}

// hear takes in a word, or says why not.
func (s *state) hear(w saying, now time.Time) error {
	switch {
	case s.terminating():
		return &refusal{http.StatusConflict, "the pod terminates"}
	case s.reg == nil:
		return &refusal{http.StatusServiceUnavailable, "the pod's annotations are not known yet; try again in a moment"}
	case !s.mayspeak():
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
	next := s.words
	if m := w.maintenance; m != nil {
		next.maintenance, next.reason, next.maintainedAt, next.recalled = m.enabled, m.reason, now, true
	}
	if w.tags != nil {
		next.tags, next.taggedAt = *w.tags, now
	}
	if next.changes(s.words) && !next.afford(now) {
		return &refusal{http.StatusTooManyRequests, "too many changes; the next one in " + changeEvery.String()}
	}
	s.words = next
	s.reconcile()
	return nil
}

// changes reports whether they say something else than others.
func (w words) changes(from words) bool {
	return w.maintenance != from.maintenance || w.reason != from.reason || !slices.Equal(w.tags, from.tags)
}

// mayspeak reports whether the pod asks for the local API.
func (s *state) mayspeak() bool {
	return s.reg != nil && s.reg.Settings.LocalAPI == contract.LocalAPIEnabled
}

// maintained reports whether the application has taken itself out of passing.
func (s *state) maintained() bool { return s.words.maintenance && s.mayspeak() }

// excuse is the readiness check's output in a maintenance; empty where there is none.
func (s *state) excuse() string {
	if !s.maintained() {
		return ""
	}
	return contract.MaintenanceOutput + s.words.reason
}

// forgetWords drops what no longer holds: all of it where the pod asks for the local API no more, and what was said before a
// container that counts was restarted. The kubelet tells a start to the second, so a word of the very second of a restart
// stays.
func (s *state) forgetWords() {
	switch restarted := s.restartedAt(); {
	case s.reg == nil:
	case !s.mayspeak():
		s.words = words{recalled: true, heard: s.words.heard, paidTo: s.words.paidTo}
	default:
		if restarted.After(s.words.maintainedAt) {
			s.words.maintenance, s.words.reason = false, ""
		}
		if restarted.After(s.words.taggedAt) {
			s.words.tags = nil
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

// recallMaintenance takes up the maintenance that an earlier agentlet of this pod has left at the Consul agent. A container that
// has started since this process began, as all do when a node restarts, knows nothing of it.
func (s *state) recallMaintenance(observed map[string]Observed) {
	if s.words.recalled {
		return
	}
	s.words.recalled = true
	for _, id := range slices.Sorted(maps.Keys(observed)) {
		if o := observed[id]; o.Excuse != "" && !s.words.maintenance {
			s.words.maintenance, s.words.reason = true, o.Excuse[len(contract.MaintenanceOutput):]
			s.words.maintainedAt = s.began.Truncate(time.Second).Add(-1)
		}
	}
	if s.pod != nil {
		s.forgetWords()
	}
}

// withWords adds the application's tags to those of the annotations, once each.
func (s *state) withWords(tags []string) []string {
	if !s.mayspeak() || len(s.words.tags) == 0 {
		return tags
	}
	tags = slices.Clone(tags)
	for _, tag := range s.words.tags {
		if !slices.Contains(tags, tag) {
			tags = append(tags, tag)
		}
	}
	return tags
}

// allConfirmed reports whether the catalog has every service as it should be, with what was said.
func (s *state) allConfirmed() bool {
	wanted := s.wanted()
	return len(wanted) > 0 && !slices.ContainsFunc(wanted, func(i *instance) bool { return !s.certain(i) })
}

func (s *state) certain(i *instance) bool {
	return i.agent == present && i.current() && i.readiness == s.health(i) && i.excuse == s.excuse() && i.confirmed && !i.lost()
}

// settled reports whether there is nothing more to wait for: the catalog has what was said of every service that is to be there
// now.
func (s *state) settled() bool {
	return s.terminating() || !slices.ContainsFunc(s.wanted(), func(i *instance) bool { return s.due(i) && !s.certain(i) })
}

// answer lets those go who wait until Consul has what was said.
func (s *state) answer() {
	if s.words.heard != nil && s.settled() {
		close(s.words.heard)
		s.words.heard = nil
	}
}

// await is closed when Consul has what was said.
func (s *state) await() <-chan struct{} {
	if s.words.heard == nil {
		s.words.heard = make(chan struct{})
	}
	return s.words.heard
}
