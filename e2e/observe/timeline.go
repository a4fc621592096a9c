// Package observe watches pods and Consul's catalog from outside, as their users do, and records when each pod passes each
// station of its life. All times are of this machine's clock; the whole cluster runs on it.
package observe

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

// Station is a point in a pod's life. The constants are in the usual order.
type Station string

// Stations of a pod's life.
const (
	Admitted        Station = "admitted"         // the pod was observed for the first time
	ContainersReady Station = "containers ready" // the kubelet reports the application's containers as ready
	Registered      Station = "registered"       // the node's Consul agent has the instance
	InCatalog       Station = "in the catalog"   // Consul's servers show the instance as passing
	GateOpen        Station = "gate open"
	Ready           Station = "Ready"
	Deleted         Station = "deleted"            // deletionTimestamp was observed
	OutOfCatalog    Station = "out of the catalog" // Consul's servers have removed the instance
	Hooked          Station = "own hook"           // the application's own preStop hook was called, if it has one
	Terminated      Station = "SIGTERM"            // the application received SIGTERM
	Gone            Station = "gone"               // the API server has removed the pod
)

// Life is the times of one pod. A station that wasn't observed has no entry.
type Life struct {
	Pod, UID, Node string
	At             map[Station]time.Time
}

// Between returns the time from one station to another; ok is false if one of them wasn't observed.
func (l Life) Between(from, to Station) (took time.Duration, ok bool) {
	a, seenA := l.At[from]
	b, seenB := l.At[to]
	return b.Sub(a), seenA && seenB
}

// AllPassed reports whether every life has passed all of the stations; true without lives.
func AllPassed(lives []Life, stations ...Station) bool {
	for _, life := range lives {
		for _, station := range stations {
			if _, passed := life.At[station]; !passed {
				return false
			}
		}
	}
	return true
}

// Timeline records lives. It is safe for concurrent use.
type Timeline struct {
	mu      sync.Mutex
	lives   map[string]*Life
	changed chan struct{} // closed when a life passes a station
	watcher func(Life, Station)
}

// NewTimeline returns an empty timeline. If passed is not nil, it is called for each station that a pod passes, never
// concurrently.
func NewTimeline(passed func(Life, Station)) *Timeline {
	return &Timeline{lives: map[string]*Life{}, changed: make(chan struct{}), watcher: passed}
}

// Pass records that a pod has passed a station. Only the first time counts.
func (t *Timeline) Pass(uid string, station Station, at time.Time) {
	t.note(uid, station, at, func(*Life) {})
}

func (t *Timeline) note(uid string, station Station, at time.Time, describe func(*Life)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	life := t.lives[uid]
	if life == nil {
		life = &Life{UID: uid, At: map[Station]time.Time{}}
		t.lives[uid] = life
	}
	describe(life)
	if _, passed := life.At[station]; passed {
		return
	}
	life.At[station] = at
	close(t.changed)
	t.changed = make(chan struct{})
	if t.watcher != nil {
		t.watcher(life.copy(), station)
	}
}

// Await returns a pod's life as soon as it has passed all of these stations.
func (t *Timeline) Await(ctx context.Context, uid string, stations ...Station) (Life, error) {
	for {
		life, changed := t.look(uid)
		missing := slices.DeleteFunc(slices.Clone(stations), func(s Station) bool { _, passed := life.At[s]; return passed })
		if len(missing) == 0 {
			return life, nil
		}
		select {
		case <-ctx.Done():
			return life, fmt.Errorf("await pod %s: %w; it has not passed %q", uid, ctx.Err(), missing)
		case <-changed:
		}
	}
}

// look returns a copy of a life, and a channel that is closed when any life changes.
func (t *Timeline) look(uid string) (Life, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	life := Life{UID: uid}
	if known := t.lives[uid]; known != nil {
		life = known.copy()
	}
	return life, t.changed
}

// Lives returns a copy of all lives, in the order of admission.
func (t *Timeline) Lives() []Life {
	t.mu.Lock()
	defer t.mu.Unlock()
	lives := make([]Life, 0, len(t.lives))
	for _, life := range t.lives {
		lives = append(lives, life.copy())
	}
	slices.SortFunc(lives, func(a, b Life) int { return a.At[Admitted].Compare(b.At[Admitted]) })
	return lives
}

func (l *Life) copy() Life {
	c := *l
	c.At = maps.Clone(l.At)
	return c
}
