// Package connlimit bounds the connections of an HTTP server that anybody on the network can reach, in all and for each source
// address. It never turns a newcomer away: it closes the connection that has made no progress for the longest time.
//
// So a client that sends its request at once is served however many others come: it loses its place only when as many others have
// come after it as there are places, in all or for its source. Connections that are kept, by Keep, are not closed for others.
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

// takeTimeout is how long a peer may take to read the last answer. Until then its connection keeps its place: closed at
// once, it would be the kernel that holds the answer for a peer that doesn't read, for minutes and out of bounds.
const takeTimeout = 5 * time.Second

// Limits of a server. A connection was measured to take 15 to 30 KiB of memory, and over TLS 32 to 70, with what the
// garbage collector has not collected yet.
type Limits struct {
	// Total is the number of connections, without those that are kept.
	Total int
	// PerSource is the same for one source: an IPv4 address, or the /64 of an IPv6 address, which is what one machine is given.
	PerSource int
	// Kept is the number of connections that can be kept, KeptPerSource the same for one source.
	Kept, KeptPerSource int
}

// Limiter bounds the connections of one server.
type Limiter struct {
	limits      Limits
	takeTimeout time.Duration
	evicted     atomic.Uint64

	mu      sync.Mutex
	open    tally
	sources map[netip.Prefix]*tally
	order   list.List // of *conn, without those that are kept: that whose last progress is the longest ago comes first
}

// tally counts connections. A waiting one has sent no whole request header since it was opened or answered, a served one has.
type tally struct{ waiting, served, kept int }

func (t *tally) evictable() int { return t.waiting + t.served }

// New returns a Limiter for one server.
func New(limits Limits) *Limiter {
	return &Limiter{limits: limits, takeTimeout: takeTimeout, sources: map[netip.Prefix]*tally{}}
}

// Evicted is how many connections were closed to make room for others.
func (l *Limiter) Evicted() uint64 { return l.evicted.Load() }

// Serve has the server serve a listener's connections within the limits. The server's ConnState and ConnContext are the
// limiter's.
func (l *Limiter) Serve(server *http.Server, on *net.TCPListener) error {
	l.hook(server)
	return server.Serve(&listener{on, l})
}

// ServeTLS is Serve over TLS, with the server's TLSConfig.
func (l *Limiter) ServeTLS(server *http.Server, on *net.TCPListener) error {
	l.hook(server)
	return server.ServeTLS(&listener{on, l}, "", "")
}

// Listen opens a TCP port for Serve or ServeTLS. It sends no keep-alive probes, which cost each connection three system
// calls: what is silent is closed by the server's timeouts.
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

// plain is the connection below TLS.
func plain(c net.Conn) *conn {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = over.NetConn()
	}
	return c.(*conn) //nolint:forcetypeassert // of the limiter's own listener
}

// Keep has the connection of a request's context not be closed for others, as long as there is a place for one that is
// kept; until release, or the connection's end. It does nothing for a server without a limiter.
func Keep(request context.Context) (release func()) {
	c, ok := request.Value(contextKey{}).(*conn)
	if !ok || !c.keep() {
		return func() {}
	}
	return c.release
}

// listener hands out connections that count.
type listener struct {
	*net.TCPListener
	limiter *Limiter
}

func (l *listener) Accept() (net.Conn, error) {
	// Each connection is looked at, for a request that is there already, before the next one can take its place.
	runtime.Gosched()
	accepted, err := l.AcceptTCP()
	if err != nil {
		return nil, err
	}
	return l.limiter.admit(accepted), nil
}

// conn is a connection that counts. Its limiter's lock guards its fields.
type conn struct {
	*net.TCPConn
	limiter *Limiter
	source  netip.Prefix
	place   *list.Element // nil when it is kept or gone
	served  bool
	kept    bool
	closing bool
	gone    bool
	look    *time.Timer // for the answer's being taken
}

// admit counts a new connection, and closes another one where there are too many now.
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

// sourceOf is the IPv4 address, or the /64 of the IPv6 address.
func sourceOf(remote net.Addr) netip.Prefix {
	at, ok := remote.(*net.TCPAddr)
	if !ok { // of a connection that was reset before it was accepted
		return netip.Prefix{}
	}
	address := at.AddrPort().Addr().Unmap().WithZone("")
	if address.Is6() {
		prefix, _ := address.Prefix(64)
		return prefix
	}
	return netip.PrefixFrom(address, address.BitLen())
}

// victim is the connection that is to be closed among more than most, of which the newest is one that waits. Of the
// others, those that wait or those that are served, whichever are more, give their oldest. Were it always one that
// waits, requests that never end would leave newcomers no place to send theirs from.
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

// change has a connection that is not gone counted as something else, from now on.
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

// progress notes that a request's header is complete, or that it has been answered.
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

// Close ends the connection when the peer's machine has all of the answer, in takeTimeout at the latest. It returns
// before that; until then the connection keeps its place.
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
	_ = c.SetReadDeadline(time.Unix(1, 0)) // whoever still reads is told of the end
	return c.endWhenTaken(0, 5*time.Millisecond)
}

// endWhenTaken ends a connection, or looks again after a pause.
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

// end closes a connection and gives its place back.
func (c *conn) end(how func(*net.TCPConn) error) error {
	c.limiter.mu.Lock()
	if !c.gone {
		c.limiter.drop(c)
	}
	c.limiter.mu.Unlock()
	return how(c.TCPConn)
}

// abort closes a connection by a reset: what its peer hasn't taken is dropped.
func abort(c *net.TCPConn) error {
	return errors.Join(c.SetLinger(0), c.Close())
}
