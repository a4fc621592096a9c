package agentlet

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"
)

// login is the registrar's standing with Consul's ACL system.
type login struct {
	// needed: without a session Consul shows and takes nothing.
	needed bool
	// current is the session in use; its ID is 0 before the first one. lost: Consul doesn't know its token any more.
	current Session
	lost    bool
	// renewAt is when to log in again; zero: never, or at once where there is no session to use.
	renewAt time.Time
	// old sessions wait for their end, from oldAt on: what was begun with them may be under way until then.
	old   []int
	oldAt time.Time
	// losses in a row, each soon after its login, which was at begunAt.
	losses  int
	begunAt time.Time
}

// usable reports whether calls are allowed what the registrar is allowed.
func (l *login) usable() bool { return !l.needed || l.current.ID != 0 && !l.lost }

// all sessions that are there to be ended, the one in use last.
func (l *login) all() []int {
	if l.current.ID == 0 || l.lost {
		return l.old
	}
	return append(slices.Clone(l.old), l.current.ID)
}

// Times of the login. After a loss everybody has to log in anew: nobody does in step, nor again and again with a Consul that
// forgets its tokens at once.
const (
	reloginPause = 5 * time.Second
	reloginMax   = time.Minute
	oldPause     = 10 * time.Second
	// endPause is between the logins of a pod that ends, which has no time for reloginPause, where Consul forgets each at once.
	endPause = time.Second
	// deniedPause is after a denied registration: what a login may do is decided when it is made.
	deniedPause = time.Minute
	// logoutPatience is how long a process that was told to end waits for its logout.
	logoutPatience = 2 * time.Second
	loginTimeout   = 10 * time.Second // Consul may ask the API server
)

// planLogin sees to a session, and reports whether there is one to use. One that should be renewed is used on meanwhile:
// renewal is a new login, and every instance is put again with the new session, because Consul keeps the token with it.
func planLogin(s *state, now time.Time, p *schedule) bool {
	l := &s.login
	switch {
	case !l.needed:
		return true
	case s.terminating():
		if !l.usable() && p.reached(now, l.begunAt.Add(endPause)) {
			p.add(s, now, logIn{})
		}
	case l.usable() && l.renewAt.IsZero(), !s.conn.hasLeader():
	case p.reached(now, l.renewAt):
		p.add(s, now, logIn{})
	}
	return l.usable()
}

// planOldLogout ends sessions that were followed by another one, once no instance hangs on them.
func planOldLogout(s *state, now time.Time, p *schedule) {
	if len(s.login.old) == 0 || !p.reached(now, s.login.oldAt) {
		return
	}
	for _, i := range s.instances {
		if i.agent != absent && i.login != s.login.current.ID {
			return
		}
	}
	p.add(s, now, logOut{session: s.login.old[0]})
}

// planLastLogout ends every session once nothing of the pod is at the agent. While something is it needs its token: with
// a dead one its checks could not turn critical in the catalog, and a session that stays runs out by itself.
func planLastLogout(s *state, now time.Time, p *schedule) {
	if open := s.login.all(); len(open) > 0 && s.removed() {
		p.add(s, now, logOut{session: open[0]})
	}
}

// loggedOut reports whether a process that may end has no logout left to wait for.
func (s *state) loggedOut(now, mayEnd time.Time, p *schedule) bool {
	if len(s.login.all()) == 0 || !s.removed() || errors.Is(s.retries[(logOut{}).key()].err, ErrUnreachable) {
		return true
	}
	return p.reached(now, mayEnd.Add(logoutPatience))
}

// logIn begins a session.
type logIn struct{}

func (logIn) key() key             { return key{name: "login"} }
func (logIn) operation() operation { return "login" }
func (logIn) policy() policy {
	return policy{timeout: loginTimeout, asks: consulServers, maxBackoff: backoffOther}
}

func (logIn) run(ctx context.Context, ports *Config) outcome {
	began, err := ports.Login.Login(ctx)
	return outcome{err: err, handle: func(s *state, t turn) {
		if err == nil {
			s.handleLogin(began, t)
		}
	}}
}

// handleLogin takes in a session, which may be the one in use.
func (s *state) handleLogin(began Session, t turn) {
	l := &s.login
	if l.current.ID != began.ID {
		t.log.Info("logged in", "session", began.ID, "renew", began.Renew)
		maps.DeleteFunc(s.retries, func(_ key, failed retry) bool { return errors.Is(failed.err, ErrUnknownToken) })
		if l.current.ID != 0 && !l.lost {
			l.old, l.oldAt = append(l.old, l.current.ID), t.now.Add(oldPause)
		}
		l.begunAt = t.now
	}
	l.current, l.lost, l.renewAt = began, false, time.Time{}
	if began.Renew > 0 {
		l.renewAt = t.now.Add(t.jitter(began.Renew))
	}
}

// logOut ends a session.
type logOut struct{ session int }

func (logOut) key() key             { return key{name: "logout"} }
func (logOut) operation() operation { return "logout" }
func (logOut) policy() policy {
	return policy{timeout: agentTimeout, asks: consulServers, absentIsSuccess: true}
}

func (c logOut) run(ctx context.Context, ports *Config) outcome {
	err := ports.Login.Logout(ctx, c.session)
	return outcome{err: err, handle: func(s *state, t turn) {
		if err == nil {
			t.log.Info("logged out", "session", c.session)
		}
		if err == nil || errors.Is(err, ErrAbsent) {
			s.handleLogout(c.session)
		}
	}}
}

func (s *state) handleLogout(ended int) {
	l := &s.login
	l.old = slices.DeleteFunc(l.old, func(id int) bool { return id == ended })
	if l.current.ID == ended {
		l.current = Session{}
	}
}

// observeDenial takes in that Consul doesn't know the token of the session in use any more, or that it may not do what it should.
// What is said of an earlier session says nothing.
func (s *state) observeDenial(c command, err error, t turn) {
	l := &s.login
	if !l.usable() || t.login != l.current.ID || c.key() == (logIn{}).key() || c.key() == (logOut{}).key() {
		return
	}
	_, registers := c.(register)
	switch {
	case errors.Is(err, ErrUnknownToken):
		if l.losses++; t.now.Sub(l.begunAt) > reloginMax {
			l.losses = 0
		}
		l.lost, l.renewAt = l.needed, t.now.Add(t.jitter(min(reloginPause<<min(l.losses, 8), reloginMax)))
	case errors.Is(err, ErrDenied) && registers:
		if again := t.now.Add(t.jitter(deniedPause)); l.renewAt.IsZero() || again.Before(l.renewAt) {
			l.renewAt = again
		}
	}
}

// loginFailure is why Consul's ACL system doesn't let the registrar in, or nil.
func loginFailure(s *state) error {
	if err := s.retries[(logIn{}).key()].err; err != nil && !s.login.usable() {
		return err
	}
	return s.failures(func(_ key, err error) bool { return errors.Is(err, ErrUnknownToken) })
}
