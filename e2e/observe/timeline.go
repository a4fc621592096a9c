// Package observe watches pods and Consul's catalog from outside, as a user of both would, and keeps when each pod
// passed each station of its life. All times are those of this machine, on which everything runs.
package observe

import (
	"maps"
	"slices"
	"sync"
	"time"
)

// Station of a pod's life, in the usual order.
type Station string

// The stations.
const (
	Admitted        Station = "admitted"         // the pod was seen for the first time
	ContainersReady Station = "containers ready" // the application's containers are ready, by the kubelet's word
	Registered      Station = "registered"       // the node's Consul agent has it
	InCatalog       Station = "in the catalog"   // Consul's servers show it passing
	GateOpen        Station = "gate open"
	Ready           Station = "Ready"
	Deleted         Station = "deleted"            // deletionTimestamp was seen
	OutOfCatalog    Station = "out of the catalog" // Consul's servers have dropped it
	Terminated      Station = "SIGTERM"            // the application's SIGTERM
	Gone            Station = "gone"               // the API server has dropped the pod
)

// Stations lists all stations in the usual order.
func Stations() []Station {
	return []Station{Admitted, ContainersReady, Registered, InCatalog, GateOpen, Ready, Deleted, OutOfCatalog, Terminated, Gone}
}

// Life is one pod's times. A station that wasn't seen has no entry.
type Life struct {
	Pod, UID, Node string
	At             map[Station]time.Time
}

// Between is the time from one station to another; ok is false when one of them wasn't seen.
func (l Life) Between(from, to Station) (took time.Duration, ok bool) {
	a, seenA := l.At[from]
	b, seenB := l.At[to]
	return b.Sub(a), seenA && seenB
}

// Timeline collects lives. It is safe for concurrent use.
type Timeline struct {
	mu      sync.Mutex
	lives   map[string]*Life
	watcher func(Life, Station)
}

// NewTimeline returns an empty one. passed, if not nil, is called for each station that a pod passes, one at a time.
func NewTimeline(passed func(Life, Station)) *Timeline {
	return &Timeline{lives: map[string]*Life{}, watcher: passed}
}

// Pass notes that a pod has passed a station; only the first time counts.
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
	if t.watcher != nil {
		t.watcher(life.copy(), station)
	}
}

// Lives returns a copy of all lives, in the order of their admission.
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

// Spans returns the times in milliseconds that all lives with both stations took from one to the other.
func Spans(lives []Life, from, to Station) []float64 {
	var spans []float64
	for _, life := range lives {
		if took, ok := life.Between(from, to); ok {
			spans = append(spans, float64(took)/float64(time.Millisecond))
		}
	}
	return spans
}

// Quantile of values by the nearest rank; q from 0 to 1. It returns 0 for no values.
func Quantile(values []float64, q float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	rank := int(q*float64(len(sorted))+0.9999999) - 1
	return sorted[min(max(rank, 0), len(sorted)-1)]
}
