package chaos

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// Kind is the kind of a step.
type Kind string

// Kinds of steps.
const (
	Begin  Kind = "begin"
	End    Kind = "end"
	During Kind = "change"
	Quiet  Kind = "quiet"
)

// Step is a step of a walk.
type Step struct {
	// Number counts the steps from 1. Round counts the rounds, which end with a quiet moment.
	Number, Round int
	Kind          Kind
	// Name is the fault or the change; empty for a quiet moment.
	Name string
	// Node is the target node, counted from 0. Pick selects one of several pods, variants or replicas.
	Node, Pick int
	// Pause is the time before the step. For is the minimum duration of the fault: its end comes no earlier.
	Pause, For time.Duration
}

func (s Step) String() string {
	text := string(s.Kind)
	if s.Name != "" {
		text += " " + s.Name
	}
	if fault, ok := FaultNamed(s.Name); ok {
		if fault.Scope == OfNode {
			text += fmt.Sprintf(", node %d", s.Node+1)
		}
		if s.Kind == Begin && fault.Lasts() {
			text += fmt.Sprintf(", for %s", s.For)
		}
	}
	return text
}

// Limits of a round.
const (
	mostFaults  = 2
	mostChanges = 2
	longPause   = 5 * time.Second
)

// Walk is a random walk over faults and changes. The same seed and the same things result in the same walk.
type Walk struct {
	random *rand.Rand
	nodes  int
	has    []Thing

	number, round int
	active        []Step // faults that have begun and not ended
	begun         int    // faults of this round
	changed       int    // changes of this round
	used          map[string]int
}

// NewWalk returns the walk of a seed on a cluster with this number of nodes. The cluster has the common things, and more.
func NewWalk(seed uint64, nodes int, more ...Thing) *Walk {
	w := &Walk{random: rand.New(rand.NewPCG(seed, 0)), nodes: nodes, used: map[string]int{}, round: 1}
	w.has = append(slices.Clone(common), more...)
	for node := range nodes {
		for _, thing := range ofNode {
			w.has = append(w.has, thing.on(node))
		}
	}
	return w
}

// WithACLs reports whether the campaign of a seed uses the Consul with TLS, ACLs and logins; every fourth does.
func WithACLs(seed uint64) bool { return seed%4 == 0 }

// Next returns the next step, and assumes that the caller takes it.
func (w *Walk) Next() Step {
	step := w.choose()
	w.number++
	step.Number, step.Round = w.number, w.round
	switch step.Kind {
	case Begin:
		w.begun++
		w.used[step.Name]++
		if fault, _ := FaultNamed(step.Name); fault.Lasts() {
			w.active = append(w.active, step)
		}
	case During:
		w.changed++
		w.used[step.Name]++
	case End:
		w.active = slices.DeleteFunc(w.active, func(a Step) bool { return a.Name == step.Name && a.Node == step.Node })
	case Quiet:
		w.round++
		w.begun, w.changed = 0, 0
	}
	return step
}

// choose selects a step. Each round begins one or two faults, makes changes before, during and after them, ends the faults, and
// waits for a quiet moment.
func (w *Walk) choose() Step {
	if w.changed < mostChanges && w.random.IntN(3) == 0 {
		if step, ok := w.change(); ok {
			return step
		}
	}
	if w.begun == 0 || w.begun < mostFaults && w.random.IntN(2) == 0 {
		if step, ok := w.begin(); ok {
			return step
		}
	}
	if len(w.active) > 0 {
		step := w.active[w.random.IntN(len(w.active))]
		step.Kind, step.Pause = End, 0
		return step
	}
	return Step{Kind: Quiet}
}

// whole reports whether the cluster has a thing and no active fault has broken it.
func (w *Walk) whole(thing Thing) bool {
	return slices.Contains(w.has, thing) &&
		!slices.ContainsFunc(w.active, func(a Step) bool { return slices.Contains(taken(a), thing) })
}

func taken(a Step) []Thing { fault, _ := FaultNamed(a.Name); return on(a.Node, fault.Takes) }

func needed(a Step) []Thing { fault, _ := FaultNamed(a.Name); return on(a.Node, fault.Needs) }

func on(node int, things []Thing) []Thing {
	all := make([]Thing, len(things))
	for i, thing := range things {
		all[i] = thing.on(node)
	}
	return all
}

// possible reports whether a fault can begin: all things that it needs or takes are whole, and no active fault needs what it
// takes.
func (w *Walk) possible(s Step) bool {
	for _, thing := range append(needed(s), taken(s)...) {
		if !w.whole(thing) {
			return false
		}
	}
	return !slices.ContainsFunc(w.active, func(a Step) bool {
		return slices.ContainsFunc(needed(a), func(thing Thing) bool { return slices.Contains(taken(s), thing) })
	})
}

// begin selects one of the possible faults that were used least.
func (w *Walk) begin() (Step, bool) {
	var candidates []Step
	for _, fault := range faults {
		nodes := 1
		if fault.Scope == OfNode {
			nodes = w.nodes
		}
		for _, node := range w.random.Perm(nodes) {
			if step := (Step{Kind: Begin, Name: fault.Name, Node: node}); w.possible(step) {
				candidates = append(candidates, step)
				break
			}
		}
	}
	step, ok := w.seldom(candidates)
	if ok {
		fault, _ := FaultNamed(step.Name)
		step.For = between(w.random, fault.Min, fault.Max)
	}
	return step, ok
}

func (w *Walk) change() (Step, bool) {
	var candidates []Step
	for _, change := range changes {
		if !slices.ContainsFunc(change.Needs, func(thing Thing) bool { return !w.whole(thing) }) {
			candidates = append(candidates, Step{Kind: During, Name: change.Name})
		}
	}
	return w.seldom(candidates)
}

// seldom selects one of the candidates with the fewest uses, and draws the step's other values.
func (w *Walk) seldom(candidates []Step) (Step, bool) {
	if len(candidates) == 0 {
		return Step{}, false
	}
	fewest := w.used[slices.MinFunc(candidates, func(a, b Step) int { return w.used[a.Name] - w.used[b.Name] }).Name]
	candidates = slices.DeleteFunc(candidates, func(s Step) bool { return w.used[s.Name] > fewest })
	step := candidates[w.random.IntN(len(candidates))]
	step.Pick = w.random.IntN(1 << 16)
	step.Pause = between(w.random, 0, longPause)
	return step, true
}

// between returns a random duration, in tenths of a second.
func between(random *rand.Rand, from, to time.Duration) time.Duration {
	const unit = 100 * time.Millisecond
	return from + time.Duration(random.Int64N(int64((to-from)/unit)+1))*unit
}
