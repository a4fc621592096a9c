package agentlet

import (
	"context"
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// retry keeps a key from hurrying after a failure.
type retry struct {
	failures int
	at       time.Time
	err      error
	// logged are the constant parts of the different errors since the last success, in their order; they may take turns.
	logged []string
}

// maxDistinctErrors bounds how many different errors of one key are logged.
const maxDistinctErrors = 8

// isNew reports whether an error was not logged since the last success.
func (r retry) isNew(err error) bool {
	return len(r.logged) < maxDistinctErrors && !slices.Contains(r.logged, constant(err.Error()))
}

// generated matches what programs make up anew for each try: names of temporary files, request IDs, times. Six characters leave
// ports and HTTP statuses alone.
var generated = regexp.MustCompile(`[0-9a-fA-F-]{6,}`)

// constant is the part of a text that stays the same from try to try.
func constant(text string) string { return generated.ReplaceAllLiteralString(text, "#") }

// Backoff doubles from first to a bound: short for the node's own agent, so that a restarted one is noticed within
// seconds, longer for what only a person can mend, and for the API server, which all pods share.
const (
	backoffFirst = 200 * time.Millisecond
	backoffAgent = 4 * time.Second
	backoffOther = 30 * time.Second
	// backoffBreaking is for what breaks the connection again and again, which costs a search for the agent each time, and
	// for updates that come late again and again, on top of their own wait.
	backoffBreaking = 10 * time.Second
)

func backoff(failures int, p policy, err error) time.Duration {
	bound := backoffAgent
	switch {
	case isRejected(err):
		bound = backoffOther
	case p.maxBackoff > 0:
		bound = p.maxBackoff
	case p.maxUnreachable > 0 && errors.Is(err, ErrUnreachable):
		bound = p.maxUnreachable
	}
	return min(backoffFirst<<min(failures, 16), bound)
}

// handleOutcome takes in what came of a command.
func (s *state) handleOutcome(c command, o outcome, t turn) {
	if errors.Is(o.err, context.Canceled) {
		return // ended by ourselves, says nothing
	}
	p := c.policy()
	wasListed := s.conn.listed
	if p.changesAgent {
		s.writeGeneration++
	}
	s.observeRefusal(c, o.err, t.now)
	s.observeDenial(c, o.err, t)
	s.observeConn(p, o.err, t.begun)
	before := s.keepRetry(c, o.err, wasListed, t)
	logFailure(c, before, o.err, t)
	if o.handle != nil {
		o.handle(s, t)
	}
}

// logFailure logs a failure when it begins and when it is over; before is what was known of the key's failures.
func logFailure(c command, before retry, err error, t turn) {
	switch absent := errors.Is(err, ErrAbsent); {
	case err == nil, absent && c.policy().absentIsSuccess:
		if before.failures > 0 {
			t.log.Info("recovered", "failures", before.failures)
		}
	case absent && c.policy().absentIsLoss:
		t.log.Warn("the Consul agent has lost an instance or a check")
	case before.isNew(err):
		t.log.Warn("failed", "error", err)
	default:
		t.log.Debug("failed", "error", err)
	}
}

// keepRetry counts failures, and returns what was known of them before. wasListed: it was known what the agent has.
func (s *state) keepRetry(c command, err error, wasListed bool, t turn) (before retry) {
	k, p := c.key(), c.policy()
	before = s.retries[k]
	if p.once || err == nil || p.absentIsSuccess && errors.Is(err, ErrAbsent) {
		delete(s.retries, k)
		return before
	}
	was := before
	next := retry{failures: was.failures + 1, err: err, logged: was.logged}
	if was.isNew(err) {
		next.logged = append(next.logged, constant(err.Error()))
	}
	if was.err != nil && constant(was.err.Error()) == constant(err.Error()) {
		next.err = was.err // or each try would change what the gate says
	}
	if errors.Is(was.err, ErrLate) && !errors.Is(err, ErrLate) {
		was.failures, next.failures = 0, 1 // the trouble is another one, and may be over sooner
	}
	pause := backoff(was.failures, p, err)
	if p.pauseWhileUnlisted > 0 && !wasListed {
		next.failures, pause = max(was.failures, 1), p.pauseWhileUnlisted
	}
	next.at = t.now.Add(t.jitter(pause))
	s.retries[k] = next
	return before
}

// dropRetries forgets the failures of what nobody wants any more, such as a refused registration that was taken back:
// the gate would report them for ever. It reports whether there were any. While the agent isn't known well enough to
// plan, and until its backoff is over, each is kept.
func (s *state) dropRetries(p *schedule, now time.Time) (dropped bool) {
	if s.terminating() || !s.agentKnown() {
		return false
	}
	for k, r := range s.retries {
		if !p.wanted[k] && p.reached(now, r.at) {
			delete(s.retries, k)
			dropped = true
		}
	}
	return dropped
}

// hurryRetries lets what failed with the old connection be tried with the new one at once. What has failed over several of
// them keeps its pace: it may be what breaks them.
func (s *state) hurryRetries(now time.Time) {
	for k, r := range s.retries {
		switch {
		case k.id == "":
		case !errors.Is(r.err, ErrUnreachable):
			delete(s.retries, k)
		case r.failures == 1:
			r.at = now
			s.retries[k] = r
		}
	}
}

// failures joins the errors that are being retried and match, in the order of their keys: a message that followed a map's order
// would change by itself, and be written for ever. Nil when there are none.
func (s *state) failures(match func(key, error) bool) error {
	if len(s.retries) == 0 {
		return nil
	}
	var found []string
	var first error
	for _, k := range slices.SortedFunc(maps.Keys(s.retries), key.compare) {
		err := s.retries[k].err
		if !match(k, err) || slices.Contains(found, err.Error()) {
			continue
		}
		if first == nil {
			first = err
		}
		found = append(found, err.Error())
	}
	if len(found) < 2 {
		return first
	}
	return errors.New(strings.Join(found, "; "))
}

// cause is why the last try of a command failed, for the end of a message; empty when it didn't.
func (s *state) cause(c command) string {
	if err := s.retries[c.key()].err; err != nil {
		return ": " + err.Error()
	}
	return ""
}

func isRejected(err error) bool { return errors.Is(err, ErrRejected) }
