package chaos

import "testing"

// TestKept checks the kept rounds: each fault exists by that name, and each that begins also ends.
func TestKept(t *testing.T) {
	names := map[string]bool{}
	for _, run := range Kept() {
		if names[run.Name()+run.Why] || run.Why == "" {
			t.Errorf("%s is kept twice, or it isn't said why", run.Name())
		}
		names[run.Name()+run.Why] = true
		if (run.Round == nil) != (run.Duration > 0) {
			t.Errorf("%s: a walk has a duration, a round has none", run.Name())
		}
		active := map[string]Step{}
		for _, step := range run.Round {
			_, change := ChangeNamed(step.Name)
			fault, begins := FaultNamed(step.Name)
			switch step.Kind {
			case Begin:
				if !begins || step.For < fault.Min || step.For > fault.Max {
					t.Errorf("%s: no such fault, or one that doesn't last so long: %s", run.Name(), step)
				}
				if fault.Lasts() {
					active[step.Name] = step
				}
			case End:
				if begun, ok := active[step.Name]; !ok || begun.Node != step.Node || begun.For != step.For {
					t.Errorf("%s ends what has not begun: %s", run.Name(), step)
				}
				delete(active, step.Name)
			case During:
				if !change {
					t.Errorf("%s: no such change: %s", run.Name(), step)
				}
			case Quiet:
				t.Errorf("%s: a quiet moment comes by itself", run.Name())
			}
		}
		if len(active) > 0 {
			t.Errorf("%s never ends %v", run.Name(), active)
		}
		steps := run.Begin(2, all...)
		for range run.Round {
			if steps.Next().Kind == Quiet {
				t.Errorf("%s is quiet too early", run.Name())
			}
		}
		if run.Round != nil && steps.Next().Kind != Quiet {
			t.Errorf("%s never comes to rest", run.Name())
		}
	}
}
