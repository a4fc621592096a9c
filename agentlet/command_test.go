package agentlet

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// TestMain has two commands for one key end the tests: which of them ran would be a matter of the order of the plan.
func TestMain(m *testing.M) {
	onConflict = func(k key) { panic(fmt.Sprintf("two commands are planned for %v", k)) }
	os.Exit(m.Run())
}

func still(d time.Duration) time.Duration { return d }

// connection is that with an agent that is well.
func connection() agentConn { return agentConn{phase: connected, listed: true} }

// answers are ports that answer everything with the same.
type answers struct {
	err      error
	view     CatalogView
	observed map[string]Observed
}

func (a answers) config() *Config {
	return &Config{Identity: testIdentity, Agent: a, View: a, Catalog: a, Kube: a, Prober: a, Login: a}
}

func (a answers) Register(context.Context, Definition, contract.Health, []string) error { return a.err }

func (a answers) Deregister(context.Context, string) error { return a.err }

func (a answers) Update(context.Context, string, contract.Health, string) error { return a.err }

func (a answers) HasLeader(context.Context) (bool, error) { return a.err == nil, a.err }

func (a answers) Changed(context.Context, string, string) (string, error) { return "", a.err }

func (a answers) Login(context.Context) (Session, error) { return Session{ID: 1}, a.err }

func (a answers) Logout(context.Context, int) error { return a.err }

func (a answers) CreateEvent(context.Context, Event) error { return a.err }

func (a answers) Probe(context.Context, registration.Probe) error { return a.err }

func (a answers) Instances(context.Context, string) (map[string]Observed, error) {
	return a.observed, a.err
}

func (a answers) OnNode(context.Context, string, uint64, time.Duration) (CatalogView, error) {
	return a.view, a.err
}

func (a answers) SetConditions(context.Context, []corev1.PodCondition) (string, error) {
	return "1", a.err
}

// finish runs a command with these answers, and has the state handle the outcome.
func finish(s *state, c command, with answers, now time.Time) {
	if noting, ok := c.(starter); ok {
		noting.start(s)
	}
	b := s.begun()
	o := c.run(context.Background(), with.config())
	s.handleOutcome(c, o, turn{begun: b, now: now, jitter: still, log: slog.New(slog.DiscardHandler), metrics: newMetrics()})
}

// TestEachCommandIsListed holds the list of commands against what random states plan.
func TestEachCommandIsListed(t *testing.T) {
	known, keys := map[operation]bool{}, map[string]bool{}
	for _, c := range commands() {
		if c.operation() == "" || known[c.operation()] || c.key().name == "" {
			t.Errorf("%T is called %q, with the key %v", c, c.operation(), c.key())
		}
		known[c.operation()], keys[c.key().name] = true, true
		if _, ok := c.(superseder); ok != c.policy().isBlocking {
			t.Errorf("%s is blocking: %v, and can be superseded: %v", c.operation(), c.policy().isBlocking, ok)
		}
	}
	for seed := range uint64(300) {
		s, now := randomState(newRandom(seed)), time.Now()
		s.commit(decide(s, now), now.Add(-time.Minute))
		for k, c := range plan(s, now).work {
			if !known[c.operation()] || k != c.key() {
				t.Errorf("seed %d plans %T under %v, which is not listed", seed, c, k)
			}
		}
	}
}

// TestDecideAndPlanChangeNothing plans twice from random states, and compares deep copies.
func TestDecideAndPlanChangeNothing(t *testing.T) {
	for seed := range uint64(300) {
		s, now := randomState(newRandom(seed)), time.Now()
		before := dump(s)
		first := decide(s, now)
		if again := decide(s, now); !reflect.DeepEqual(again, first) {
			t.Fatalf("seed %d: decided %+v, then %+v", seed, first, again)
		}
		if after := dump(s); after != before {
			t.Fatalf("seed %d: deciding has changed the state from\n%s\nto\n%s", seed, before, after)
		}
		s.commit(first, now)
		before = dump(s)
		planned := plan(s, now)
		if again := plan(s, now); !reflect.DeepEqual(again, planned) {
			t.Fatalf("seed %d: planned %+v, then %+v", seed, planned, again)
		}
		if after := dump(s); after != before {
			t.Fatalf("seed %d: planning has changed the state from\n%s\nto\n%s", seed, before, after)
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
