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
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// TestDecideAndPlanArePure decides and plans twenty times from each of many random states, before and after the
// decision is committed: always the same, whatever the order of maps, and without a change to the state.
func TestDecideAndPlanArePure(t *testing.T) {
	for seed := range uint64(300) {
		s, now := randomState(newRandom(seed)), time.Now()
		for range 2 {
			before := dump(s)
			first := decided(s, now)
			for range 20 {
				if again := decided(s, now); !reflect.DeepEqual(again, first) {
					t.Fatalf("seed %d: two decisions from one state:\n%+v\n%+v", seed, first, again)
				}
			}
			if after := dump(s); after != before {
				t.Fatalf("seed %d: deciding has changed the state from\n%s\nto\n%s", seed, before, after)
			}
			s.commit(first.decision, now)
		}
	}
}

// dump is all of a state as text, down to what pointers point at, with maps in the order of their keys.
func dump(s *state) string {
	var out strings.Builder
	write(&out, reflect.ValueOf(s))
	return out.String()
}

func write(out *strings.Builder, v reflect.Value) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if v.IsNil() {
			out.WriteString("nil")
			return
		}
		write(out, v.Elem())
	case reflect.Struct:
		for i := range v.NumField() {
			fmt.Fprintf(out, "\n%s: ", v.Type().Field(i).Name)
			write(out, v.Field(i))
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			fmt.Fprintf(out, "\n%d: ", i)
			write(out, v.Index(i))
		}
	case reflect.Map:
		var items []string
		for entry := v.MapRange(); entry.Next(); {
			var item strings.Builder
			write(&item, entry.Key())
			item.WriteString(" → ")
			write(&item, entry.Value())
			items = append(items, item.String())
		}
		slices.Sort(items)
		fmt.Fprint(out, items)
	default:
		fmt.Fprintf(out, "%v", v)
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
		pod = gated(pod, gateOpen, contract.Registered)
	}
	now := time.Now()
	s.conn = agentConn{phase: connPhase(random.IntN(16)), listed: !chance(4), lateUpdates: random.IntN(3)}
	s.conn.phase = min(s.conn.phase, connected)
	s.login.needed = chance(2)
	if chance(2) {
		s.login.current = Session{ID: 1}
	}
	s.observePod(pod, registration.Defaults{}, now)
	if chance(3) {
		id := serviceID("leftover")
		s.instances[id] = &instance{id: id, agent: present}
	}
	view := CatalogView{Index: 7, Instances: map[string]CatalogInstance{}}
	errs := []error{ErrRejected, ErrDenied, ErrUnknownToken, ErrLate, errors.New("500 disk full")}
	for _, id := range slices.Sorted(maps.Keys(s.instances)) {
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

// TestRandomStatesDiffer: the random states above are of many kinds.
func TestRandomStatesDiffer(t *testing.T) {
	reasons := map[contract.Reason]bool{}
	for seed := range uint64(300) {
		reasons[decideGate(randomState(newRandom(seed)), time.Now()).reason] = true
	}
	if len(reasons) < 5 {
		t.Errorf("the gate's reasons are only %q, want five or more", slices.Sorted(maps.Keys(reasons)))
	}
}
