package agentlet

import (
	"cmp"
	"context"
	"log/slog"
	"time"
)

// operation is what a command does, as logs and metrics call it.
type operation string

// key of a command: at most one with the same key is in flight.
type key struct{ name, id string }

// subject is what the id is of, as logs call it.
func (k key) subject() string {
	if k.name == containerKey {
		return "container"
	}
	return "service"
}

func (k key) compare(other key) int {
	return cmp.Or(cmp.Compare(k.name, other.name), cmp.Compare(k.id, other.id))
}

// command is one request to somebody outside. It is planned on the loop and run off it, where it sees no state.
//
// A new one is a type in the file of its concern, and an entry of commands. The concern's part of the plan adds it to the
// schedule.
type command interface {
	key() key
	operation() operation
	policy() policy
	// run sends the request. All failures are in the outcome.
	run(ctx context.Context, ports *Config) outcome
}

// commands are one of each kind.
func commands() []command {
	return []command{
		getLeader{},
		listServices{},
		watchService{},
		register{},
		deregister{},
		updateReadiness{},
		updateHeartbeat{},
		readCatalog{},
		patchStatus{},
		createEvent{},
		probeContainer{},
		logIn{},
		logOut{},
	}
}

// starter is a command that the state takes note of when it starts.
type starter interface{ start(s *state) }

// superseder is a blocking command: it waits for a change at somebody else's, and is cancelled when it is no longer
// planned, or superseded by what is. All others end by themselves: a cancelled register could reach the agent after its
// deregister.
type superseder interface{ supersededBy(planned command) bool }

func isBlocking(c command) bool {
	_, ok := c.(superseder)
	return ok
}

// party is whom a command asks.
type party int

const (
	nodeAgent party = iota
	// consulServers are asked through the agent: to wait for them in vain says nothing of the agent.
	consulServers
	// elsewhere is the API server, or a container.
	elsewhere
)

// policy of a command: what holds for it while it runs, and for its failures.
type policy struct {
	// timeout bounds it; zero: its port does.
	timeout time.Duration
	asks    party
	// waitsForAgentLock: the agent answers only when it holds the lock under which it syncs. isCheckUpdate: a late answer
	// to it says no more than that.
	waitsForAgentLock, isCheckUpdate bool
	// changesAgent: what was read of the agent while it was in flight may be older or newer.
	changesAgent bool
	// absentIsSuccess: what it was to remove or to write to isn't there, which is an answer and no failure.
	// absentIsLoss: what it asks about was there, and the agent has lost it.
	absentIsSuccess, absentIsLoss bool
	// once: it is not tried again.
	once bool
	// maxBackoff and maxUnreachable bound the pause before the next try, the latter where nobody answered; zero: backoffAgent.
	maxBackoff, maxUnreachable time.Duration
	// pauseWhileUnlisted, if not zero, is the pause after a failure while it isn't known what the agent has. Such a
	// failure doesn't count: it says nothing of what can be done with a new connection.
	pauseWhileUnlisted time.Duration
}

// outcome of a command.
type outcome struct {
	err error
	// failure of what was asked about, such as a container's probe, which is none of the command.
	failure error
	// handle takes the outcome into the state; nil: nothing but the error is taken in.
	handle func(s *state, t turn)
}

// begun is what a command began in.
type begun struct{ login, lateGeneration int }

func (s *state) begun() begun { return begun{s.login.current.ID, s.lateGeneration} }

// turn is the handling of one outcome.
type turn struct {
	begun
	now time.Time
	// jitter spreads a duration, so that no two agentlets keep step.
	jitter  func(time.Duration) time.Duration
	log     *slog.Logger
	metrics *metrics
}

// schedule is what should be in flight now.
type schedule struct {
	work map[key]command
	// wanted are the keys with work, and those whose work waits.
	wanted map[key]bool
	// wake is when to plan again though nothing has happened; zero: never.
	wake time.Time
	// drained: the drain hooks may be answered. ended: the process was also told to end, has created its last event, and
	// has logged out.
	drained, ended bool
	// aborted: the end was announced, and never came.
	aborted bool
}

func newSchedule() schedule { return schedule{work: map[key]command{}, wanted: map[key]bool{}} }

// onKeyConflict is called with a key for which two commands are planned, which a test makes a panic.
var onKeyConflict = func(key) {}

// add puts a command into the schedule, or the end of its key's backoff.
func (p *schedule) add(s *state, now time.Time, c command) {
	k := c.key()
	p.want(c)
	if r := s.retries[k]; now.Before(r.at) {
		p.wakeAt(r.at)
		return
	}
	if _, taken := p.work[k]; taken {
		onKeyConflict(k)
	}
	p.work[k] = c
}

// want keeps what is known of a command's failures, also where it isn't added yet.
func (p *schedule) want(c command) { p.wanted[c.key()] = true }

func (p *schedule) has(k key) bool {
	_, ok := p.work[k]
	return ok
}

func (p *schedule) wakeAt(at time.Time) {
	if !at.IsZero() && (p.wake.IsZero() || at.Before(p.wake)) {
		p.wake = at
	}
}

// reached reports whether a time has come, and sees to it that it is noticed otherwise.
func (p *schedule) reached(now, at time.Time) bool {
	if now.Before(at) {
		p.wakeAt(at)
		return false
	}
	return true
}
