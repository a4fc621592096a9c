package agentlet

import (
	"context"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// catalog is what was last read of it.
type catalog struct {
	// view is nil before the first reading.
	view *CatalogView
	// generation counts the changes made at the agent; observedGeneration is the one in which the view was asked for. A view that is
	// older than the last change proves nothing about it.
	generation, observedGeneration int
	// unchangedReads counts the readings in a row that said nothing new of the pod, readAt is when the next one may begin.
	unchangedReads int
	readAt         time.Time
	// answeredAt is when the view came.
	answeredAt time.Time
	// asked is closed when the catalog has been read for those who wait for it; nil: nobody does.
	asked chan struct{}
}

func (c catalog) fresh() bool { return c.view != nil && c.observedGeneration == c.generation }

// keepConstant takes what failing checks answered for what they had answered before where only a generated part differs.
func (c catalog) keepConstant(instances map[string]CatalogInstance) {
	if c.view == nil {
		return
	}
	for id, seen := range instances {
		if was := c.view.Instances[id].Failing; was != seen.Failing && constant(was) == constant(seen.Failing) {
			seen.Failing = was
			instances[id] = seen
		}
	}
}

// waitMax bounds a reading of the catalog that the gate, a resync or the drain waits for: an answer can get lost, on a
// connection that is open at this end alone, and is missed for no longer. idleWait is for one that nothing waits for.
const (
	waitMax  = 30 * time.Second
	idleWait = 5 * time.Minute
)

// planCatalog reads the catalog, and then waits for something newer, each time for this long at the most.
func planCatalog(s *state, now time.Time, p *schedule, wait time.Duration) {
	c := readCatalog{generation: s.catalog.generation, wait: wait}
	p.want(c)
	if s.catalog.fresh() {
		if !p.reached(now, s.catalog.readAt) {
			return
		}
		c.index = s.catalog.view.Index
	}
	p.add(s, now, c)
}

// readCatalog reads it, and with an index waits for something newer, for this long at the most.
type readCatalog struct {
	generation int
	index      uint64
	wait       time.Duration
}

func (readCatalog) key() key             { return key{name: "catalog"} }
func (readCatalog) operation() operation { return "read_catalog" }
func (readCatalog) policy() policy       { return policy{asks: consulServers} }

func (c readCatalog) supersededBy(planned command) bool {
	next, ok := planned.(readCatalog)
	return !ok || next.generation != c.generation || next.wait < c.wait
}

func (c readCatalog) run(ctx context.Context, ports *Config) outcome {
	view, err := ports.Catalog.OnNode(ctx, ports.Identity.Prefix(), c.index, c.wait)
	return outcome{err: err, handle: func(s *state, t turn) {
		if err == nil {
			s.handleCatalog(view, c, t)
		}
	}}
}

// A reading that waits for something newer ends with each change on the node, which after an outage are hundreds in a
// row, of other pods: if each had every pod read again, the node's pods together would read their number squared. So
// what brings nothing new is done again after a pause that doubles from first to a bound: the pod waits no longer for
// what the catalog reports than twice the time that it took, or a second more.
//
// The index of the servers' answer is that of all checks of the datacenter. So where a check changes somewhere in each
// such pause, each reading is answered at once: every pod that follows the catalog reads it for ever, once a pause. Where nothing
// waits for it, that pause grows to the kubelet's usual probe period.
const (
	readBackoffFirst   = 10 * time.Millisecond
	readBackoffMax     = time.Second
	readBackoffMaxIdle = 10 * time.Second
)

// readBackoff is the pause after that many unchanged readings; the first of them, just after a change at the agent, is usual.
func readBackoff(unchanged int, longest time.Duration) time.Duration {
	if unchanged < 2 {
		return 0
	}
	return min(readBackoffFirst<<min(unchanged-2, 16), longest)
}

// longestPause is the bound of the pause after this reading.
func (c readCatalog) longestPause() time.Duration {
	if c.wait == idleWait {
		return readBackoffMaxIdle
	}
	return readBackoffMax
}

func (s *state) handleCatalog(view CatalogView, c readCatalog, t turn) {
	s.catalog.keepConstant(view.Instances)
	if s.catalog.view != nil && view.equal(s.catalog.view) {
		s.catalog.unchangedReads++
	} else {
		s.catalog.unchangedReads = 0
	}
	s.catalog.readAt = t.now.Add(t.jitter(readBackoff(s.catalog.unchangedReads, c.longestPause())))
	s.catalog.view, s.catalog.observedGeneration, s.catalog.answeredAt = &view, c.generation, t.now
	if !s.catalog.fresh() {
		return
	}
	if s.catalog.asked != nil {
		close(s.catalog.asked)
		s.catalog.asked = nil
	}
	if s.terminating() {
		if len(view.Instances) == 0 && s.drain.goneAt.IsZero() {
			s.drain.goneAt = t.now
		}
		return
	}
	for _, i := range s.instances {
		_, there := view.Instances[i.id]
		switch {
		case i.confirmed && !there && !i.lost(): // behind its agent's back, which would notice at its next full sync
			i.lostAt, i.resyncAt = t.now, t.now.Add(resyncPause(i, t.jitter))
		case there:
			i.lostAt = time.Time{}
		}
		if i.agent == present && i.upToDate() && s.synced(i) {
			i.confirmed = true
		}
	}
}

// inCatalog returns the instance as the catalog has it, if that is the wanted definition.
func (s *state) inCatalog(i *instance) (seen CatalogInstance, there bool) {
	if s.catalog.view == nil || i.want == nil {
		return seen, false
	}
	seen, there = s.catalog.view.Instances[i.id]
	return seen, there && seen.Fingerprint == i.fingerprint
}

// synced reports whether the catalog, as last read, has what this registrar put at the agent. An instance may be synced
// and yet not passing: by the service's own checks, or a maintenance.
func (s *state) synced(i *instance) bool {
	seen, there := s.inCatalog(i)
	return there && seen.Heartbeat == contract.Passing && seen.Readiness == s.health(i)
}

// Bounds of /status, which anybody in the network may ask for: one reading of the catalog serves all who ask within
// statusAge, and an answer waits no longer than statusWait for it.
const (
	statusAge  = time.Second
	statusWait = 2 * time.Second
)

// ask for a reading, and returns what is closed when it is there; nil where the last one is new enough.
func (c *catalog) ask(now time.Time) <-chan struct{} {
	if c.view != nil && now.Sub(c.answeredAt) < statusAge {
		return nil
	}
	if c.asked == nil {
		c.asked = make(chan struct{})
		c.generation++ // one that waits for something newer is ended
	}
	return c.asked
}
