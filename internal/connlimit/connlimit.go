// Package connlimit limits the connections of an HTTP server that is open to the whole network, in total and per source address.
// It never rejects a new connection. Instead it closes the connection that has made no progress for the longest time.
//
// So a client that sends its request at once is served, however many others connect: it loses its place only after as many new
// connections as there are places, in total or for its source. Connections that Keep has marked are not closed for others.
package connlimit

import (
	"container/list"
	"context"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// takeTimeout is how long a peer may take to read the last answer. Until then its connection keeps its place. If it were closed
// at once, the kernel would hold the answer for a slow peer, for minutes and outside the limits.
const takeTimeout = 5 * time.Second

// Limits of a server. A connection was measured to take 15 to 30 KiB of memory, and 32 to 70 KiB over TLS, including garbage that
// is not collected yet.
type Limits struct {
	// Total is the maximum number of connections, without the kept ones.
	Total int
	// PerSource is the maximum number for one source: an IPv4 address, or the /64 of an IPv6 address, which is the usual prefix
	// of one machine.
	PerSource int
	// Kept is the maximum number of kept connections, KeptPerSource that for one source.
	Kept, KeptPerSource int
}

// Limiter limits the connections of one server.
type Limiter struct {
	limits      Limits
	takeTimeout time.Duration
	evicted     atomic.Uint64

	mu      sync.Mutex
	open    tally
	sources map[netip.Prefix]*tally
	order   list.List // of *conn, without the kept ones; the one with the oldest progress is first
}

// tally counts connections. A waiting connection has sent no complete request header since it was opened or last answered. A
// served connection has.
type tally struct{ waiting, served, kept int }

func (t *tally) evictable() int { return t.waiting + t.served }

// New returns a Limiter for one server.
func New(limits Limits) *Limiter {
	return &Limiter{limits: limits, takeTimeout: takeTimeout, sources: map[netip.Prefix]*tally{}}
}

// Evicted returns how many connections were closed to make room for others.
func (l *Limiter) Evicted() uint64 { return l.evicted.Load() }

// Serve makes the server accept a listener's connections within the limits. It replaces the server's ConnState and ConnContext.
func (l *Limiter) Serve(server *http.Server, on *net.TCPListener) error {
	l.hook(server)
	return server.Serve(&listener{on, l})
}

// ServeTLS is Serve over TLS, with the server's TLSConfig.
func (l *Limiter) ServeTLS(server *http.Server, on *net.TCPListener) error {
	l.hook(server)
	return server.ServeTLS(&listener{on, l}, "", "")
}

// Listen opens a TCP port for Serve or ServeTLS. It disables keep-alive probes, which cost three system calls per connection; the
// server's timeouts close silent connections.
func Listen(ctx context.Context, address string) (*net.TCPListener, error) {
	listener, err := (&net.ListenConfig{KeepAlive: -1}).Listen(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	return listener.(*net.TCPListener), nil //nolint:forcetypeassert // of a TCP address
}

type contextKey struct{}

func (l *Limiter) hook(server *http.Server) {
	server.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return context.WithValue(ctx, contextKey{}, plain(c))
	}
	server.ConnState = func(c net.Conn, state http.ConnState) {
		switch state {
		case http.StateActive:
			plain(c).progress(true)
		case http.StateIdle:
			plain(c).progress(false)
		case http.StateNew, http.StateClosed, http.StateHijacked:
		}
	}
}

// plain returns the connection below TLS.
func plain(c net.Conn) *conn {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = over.NetConn()
	}
	return c.(*conn) //nolint:forcetypeassert // of the limiter's own listener
}

// Keep protects the connection of a request's context from being closed for others, until release or the connection's end. It
// does nothing if the maximum of kept connections is reached, or if the server has no limiter.
func Keep(request context.Context) (release func()) {
	c, ok := request.Value(contextKey{}).(*conn)
	if !ok || !c.keep() {
		return func() {}
	}
	return c.release
}

// listener returns connections that count towards the limits.
type listener struct {
	*net.TCPListener
	limiter *Limiter
}

func (l *listener) Accept() (net.Conn, error) {
	// Let the server read a request that is already there, before the next connection can take this one's place.
	runtime.Gosched()
	accepted, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return l.limiter.admit(accepted), nil
}

// conn is a connection that counts towards the limits. Its limiter's lock guards its fields.
type conn struct {
	*net.TCPConn
	limiter *Limiter
	source  netip.Prefix
	place   *list.Element // nil if the connection is kept or closed
	served  bool
	kept    bool
	closing bool
	gone    bool
	look    *time.Timer // for checks whether the answer was taken
}

// admit counts a new connection, and closes another one if there are now too many.
func (l *Limiter) admit(accepted *net.TCPConn) *conn {
	c := &conn{TCPConn: accepted, limiter: l, source: sourceOf(accepted.RemoteAddr())}
	l.mu.Lock()
	if l.sources[c.source] == nil {
		l.sources[c.source] = &tally{}
	}
	l.add(c)
	victim := l.victim(l.sources[c.source], l.limits.PerSource, func(other *conn) bool { return other.source == c.source })
	if victim == nil {
		victim = l.victim(&l.open, l.limits.Total, func(*conn) bool { return true })
	}
	if victim != nil {
		l.drop(victim)
		l.evicted.Add(1)
	}
	l.mu.Unlock()
	if victim != nil {
		_ = abort(victim.TCPConn)
	}
	return c
}

// sourceOf returns the IPv4 address, or the /64 of the IPv6 address.
func sourceOf(remote net.Addr) netip.Prefix {
	at, ok := remote.(*net.TCPAddr)
	if !ok { // the connection was reset before it was accepted
		return netip.Prefix{}
	}
	address := at.AddrPort().Addr().Unmap().WithZone("")
	if address.Is6() {
		prefix, _ := address.Prefix(64)
		return prefix
	}
	return netip.PrefixFrom(address, address.BitLen())
}

// victim returns the connection to close if there are more than most; the newest is a waiting one. It takes the oldest of the
// waiting connections or of the served ones, whichever are more. Always taking a waiting one would let endless requests leave
// newcomers no place to send theirs.
func (l *Limiter) victim(among *tally, most int, is func(*conn) bool) *conn {
	if among.evictable() <= most {
		return nil
	}
	served := among.served >= among.waiting
	for e := l.order.Front(); e != nil; e = e.Next() {
		if c := e.Value.(*conn); c.served == served && is(c) {
			return c
		}
	}
	return nil
}

// add and drop change the order and the tallies.
func (l *Limiter) add(c *conn) {
	c.place = l.order.PushBack(c)
	l.count(c, 1)
}

func (l *Limiter) drop(c *conn) {
	if c.place != nil {
		l.order.Remove(c.place)
		c.place = nil
	}
	if c.look != nil {
		c.look.Stop()
	}
	l.count(c, -1)
	c.gone = true
	if *l.sources[c.source] == (tally{}) {
		delete(l.sources, c.source)
	}
}

func (l *Limiter) count(c *conn, by int) {
	for _, t := range []*tally{&l.open, l.sources[c.source]} {
		switch {
		case c.kept:
			t.kept += by
		case c.served:
			t.served += by
		default:
			t.waiting += by
		}
	}
}

// change updates the counts when a connection that is not closed changes its kind.
func (c *conn) change(to func()) {
	l := c.limiter
	l.count(c, -1)
	to()
	l.count(c, 1)
	switch {
	case c.kept && c.place != nil:
		l.order.Remove(c.place)
		c.place = nil
	case !c.kept && c.place == nil:
		c.place = l.order.PushBack(c)
	case !c.kept:
		l.order.MoveToBack(c.place)
	}
}

// progress records that a request's header is complete, or that the request was answered.
func (c *conn) progress(served bool) {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	if !c.gone {
		c.change(func() { c.served = served })
	}
}

func (c *conn) keep() bool {
	l := c.limiter
	l.mu.Lock()
	defer l.mu.Unlock()
	if c.gone || c.closing || c.kept || l.open.kept >= l.limits.Kept || l.sources[c.source].kept >= l.limits.KeptPerSource {
		return false
	}
	c.change(func() { c.kept = true })
	return true
}

func (c *conn) release() {
	c.limiter.mu.Lock()
	defer c.limiter.mu.Unlock()
	if !c.gone && c.kept {
		c.change(func() { c.kept = false })
	}
}

// Close ends the connection when the peer's machine has the whole answer, after takeTimeout at the latest. It returns before
// that; until then the connection keeps its place.
func (c *conn) Close() error {
	c.limiter.mu.Lock()
	if c.gone || c.closing {
		c.limiter.mu.Unlock()
		return nil
	}
	c.closing = true
	if c.kept {
		c.change(func() { c.kept = false })
	}
	c.limiter.mu.Unlock()
	if c.CloseWrite() != nil {
		return c.end((*net.TCPConn).Close)
	}
	_ = c.SetReadDeadline(time.Unix(1, 0)) // pending reads end at once
	return c.endWhenTaken(0, 5*time.Millisecond)
}

// endWhenTaken closes a connection if its answer was taken, or checks again after a pause.
func (c *conn) endWhenTaken(waited, pause time.Duration) error {
	if taken(c.TCPConn) {
		return c.end((*net.TCPConn).Close)
	}
	l := c.limiter
	if waited >= l.takeTimeout {
		return c.end(abort)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if !c.gone {
		c.look = time.AfterFunc(pause, func() { _ = c.endWhenTaken(waited+pause, min(2*pause, l.takeTimeout/10)) })
	}
	return nil
}

// end closes a connection and frees its place.
func (c *conn) end(how func(*net.TCPConn) error) error {
	c.limiter.mu.Lock()
	if !c.gone {
		c.limiter.drop(c)
	}
	c.limiter.mu.Unlock()
	return how(c.TCPConn)
}

// abort closes a connection with a reset: data that the peer hasn't acknowledged is dropped.
func abort(c *net.TCPConn) error {
	return errors.Join(c.SetLinger(0), c.Close())
}
