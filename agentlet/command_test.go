package agentlet

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestMain has two commands for one key end the tests: which of them ran would be a matter of the order of the plan.
func TestMain(m *testing.M) {
	onKeyConflict = func(k key) { panic(fmt.Sprintf("two commands are planned for %v", k)) }
	os.Exit(m.Run())
}

// TestCommandsListsEachCommand holds the list of commands against what random states plan.
func TestCommandsListsEachCommand(t *testing.T) {
	known, keys := map[operation]bool{}, map[string]bool{}
	for _, c := range commands() {
		if c.operation() == "" || known[c.operation()] || c.key().name == "" {
			t.Errorf("%T is called %q, with the key %v", c, c.operation(), c.key())
		}
		known[c.operation()], keys[c.key().name] = true, true
		if bounded := c.policy().timeout > 0; bounded && isBlocking(c) {
			t.Errorf("%s waits for a change, and has a timeout", c.operation())
		}
		if want := c.operation() == "probe_container"; (c.key().subject() == "container") != want {
			t.Errorf("logs call the ID of %s that of a %s", c.operation(), c.key().subject())
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
