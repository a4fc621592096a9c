package agentlet

import (
	"context"
	"runtime"
	"testing"
)

// sent is a command that tells when it runs.
type sent struct {
	name    string
	changes bool
	ran     chan<- bool
}

func (c sent) key() key             { return key{name: c.name} }
func (c sent) operation() operation { return operation(c.name) }
func (c sent) policy() policy       { return policy{changesAgent: c.changes} }

func (c sent) run(context.Context, *Config) outcome {
	c.ran <- c.changes
	return outcome{}
}

// TestChangesAreSentFirst holds that commands which change the agent run before all others. The scheduler may decide otherwise once
// in a while.
func TestChangesAreSentFirst(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1)) // as an agentlet has
	const rounds = 100
	first := 0
	for range rounds {
		l := &loop{Registrar: New(Config{}), state: newState(testIdentity), inFlight: map[key]inFlight{}}
		close(l.done) // nobody handles the outcomes
		ran := make(chan bool, 4)
		p := newSchedule()
		for _, c := range []sent{{"register", true, ran}, {"update", true, ran}, {"read", false, ran}, {"watch", false, ran}} {
			p.work[c.key()] = c
		}
		l.reconcileWork(t.Context(), p)
		l.group.Wait()
		if one, two := <-ran, <-ran; one && two {
			first++
		}
	}
	if first < rounds*8/10 {
		t.Errorf("the changes came first in %d of %d rounds", first, rounds)
	}
}
