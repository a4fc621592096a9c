package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/time/rate"
)

// sent is what a flood's connections can send.
var sent = map[string]string{
	"silent":  "",
	"half":    "GET / HTTP/1.1\r\nHost: x\r\nX-Half: " + strings.Repeat("x", 2000), // a header without an end
	"metrics": "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n",                          // a request whose answer isn't read
}

// Flooded is what a flood prints at its end.
type Flooded struct {
	Opened, Failed int64
	Most           int64 // maximum number of open connections
}

// flood keeps connections to an address open for a while, and replaces each that is closed.
func flood(args []string) error {
	flags := flag.NewFlagSet("flood", flag.ContinueOnError)
	to := flags.String("to", "", "host:port")
	connections := flags.Int("connections", 100, "how many are to be open at once")
	perSecond := flags.Int("rate", 100, "how many are opened in a second, at the most")
	lasts := flags.Duration("for", time.Second, "how long")
	what := flags.String("send", "silent", "silent, half or metrics")
	overTLS := flags.Bool("tls", false, "TLS, with a handshake that is finished before something is sent")
	from := flags.String("from", "", "first of the addresses to come from; the machine's own when empty")
	sources := flags.Int("sources", 1, "how many addresses to come from")
	if err := flags.Parse(args); err != nil {
		return err
	}
	text, known := sent[*what]
	if !known {
		return fmt.Errorf("-send=%s: want silent, half or metrics", *what)
	}
	addresses := make([]net.IP, 0, *sources)
	if *from != "" {
		first, err := netip.ParseAddr(*from)
		if err != nil {
			return fmt.Errorf("-from=%s: %w", *from, err)
		}
		for ; len(addresses) < *sources; first = first.Next() {
			addresses = append(addresses, first.AsSlice())
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, *lasts)
	defer cancel()
	f := flooder{
		to:    *to,
		text:  text,
		tls:   *overTLS,
		reads: *what != "metrics",
		pace:  rate.NewLimiter(rate.Limit(*perSecond), max(1, *perSecond/100)),
	}
	var group sync.WaitGroup
	for i := range *connections {
		dialer := &net.Dialer{Timeout: 5 * time.Second}
		if !f.reads {
			dialer.Control = smallBuffer
		}
		if len(addresses) > 0 {
			dialer.LocalAddr = &net.TCPAddr{IP: addresses[i%len(addresses)]}
		}
		group.Go(func() {
			for f.pace.Wait(ctx) == nil {
				f.one(ctx, dialer)
			}
		})
	}
	group.Wait()
	return json.NewEncoder(os.Stdout).Encode(Flooded{Opened: f.opened.Load(), Failed: f.failed.Load(), Most: f.most.Load()})
}

type flooder struct {
	to, text string
	tls      bool
	reads    bool
	pace     *rate.Limiter

	opened, failed, open, most atomic.Int64
}

// one opens a connection and keeps it until it is closed.
func (f *flooder) one(ctx context.Context, dialer *net.Dialer) {
	c, err := dialer.DialContext(ctx, "tcp", f.to)
	if err != nil {
		if ctx.Err() == nil {
			f.failed.Add(1)
		}
		return
	}
	f.opened.Add(1)
	now := f.open.Add(1)
	for most := f.most.Load(); now > most && !f.most.CompareAndSwap(most, now); most = f.most.Load() {
	}
	defer f.open.Add(-1)
	defer context.AfterFunc(ctx, func() { c.Close() })()
	defer c.Close()
	if f.tls {
		c = tls.Client(c, &tls.Config{InsecureSkipVerify: true}) //nolint:gosec // whoever it is
	}
	if _, err := io.WriteString(c, f.text); err != nil {
		return
	}
	if f.reads {
		_, _ = io.Copy(io.Discard, c) // until it is closed
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(unread):
	}
}

// unread is how long an answer is not read.
const unread = 5 * time.Second

// smallBuffer sets a minimal receive buffer, so that the machine accepts almost nothing of an answer that its program doesn't
// read.
func smallBuffer(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) { _ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 1) })
}
