package chaos

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// world is a World that only records what is broken.
type world struct {
	broken   map[string]time.Time
	lasted   map[string]time.Duration
	fails    func(Step) error
	failures []Failure
	settle   error
}

func (w *world) Do(ctx context.Context, step Step) (string, error) {
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	key := fmt.Sprintf("%s@%d", step.Name, step.Node)
	switch fault, _ := FaultNamed(step.Name); {
	case step.Kind == Begin && fault.Lasts():
		w.broken[key] = time.Now()
	case step.Kind == End:
		w.lasted[key] = time.Since(w.broken[key]) - step.For
		delete(w.broken, key)
	}
	if w.fails != nil {
		return "", w.fails(step)
	}
	time.Sleep(time.Millisecond)
	return "done", nil
}

func (w *world) Settle(context.Context) (string, error) {
	time.Sleep(30 * time.Second)
	return "all is well", w.settle
}

func (w *world) Requests() int64 { return 1000 }

func (w *world) Failures() []Failure { now := w.failures; w.failures = nil; return now }

func campaign(w *world) (*Campaign, *[]string) {
	var lines []string
	w.broken, w.lasted = map[string]time.Time{}, map[string]time.Duration{}
	return &Campaign{
		Seed: 5, Duration: 30 * time.Minute, Rate: 100, Steps: NewWalk(5, 2, all...), World: w, Log: func(line string) { lines = append(lines, line) },
	}, &lines
}

func TestCampaignLastsAndUndoes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		c, lines := campaign(w)
		report, err := c.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if len(w.broken) > 0 {
			t.Errorf("broken at the end: %v", w.broken)
		}
		if report.Took < c.Duration || report.Took > c.Duration+5*time.Minute || len(*lines) != report.Steps {
			t.Errorf("took %s, %d lines for %d steps", report.Took, len(*lines), report.Steps)
		}
		for name, over := range w.lasted {
			if over < 0 {
				t.Errorf("%s ended %s before its time", name, -over)
			}
		}
		if table := report.Table(); len(table) < 20 || !strings.Contains(strings.Join(table, "\n"), "API server") {
			t.Errorf("table: %q", table)
		}
	})
}

func TestCampaignUndoesWhenItFailsOrIsInterrupted(t *testing.T) {
	broken := errors.New("no such process")
	for name, test := range map[string]struct {
		world       *world
		interrupted bool
		want        string
	}{
		"a step fails": {world: &world{fails: func(s Step) error {
			if s.Kind == Begin && s.Number > 4 {
				return broken
			}
			return nil
		}}, want: broken.Error()},
		"an invariant is violated": {world: &world{settle: errors.New("a leaked instance")}, want: "a leaked instance"},
		"interrupted":              {world: &world{}, interrupted: true, want: context.Canceled.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				c, _ := campaign(test.world)
				if test.interrupted {
					begun := c.World.(*world)
					begun.fails = func(s Step) error {
						if s.Kind == Begin && len(begun.broken) > 0 {
							cancel()
						}
						return nil
					}
				}
				_, err := c.Run(ctx)
				if err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "seed 5, step ") {
					t.Errorf("error %v, want %q with the seed and the step", err, test.want)
				}
				if len(test.world.broken) > 0 {
					t.Errorf("left broken: %v", test.world.broken)
				}
			})
		})
	}
}

func TestCampaignLeavesOutWhatThereIsNothingFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{}
		w.fails = func(s Step) error {
			if s.Kind == Begin {
				w.broken = map[string]time.Time{}
				return fmt.Errorf("%w: no pod", ErrNothing)
			}
			if s.Kind == End {
				t.Errorf("ended what never began: %s", s)
			}
			return nil
		}
		c, _ := campaign(w)
		report, err := c.Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if i := slices.IndexFunc(report.Rows, func(r Row) bool { _, fault := FaultNamed(r.Name); return fault }); i >= 0 {
			t.Errorf("counted: %+v", report.Rows[i])
		}
	})
}

func TestJudge(t *testing.T) {
	start := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	failed := func(seconds ...int) (all []Failure) {
		for _, s := range seconds {
			all = append(all, Failure{Began: at(s), Ended: at(s), Instance: "10.244.1.7:8080", Error: "connection refused"})
		}
		return all
	}
	many := func(n, seconds int) (all []Failure) {
		for range n {
			all = append(all, failed(seconds)...)
		}
		return all
	}
	toEnded := func(failures []Failure) []Failure {
		for i := range failures {
			failures[i].PodEnded = true
		}
		return failures
	}
	span := func(fault string, from, to int, ending bool) Span {
		return Span{Fault: fault, Begin: at(from), End: at(to), Ending: ending}
	}
	for name, test := range map[string]struct {
		spans    []Span
		failures []Failure
		failed   map[string]int
		want     string // expected violations; empty for none
	}{
		"nothing":              {},
		"no fault":             {failures: failed(1), want: "no fault allows"},
		"one that allows none": {spans: []Span{span("API server stopped", 0, 60, true)}, failures: failed(30), want: "10.244.1.7:8080: connection refused"},
		"within": {
			spans: []Span{span("node cut off", 10, 40, false)}, failures: failed(11, 25, 41), failed: map[string]int{"node cut off": 3},
		},
		"too late":     {spans: []Span{span("node cut off", 10, 60, false)}, failures: failed(40), want: "no fault allows"},
		"before":       {spans: []Span{span("node cut off", 10, 60, false)}, failures: failed(9), want: "no fault allows"},
		"without ends": {spans: []Span{span("Consul agent stopped", 0, 60, false)}, failures: failed(30), want: "no fault allows"},
		"with ends": {
			spans: []Span{span("Consul agent stopped", 0, 60, true)}, failures: failed(30, 70), failed: map[string]int{"Consul agent stopped": 2},
		},
		"too many": {
			spans: []Span{span("deletion by force", 10, 10, false)}, failures: many(1000, 11), failed: map[string]int{"deletion by force": 1000},
			want: `1000 requests failed because of "deletion by force", which allows 50`,
		},
		"too many to pods that live": {
			spans: []Span{span("Consul's quorum lost", 0, 58, true)}, failures: many(140, 11), failed: map[string]int{"Consul's quorum lost": 140},
			want: `which allows 136: 140 to 10.244.1.7:8080, 00:00:11.0 to 00:00:11.0`,
		},
		"any number to ended pods": {
			spans: []Span{span("Consul's quorum lost", 0, 58, true)}, failures: toEnded(many(6000, 11)), failed: map[string]int{"Consul's quorum lost": 6000},
		},
		"ended pods, where no pod was ended": {
			spans: []Span{span("Consul's quorum lost", 0, 58, false)}, failures: toEnded(many(140, 11)), want: "which allows 136",
		},
		"ended pods of a fault that doesn't keep them": {
			spans: []Span{span("deletion by force", 10, 10, false)}, failures: toEnded(many(51, 11)), want: "which allows 50",
		},
		"the other fault's": {
			spans: []Span{span("API server stopped", 0, 60, false), span("application killed", 20, 20, false)}, failures: failed(22),
			failed: map[string]int{"application killed": 1},
		},
	} {
		t.Run(name, func(t *testing.T) {
			got := Judge(test.spans, test.failures, 100)
			if said := strings.Join(got.Violations, "\n"); (test.want == "") != (said == "") || !strings.Contains(said, test.want) {
				t.Errorf("violations %q, want %q", said, test.want)
			}
			for name, n := range test.failed {
				if got.Failed[name] != n {
					t.Errorf("%d failures of %s, want %d", got.Failed[name], name, n)
				}
			}
		})
	}
	if got := Judge(nil, many(1000, 1), 100); len(got.Violations) != mostViolations+1 {
		t.Errorf("%d violations are spelled out", len(got.Violations))
	}
}
