package agentlet

import (
	"reflect"
	"testing"
	"time"
	"unsafe"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// leap is t as it would read on a machine whose wall clock was set forward by that much, or back: the monotonic reading
// stays. It reaches into time.Time, and checks what it got.
func leap(t *testing.T, at time.Time, by time.Duration) time.Time {
	t.Helper()
	leapt := at
	// The first word holds, below a flag, the wall clock's seconds in 33 bits and nanoseconds in 30.
	(*struct{ wall uint64 })(unsafe.Pointer(&leapt)).wall += uint64(by/time.Second) << 30
	if leapt.Sub(at) != 0 || leapt.Round(0).Sub(at.Round(0)) != by {
		t.Skipf("this Go keeps time in another way: %s became %s", at, leapt)
	}
	return leapt
}

// TestWallClockThatJumpsChangesNothing plans at the same moment with the wall clock set forward and back.
func TestWallClockThatJumpsChangesNothing(t *testing.T) {
	began := time.Now()
	registered := func(annotations ...string) *state {
		s := newState(testIdentity)
		s.observePod(ready(testPod(annotations...), true), nil, began)
		s.conn = connection()
		s.instances[webID].agent = absent
		finish(s, plan(s, began).work[register{id: webID}.key()], answers{}, began)
		return s
	}
	inCatalog := func(s *state) *state {
		i := s.instances[webID]
		finish(s, readCatalog{generation: s.catalog.generation}, answers{view: CatalogView{Index: 5, Instances: map[string]CatalogInstance{
			webID: {Health: contract.Passing, Heartbeat: contract.Passing, Readiness: contract.Passing, Fingerprint: i.want.Fingerprint()},
		}}}, began)
		return s
	}
	for name, c := range map[string]struct {
		state *state
		// waits are the times after which something becomes due.
		waits []time.Duration
	}{
		"beats and refreshes": {inCatalog(registered()), []time.Duration{8 * time.Second, 10 * time.Second, 9 * time.Hour}},
		"resyncing": {func() *state {
			s := registered()
			finish(s, readCatalog{generation: s.catalog.generation}, answers{view: CatalogView{Index: 5}}, began)
			return s
		}(), []time.Duration{time.Second, 3 * time.Second}},
		"a closed gate's reason, and gate-timeout": {registered("gate-timeout", "30s"), []time.Duration{500 * time.Millisecond, 2 * time.Second, 31 * time.Second}},
		"backing off": {func() *state {
			s := registered()
			for range 5 {
				finish(s, readCatalog{generation: s.catalog.generation}, answers{err: ErrUnreachable}, began)
			}
			return s
		}(), []time.Duration{time.Second, 10 * time.Second}},
		"drain-timeout": {func() *state {
			s := inCatalog(registered())
			s.signal(signals{preStop: true}, began)
			return s
		}(), []time.Duration{9 * time.Second, 16 * time.Second}},
		"drain-delay": {func() *state {
			s := inCatalog(registered())
			s.signal(signals{preStop: true}, began)
			finish(s, deregister{id: webID}, answers{}, began)
			finish(s, readCatalog{generation: s.catalog.generation}, answers{view: CatalogView{Index: 6}}, began)
			return s
		}(), []time.Duration{4 * time.Second, 6 * time.Second}},
	} {
		c.state.gate.want, c.state.gate.wantSince = decideGate(c.state, began), began
		for _, wait := range c.waits {
			now := began.Add(wait)
			want, verdict := plan(c.state, now), decideGate(c.state, now)
			for _, by := range []time.Duration{-10 * 365 * 24 * time.Hour, -time.Hour, time.Hour, 10 * 365 * 24 * time.Hour} {
				jumped := leap(t, now, by)
				got := plan(c.state, jumped)
				if !reflect.DeepEqual(timeless(got), timeless(want)) || got.drained != want.drained || !got.wake.Equal(want.wake) {
					t.Errorf("%s, %s later with the clock set by %s:\n%+v, want\n%+v", name, wait, by, got, want)
				}
				if decideGate(c.state, jumped) != verdict {
					t.Errorf("%s, %s later with the clock set by %s: the gate would say otherwise", name, wait, by)
				}
			}
		}
	}
}

// timeless is the work without the wall clock's times, which are written for people to read.
func timeless(p schedule) map[key]command {
	work := map[key]command{}
	for k, c := range p.work {
		switch own := c.(type) {
		case patchStatus:
			own.condition.LastTransitionTime = metav1.Time{}
			c = own
		case createEvent:
			own.event.At = time.Time{}
			c = own
		}
		work[k] = c
	}
	return work
}
