package agentlet

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
	"unsafe"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestPlan is about the commands that are planned at once in each situation. How a situation arises, and what follows
// over time, is in the other tests.
func TestPlan(t *testing.T) {
	now := time.Now()
	conditioned := func(pod *corev1.Pod, podReady corev1.ConditionStatus) *corev1.Pod {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: podReady})
		return pod
	}
	// held puts the instance at the agent as it is wanted, and into the catalog.
	held := func(s *state) {
		i := s.instances[webID]
		d := i.definition()
		i.agent, i.registered, i.confirmed, i.readiness = present, true, true, contract.Passing
		i.actual = &Observed{Definition: d, Fingerprint: d.Fingerprint(), Readiness: contract.Passing, Checks: d.checkIDs()}
		i.heartbeatDue, i.refreshAt = now.Add(time.Second), now.Add(time.Minute)
		s.catalog.view = &CatalogView{Index: 3, Instances: map[string]CatalogInstance{
			webID: {Health: contract.Passing, Heartbeat: contract.Passing, Readiness: contract.Passing, Fingerprint: d.Fingerprint()},
		}}
	}
	heldCritical := func(s *state) {
		held(s)
		s.instances[webID].readiness = contract.Critical
		s.instances[webID].actual.Readiness = contract.Critical
		seen := s.catalog.view.Instances[webID]
		seen.Health, seen.Readiness = contract.Critical, contract.Critical
		s.catalog.view.Instances[webID] = seen
	}
	edited := func(s *state) {
		held(s)
		s.instances[webID].actual.Definition.Tags = []string{"edited"}
	}
	registeredNow := func(s *state) {
		s.instances[webID].registeredAt, s.instances[webID].registeredFingerprint = now, s.instances[webID].fingerprint
	}
	leftover := func(s *state) {
		id := testIdentity.Prefix() + "_old"
		s.instances[id] = &instance{id: id, agent: present, heartbeatDue: now.Add(time.Second)}
	}
	maintain := func(s *state) {
		s.overrides.maintenance, s.overrides.reason, s.overrides.maintenanceSetAt = true, "compaction", now
		s.reconcile()
	}
	checked := func(s *state) {
		i := s.instances[webID]
		i.readiness, i.maintenanceOutput = contract.Critical, s.maintenanceOutput()
	}
	updateFailed := func(s *state) {
		s.retries[key{checksKey, webID}] = retry{failures: 1, at: now.Add(time.Second), err: errors.New("disk full")}
	}
	patchFailed := func(s *state) {
		s.retries[patchStatus{}.key()] = retry{failures: 1, at: now.Add(time.Second), err: ErrLate}
	}
	unconfirmed := func(s *state, hash string) {
		s.catalog.generation++
		s.instances[webID].confirmed, s.instances[webID].hash, s.instances[webID].resyncAt = false, hash, now.Add(time.Second)
	}
	for name, c := range map[string]struct {
		pod   *corev1.Pod
		state func(s *state)
		after time.Duration
		want  string // operations with the service's name, sorted
	}{
		"a maintenance: first the check, which a blocked agent applies, too": {
			opened("local-api", "enabled"), func(s *state) { held(s); maintain(s) }, 0, "update_readiness web critical watch web",
		},
		"then the notes that tell of it": {
			opened("local-api", "enabled"), func(s *state) { held(s); maintain(s); checked(s) }, 0, "register web critical watch web",
		},
		"but not while updates are late": {
			opened("local-api", "enabled"), func(s *state) { held(s); maintain(s); checked(s); s.conn.lateUpdates = 1 }, 0, "watch web",
		},
		"nothing is known": {nil, func(s *state) { s.conn = agentConn{} }, 0, "get_leader"},
		"an unreachable agent is asked only for its leader":    {ready(testPod(), true), func(s *state) { s.conn = agentConn{} }, 0, "get_leader"},
		"nothing is registered without a leader":               {ready(testPod(), true), func(s *state) { s.conn.phase = connNoLeader }, 0, "get_leader"},
		"nothing is registered before the services are listed": {ready(testPod(), true), func(s *state) { s.conn.listed = false }, 0, "list_services"},
		"unready containers are registered, as critical":       {testPod(), nil, 0, "read_catalog register web critical"},
		"the pod's condition Ready is ignored":                 {conditioned(testPod(), gateOpen), nil, 0, "read_catalog register web critical"},
		"the pod's condition Ready is ignored when False, too": {conditioned(ready(testPod(), true), gateClosed), nil, 0, "read_catalog register web passing"},
		"ready containers are registered":                      {ready(testPod(), true), nil, 0, "read_catalog register web passing"},
		"a registered one waits for its containers":            {testPod(), heldCritical, 0, "watch web"},
		"gate registered: it opens before they are ready":      {testPod("gate", "registered"), heldCritical, 0, "patch_status Registered watch web"},
		"after a restart, an open gate is enough":              {gated(testPod(), gateOpen, contract.Registered), nil, 0, "read_catalog register web critical"},
		"an open gate needs only a watch":                      {opened(), held, 0, "watch web"},
		"the continuous policy reads the catalog, too":         {opened("gate-policy", "continuous"), held, 0, "read_catalog watch web"},
		"a gate opens, and waits for the API server alone":     {ready(testPod(), true), held, 0, "patch_status Registered watch web"},
		"and reads the catalog on while that is slow":          {ready(testPod(), true), held, patchMoment, "patch_status Registered read_catalog update_heartbeat web watch web"},
		"a pod without the gate waits for none":                {ready(withoutGates(testPod()), true), held, 2 * patchMoment, "update_heartbeat web watch web"},
		"while it can't be written the catalog is read on": {
			ready(testPod(), true), func(s *state) { held(s); patchFailed(s) }, 0, "read_catalog watch web",
		},
		"containers that became ready: the update alone": {ready(testPod(), true), heldCritical, 0, "update_readiness web passing watch web"},
		"one that failed before doesn't keep from reading": {
			ready(testPod(), true), func(s *state) { heldCritical(s); updateFailed(s) }, 0, "read_catalog watch web",
		},
		"a watch that was begun goes on while the catalog is read": {
			ready(testPod(), true), func(s *state) { held(s); unconfirmed(s, "hash") }, 0, "read_catalog watch web",
		},
		"but isn't begun before": {
			ready(testPod(), true), func(s *state) { held(s); unconfirmed(s, "") }, 0, "read_catalog",
		},
		"gate off: nothing to wait for":                        {opened("gate", "off"), held, 0, "patch_status Registered watch web"},
		"a heartbeat when it is due":                           {opened(), held, time.Second, "update_heartbeat web watch web"},
		"heartbeats go on while the services are listed":       {opened(), func(s *state) { held(s); s.conn.listed = false }, time.Second, "list_services update_heartbeat web"},
		"heartbeats go on while the agent is unreachable":      {opened(), func(s *state) { held(s); s.conn = agentConn{reconnected: true} }, time.Second, "get_leader update_heartbeat web"},
		"somebody's edit is overwritten at once":               {opened(), edited, 0, "register web passing watch web"},
		"a second edit is not overwritten at once":             {opened(), func(s *state) { edited(s); registeredNow(s) }, 0, "watch web"},
		"a second edit is overwritten after a pause":           {opened(), func(s *state) { edited(s); registeredNow(s) }, reregisterInterval, "register web passing watch web"},
		"containers that became unready are critical at once":  {gated(testPod(), gateOpen, contract.Registered), held, 0, "update_readiness web critical watch web"},
		"an unwanted instance is deregistered":                 {opened(), func(s *state) { held(s); leftover(s) }, 0, "deregister old watch web"},
		"an instance gets heartbeats while no pod is known":    {nil, leftover, time.Second, "read_catalog update_heartbeat old"},
		"the drain deregisters, without heartbeats":            {deleted(opened()), held, time.Minute, "deregister web patch_status Draining"},
		"the drain lists the services if they are not known":   {deleted(opened()), func(s *state) { s.conn.listed = false }, 0, "list_services patch_status Draining"},
		"the drain reads the catalog after the deregistration": {deleted(opened()), nil, 0, "patch_status Draining read_catalog"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newState(testIdentity)
			s.conn = connection()
			if c.pod != nil {
				s.observePod(c.pod, nil, now)
			}
			if c.state != nil {
				c.state(s)
			}
			s.commit(decide(s, now), now)
			var got []string
			for _, planned := range plan(s, now.Add(c.after)).work {
				if text := describe(planned); text != "" {
					got = append(got, text)
				}
			}
			slices.Sort(got)
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("%q, want %q", text, c.want)
			}
		})
	}
}

// describe is a planned command in a few words: its operation, the service's name, and what it says; empty for events.
func describe(c command) string {
	words := []string{string(c.operation()), strings.TrimPrefix(c.key().id, testIdentity.Prefix()+"_")}
	switch c := c.(type) {
	case createEvent: // TestEvents
		return ""
	case patchStatus:
		words = append(words, c.condition.Reason)
	case register:
		words = append(words, string(c.health))
	case updateReadiness:
		words = append(words, string(c.health))
	}
	return strings.Join(slices.DeleteFunc(words, func(word string) bool { return word == "" }), " ")
}

// leap is a time as a machine reads it whose wall clock was set forward by that much, or back: the monotonic reading stays. It
// reaches into time.Time, and checks the result.
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

// TestWallClockJumpsChangeNothing plans at the same moment with the wall clock set forward and back.
func TestWallClockJumpsChangeNothing(t *testing.T) {
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
		"heartbeats and refreshes": {inCatalog(registered()), []time.Duration{8 * time.Second, 10 * time.Second, 9 * time.Hour}},
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
		t.Run(name, func(t *testing.T) {
			c.state.gate.want, c.state.gate.wantSince = decideGate(c.state, began), began
			for _, wait := range c.waits {
				now := began.Add(wait)
				want, wantGate := plan(c.state, now), decideGate(c.state, now)
				for _, by := range []time.Duration{-10 * 365 * 24 * time.Hour, -time.Hour, time.Hour, 10 * 365 * 24 * time.Hour} {
					jumped := leap(t, now, by)
					got := plan(c.state, jumped)
					if !reflect.DeepEqual(timeless(got), timeless(want)) || got.drained != want.drained || !got.wake.Equal(want.wake) {
						t.Errorf("%s later with the clock set by %s:\n%+v, want\n%+v", wait, by, got, want)
					}
					if gate := decideGate(c.state, jumped); gate != wantGate {
						t.Errorf("%s later with the clock set by %s: the gate says %+v, want %+v", wait, by, gate, wantGate)
					}
				}
			}
		})
	}
}

// timeless is the work without the wall clock's times, which are for people to read.
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
