package chaos

import (
	"slices"
	"testing"
)

// all are the things of a cluster that has everything.
var all = []Thing{ThreeServers, OneServer, OwnAgents, PacketFilter, MessageBus}

func steps(w *Walk, n int) []Step {
	taken := make([]Step, n)
	for i := range taken {
		taken[i] = w.Next()
	}
	return taken
}

func TestSameSeedSameWalk(t *testing.T) {
	first, again := steps(NewWalk(7, 2, all...), 1000), steps(NewWalk(7, 2, all...), 1000)
	if !slices.Equal(first, again) {
		t.Error("a seed gave two walks")
	}
	if slices.Equal(first, steps(NewWalk(8, 2, all...), 1000)) {
		t.Error("two seeds gave one walk")
	}
}

func TestEveryFaultAndChangeAppears(t *testing.T) {
	for seed := range uint64(20) {
		seen := map[string]int{}
		for _, step := range steps(NewWalk(seed, 2, all...), 400) {
			if step.Kind == Begin || step.Kind == During {
				seen[step.Name]++
			}
		}
		for _, fault := range faults {
			if seen[fault.Name] == 0 {
				t.Errorf("seed %d: %q never begins", seed, fault.Name)
			}
		}
		for _, change := range changes {
			if seen[change.Name] == 0 {
				t.Errorf("seed %d: %q never happens", seed, change.Name)
			}
		}
	}
}

func TestNoStepWithoutItsPrerequisites(t *testing.T) {
	for _, missing := range all {
		t.Run(string(missing), func(t *testing.T) {
			has := slices.DeleteFunc(slices.Clone(all), func(thing Thing) bool { return thing == missing })
			for _, step := range steps(NewWalk(3, 2, has...), 2000) {
				if step.Kind == Begin && slices.Contains(needed(step), missing) {
					t.Fatalf("step %d: %s", step.Number, step)
				}
			}
		})
	}
	// Keep a separate model of what is broken, independent of the walk's own.
	for seed := range uint64(20) {
		broken, needs := map[Thing]string{}, map[Thing]int{}
		for _, step := range steps(NewWalk(seed, 3, all...), 2000) {
			switch step.Kind {
			case Begin:
				fault, _ := FaultNamed(step.Name)
				for _, thing := range append(needed(step), taken(step)...) {
					if by := broken[thing]; by != "" {
						t.Fatalf("seed %d, step %d: %s, while %q has %q", seed, step.Number, step, by, thing)
					}
				}
				if !fault.Lasts() {
					continue
				}
				for _, thing := range taken(step) {
					if needs[thing] > 0 {
						t.Fatalf("seed %d, step %d: %s takes %q, which another fault needs", seed, step.Number, step, thing)
					}
					broken[thing] = step.Name
				}
				for _, thing := range needed(step) {
					needs[thing]++
				}
			case End:
				for _, thing := range taken(step) {
					delete(broken, thing)
				}
				for _, thing := range needed(step) {
					needs[thing]--
				}
			case During:
				change, _ := ChangeNamed(step.Name)
				for _, thing := range change.Needs {
					if by := broken[thing]; by != "" {
						t.Fatalf("seed %d, step %d: %s, while %q has %q", seed, step.Number, step, by, thing)
					}
				}
			case Quiet:
			}
		}
	}
}

func TestEachFaultIsUndone(t *testing.T) {
	type key struct {
		name string
		node int
	}
	for seed := range uint64(20) {
		active := map[key]Step{}
		rounds := 0
		for _, step := range steps(NewWalk(seed, 2, all...), 2000) {
			fault, _ := FaultNamed(step.Name)
			switch step.Kind {
			case Begin:
				if fault.Lasts() {
					active[key{step.Name, step.Node}] = step
				}
				if step.For < fault.Min || step.For > fault.Max {
					t.Errorf("seed %d, step %d lasts %s, want %s to %s", seed, step.Number, step.For, fault.Min, fault.Max)
				}
			case End:
				begun, ok := active[key{step.Name, step.Node}]
				if !ok || begun.Pick != step.Pick || begun.For != step.For {
					t.Fatalf("seed %d, step %d ends what has not begun: %s", seed, step.Number, step)
				}
				delete(active, key{step.Name, step.Node})
			case Quiet:
				rounds++
				if len(active) > 0 {
					t.Fatalf("seed %d, step %d: quiet with %v", seed, step.Number, active)
				}
			case During:
			}
		}
		if rounds < 300 {
			t.Errorf("seed %d: %d quiet moments in 2,000 steps", seed, rounds)
		}
	}
}

func TestTable(t *testing.T) {
	names := map[string]bool{}
	for _, fault := range Faults() {
		if names[fault.Name] {
			t.Errorf("two faults %q", fault.Name)
		}
		names[fault.Name] = true
		if fault.Lasts() != (len(fault.Takes) > 0) {
			t.Errorf("%s: what lasts takes something, and the other way round", fault.Name)
		}
		if fault.Min > fault.Max {
			t.Errorf("%s lasts %s to %s", fault.Name, fault.Min, fault.Max)
		}
	}
	for _, change := range Changes() {
		if names[change.Name] {
			t.Errorf("two of the name %q", change.Name)
		}
	}
}
