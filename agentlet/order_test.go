package agentlet

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// serviceID is the ID of a service of the test's pod.
func serviceID(name string) string { return contract.ServiceID("shop", "web-1", testUID, name) }

// TestFailuresAtTheSameTimeAreToldOnce holds that a message which several failures have a part in doesn't change by itself: what
// goes on failing costs no write and no event after its first minute.
func TestFailuresAtTheSameTimeAreToldOnce(t *testing.T) {
	rejected := func(name string) error { return fmt.Errorf("register %s: %w: 400 bad %s", name, ErrRejected, name) }
	unknownToken := func(name string) error { return fmt.Errorf("register %s: %w: no %s", name, ErrUnknownToken, name) }
	failing := func(err func(string) error, names ...string) map[string]error {
		errs := map[string]error{}
		for _, name := range names {
			errs[serviceID(name)] = err(name)
		}
		return errs
	}
	cases := map[string]struct {
		names string
		fail  map[string]error
		tells []string // in the gate's message
	}{
		"one refused service":                {"web", failing(rejected, "web"), []string{"bad web"}},
		"two refused services":               {"web,admin", failing(rejected, "web", "admin"), []string{"bad admin", "bad web"}},
		"three refused services":             {"web,admin,api", failing(rejected, "web", "admin", "api"), []string{"bad admin", "bad api", "bad web"}},
		"two of three":                       {"web,admin,api", failing(rejected, "web", "api"), []string{"bad api", "bad web"}},
		"two services with an unknown token": {"web,admin", failing(unknownToken, "web", "admin"), []string{"no admin"}},
		"three of which each fails otherwise": {"web,admin,api", map[string]error{
			serviceID("web"): rejected("web"), serviceID("admin"): errors.New("register admin: 500 disk full"), serviceID("api"): ErrLate,
		}, []string{"bad web"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				w.failFor = c.fail
				r, _ := w.start(t)
				r.OnUpdate(ready(testPod("service-names", c.names), true))
				after(time.Minute)
				for _, part := range c.tells {
					if !strings.Contains(w.last().Message, part) {
						t.Errorf("the gate says %q, want also %q", w.last().Message, part)
					}
				}
				writes, events := len(w.conditions()), len(w.told())
				after(time.Hour)
				if n := len(w.conditions()) - writes; n != 0 {
					t.Errorf("%d gate writes in an hour in which nothing changed, the last: %s", n, w.last().Message)
				}
				if told := w.told(); len(told) != events {
					t.Errorf("events in an hour in which nothing changed: %s", told)
				}
			})
		})
	}
}

// TestMaintenanceIsRestoredInTheSameOrder has two instances in maintenance, for reasons that differ.
func TestMaintenanceIsRestoredInTheSameOrder(t *testing.T) {
	for range 20 {
		s := newState(testIdentity)
		s.restoreMaintenance(map[string]Observed{
			serviceID("web"):   {MaintenanceOutput: contract.MaintenanceOutput + "second"},
			serviceID("admin"): {MaintenanceOutput: contract.MaintenanceOutput + "first"},
		})
		if s.overrides.reason != "first" {
			t.Fatalf("restored %q, want that of the first instance by its ID", s.overrides.reason)
		}
	}
}

// TestDecisionsDontDependOnTheOrderOfMaps decides twenty times from the same random state.
func TestDecisionsDontDependOnTheOrderOfMaps(t *testing.T) {
	for seed := range uint64(300) {
		s, now := randomState(newRandom(seed)), time.Now()
		first := decided(s, now)
		for range 20 {
			if again := decided(s, now); !reflect.DeepEqual(again, first) {
				t.Fatalf("seed %d: two decisions from one state:\n%+v\n%+v", seed, first, again)
			}
		}
	}
}

// decisions are everything that is decided from a state.
type decisions struct {
	decision decision
	schedule schedule
	status   contract.Status
	login    error
}

func decided(s *state, now time.Time) decisions {
	d := decisions{decision: decide(s, now), schedule: plan(s, now), login: loginFailure(s)}
	r := New(Config{Identity: testIdentity})
	r.publish(s, d.schedule)
	d.status = *r.Status()
	return d
}

func newRandom(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// randomState is one of up to four services, in any mixture of presences, failures and readings, likely or not.
func randomState(random *rand.Rand) *state {
	chance := func(n int) bool { return random.IntN(n) == 0 }
	names := []string{"web", "admin", "api", "metrics"}[:1+random.IntN(4)]
	s := newState(testIdentity)
	pod := ready(testPod("service-names", strings.Join(names, ",")), !chance(4))
	if chance(3) {
		pod = gated(pod, corev1.ConditionTrue, contract.Registered)
	}
	now := time.Now()
	s.conn = agentConn{phase: connPhase(random.IntN(16)), listed: !chance(4), lateUpdates: random.IntN(3)}
	s.conn.phase = min(s.conn.phase, connected)
	s.session.needed = chance(2)
	if chance(2) {
		s.session.current = Session{ID: 1}
	}
	s.observePod(pod, registration.Defaults{}, now)
	if chance(3) {
		id := serviceID("leftover")
		s.instances[id] = &instance{id: id, agent: present}
	}
	view := CatalogView{Index: 7, Instances: map[string]CatalogInstance{}}
	errs := []error{ErrRejected, ErrDenied, ErrUnknownToken, ErrLate, errors.New("500 disk full")}
	for _, id := range s.ids() {
		i := s.instances[id]
		i.agent, i.registered, i.confirmed = presence(random.IntN(3)), chance(2), chance(2)
		if i.want != nil && chance(2) {
			d := i.definition()
			i.actual = &Observed{Definition: d, Fingerprint: d.Fingerprint(), Checks: d.checkIDs()}
			view.Instances[id] = CatalogInstance{
				Health: contract.Critical, Heartbeat: contract.Passing, Fingerprint: d.Fingerprint(), Failing: "check of " + i.want.Name,
			}
		}
		for _, c := range []command{register{id: id}, updateHeartbeat{id: id}, watchService{id: id}} {
			if chance(2) {
				err := fmt.Errorf("%s %s: %w", c.operation(), id, errs[random.IntN(len(errs))])
				s.retries[c.key()] = retry{failures: 1, err: err, at: now.Add(time.Second)}
			}
		}
	}
	if chance(2) {
		s.catalog.view = &view
	}
	if chance(5) {
		s.signal(signals{deletion: true}, now)
	}
	return s
}

// TestRandomStatesDiffer holds that the states above are not all alike.
func TestRandomStatesDiffer(t *testing.T) {
	reasons := map[contract.Reason]bool{}
	for seed := range uint64(300) {
		reasons[decideGate(randomState(newRandom(seed)), time.Now()).reason] = true
	}
	if len(reasons) < 5 {
		t.Errorf("only %q", slices.Sorted(maps.Keys(reasons)))
	}
}
