package agentlet

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestPlan is the table of what is done at once in which situation. What it takes to get there, and what comes of it over time,
// is in the other tests.
func TestPlan(t *testing.T) {
	now := time.Now()
	conditioned := func(pod *corev1.Pod, podReady corev1.ConditionStatus) *corev1.Pod {
		pod.Status.Conditions = append(pod.Status.Conditions, corev1.PodCondition{Type: corev1.PodReady, Status: podReady})
		return pod
	}
	opened := func(annotations ...string) *corev1.Pod {
		return gated(ready(testPod(annotations...), true), corev1.ConditionTrue, contract.Registered)
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
	edited := func(s *state) {
		held(s)
		s.instances[webID].actual.Definition.Tags = []string{"edited"}
	}
	putNow := func(s *state) {
		s.instances[webID].registeredAt, s.instances[webID].registeredFingerprint = now, s.instances[webID].fingerprint
	}
	leftover := func(s *state) {
		id := testIdentity.Prefix() + "_old"
		s.instances[id] = &instance{id: id, agent: present, heartbeatDue: now.Add(time.Second)}
	}
	for name, c := range map[string]struct {
		pod   *corev1.Pod
		state func(s *state)
		after time.Duration
		want  string // kinds with the service's name, sorted
	}{
		"nothing is known": {nil, func(s *state) { s.conn = agentConn{} }, 0, "get_leader"},
		"an agent that doesn't answer is asked for that alone":  {ready(testPod(), true), func(s *state) { s.conn = agentConn{} }, 0, "get_leader"},
		"nothing is registered without a leader":                {ready(testPod(), true), func(s *state) { s.conn.phase = connNoLeader }, 0, "get_leader"},
		"nor before it is known what is there":                  {ready(testPod(), true), func(s *state) { s.conn.listed = false }, 0, "list_services"},
		"containers that are not ready are not registered":      {testPod(), nil, 0, "read_catalog"},
		"the pod's own Ready says nothing":                      {conditioned(testPod(), corev1.ConditionTrue), nil, 0, "read_catalog"},
		"for or against":                                        {conditioned(ready(testPod(), true), corev1.ConditionFalse), nil, 0, "read_catalog register web passing"},
		"ready containers are":                                  {ready(testPod(), true), nil, 0, "read_catalog register web passing"},
		"the gate registered: at once, as critical":             {testPod("gate", "registered"), nil, 0, "read_catalog register web critical"},
		"an open gate is enough, after a restart":               {gated(testPod(), corev1.ConditionTrue, contract.Registered), nil, 0, "read_catalog register web critical"},
		"in between there is nothing to do but to watch":        {opened(), held, 0, "watch web"},
		"the continuous policy reads the catalog, too":          {opened("gate-policy", "continuous"), held, 0, "read_catalog watch web"},
		"a closed gate reads it, and opens":                     {ready(testPod(), true), held, 0, "patch_status Registered read_catalog watch web"},
		"off: no gate, nothing to wait for":                     {opened("gate", "off"), held, 0, "patch_status Registered watch web"},
		"a heartbeat at its time":                               {opened(), held, time.Second, "update_heartbeat web watch web"},
		"also while what is there is looked for anew":           {opened(), func(s *state) { held(s); s.conn.listed = false }, time.Second, "list_services update_heartbeat web"},
		"and while the agent doesn't answer":                    {opened(), func(s *state) { held(s); s.conn = agentConn{reconnected: true} }, time.Second, "get_leader update_heartbeat web"},
		"what somebody has changed is put right at once":        {opened(), edited, 0, "register web passing watch web"},
		"but not again and again":                               {opened(), func(s *state) { edited(s); putNow(s) }, 0, "watch web"},
		"but after a moment":                                    {opened(), func(s *state) { edited(s); putNow(s) }, reregisterInterval, "register web passing watch web"},
		"containers that became unready: critical at once":      {gated(testPod(), corev1.ConditionTrue, contract.Registered), held, 0, "update_readiness web critical watch web"},
		"an instance that nobody wants is removed":              {opened(), func(s *state) { held(s); leftover(s) }, 0, "deregister old watch web"},
		"unless nobody knows what is wanted: then it is beaten": {nil, leftover, time.Second, "read_catalog update_heartbeat old"},
		"the end: what is there is removed, and nothing beaten": {deleted(opened()), held, time.Minute, "deregister web patch_status Draining"},
		"what may be there is, too, and looked for":             {deleted(opened()), func(s *state) { s.conn.listed = false }, 0, "list_services patch_status Draining"},
		"when it is removed the catalog is read":                {deleted(opened()), nil, 0, "patch_status Draining read_catalog"},
	} {
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
			t.Errorf("%s: %q, want %q", name, text, c.want)
		}
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

// TestReadingsWaitAsLongAsNobodyNeedsThem is about what a quiet pod costs, and how soon a lost answer is missed.
func TestReadingsWaitAsLongAsNobodyNeedsThem(t *testing.T) {
	for _, wait := range []time.Duration{waitMax, idleWait} {
		for _, planned := range []time.Duration{waitMax, idleWait} {
			if got := (readCatalog{wait: wait}).supersededBy(readCatalog{wait: planned}); got != (planned < wait) {
				t.Errorf("a reading of %s in flight, and one of %s planned: given up %v", wait, planned, got)
			}
		}
	}
}

func TestClosedGateBeginsWithStarting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := w.start(t)
		pod := testPod()
		pod.Status.PodIP = ""
		r.OnUpdate(pod)
		after(conditionDebounce)
		if got := w.last(); got.Status != corev1.ConditionFalse || got.Reason != string(contract.Starting) {
			t.Errorf("the gate of a pod without an IP says %s %s %q", got.Status, got.Reason, got.Message)
		}
	})
}

// TestCheckOutputIsConstant: a changed output is a raft write, and which containers are not ready changes.
func TestCheckOutputIsConstant(t *testing.T) {
	outputs := map[string]bool{}
	for _, names := range []string{"app", "logs"} {
		pod := gated(testPod(), corev1.ConditionTrue, contract.Registered)
		pod.Spec.Containers[0].Name, pod.Status.ContainerStatuses[0].Name = names, names
		s := newState(testIdentity)
		s.observePod(pod, nil, time.Now())
		outputs[newUpdateReadiness(s, s.instances[webID]).output] = true
	}
	if len(outputs) != 1 {
		t.Errorf("outputs %q of a critical check, want one", slices.Collect(maps.Keys(outputs)))
	}
}

func TestUnreadyPodIsNeverReaped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		r.OnUpdate(ready(testPod(), false))
		beats, registrations := w.count("heartbeat"), w.count("register")
		after(10 * time.Minute)
		if e := w.web(); e.heartbeat != contract.Passing || e.readiness != contract.Critical {
			t.Errorf("the heartbeat is %s and the readiness %s", e.heartbeat, e.readiness)
		}
		if n := w.count("heartbeat") - beats; n < 58 || w.count("register") != registrations {
			t.Errorf("%d beats and %d registrations in ten unready minutes", n, w.count("register")-registrations)
		}
	})
}

func TestRemovedCheckIsPutBackAtTheNextBeat(t *testing.T) {
	for _, check := range []string{"heartbeat", "readiness"} {
		t.Run(check, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				started(t, w, testPod())
				after(time.Second)
				w.mu.Lock()
				entry := w.agent[webID]
				entry.checks = slices.DeleteFunc(slices.Clone(entry.checks), func(id string) bool { return strings.HasSuffix(id, check) })
				w.agent[webID] = entry
				w.mu.Unlock()
				next := 10 * time.Second // a third of the TTL
				if check == "readiness" {
					next = refreshEvery
				}
				after(next + 100*time.Millisecond)
				if n := len(w.web().checks); n != 2 {
					t.Errorf("%d checks after %s", n, next)
				}
			})
		})
	}
}

func TestLabelsAreFollowedLive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod("tags-from-labels", "role"))
		pod := ready(testPod("tags-from-labels", "role"), true)
		pod.Labels = map[string]string{"role": "primary"}
		r.OnUpdate(pod)
		after(100 * time.Millisecond)
		if got := w.web().definition.Tags; !slices.Equal(got, []string{"primary"}) {
			t.Errorf("tags %q of a relabelled pod", got)
		}
	})
}

// TestDrainHookThatCameEarlyIsHeld: the kubelet runs all hooks at once, and the sign of the end may come a moment later.
func TestDrainHookThatCameEarlyIsHeld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := started(t, w, testPod())
		began := time.Now()
		time.AfterFunc(time.Second/2, r.PreStop)
		if held := r.Drain(t.Context(), time.Second); !held || time.Since(began) < 5*time.Second {
			t.Errorf("held %v, for %s, want the drain's end with its delay of 5s", held, time.Since(began))
		}
	})
}
