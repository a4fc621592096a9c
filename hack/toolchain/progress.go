package toolchain

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// What is over before firstShown is not worth a line. Then a terminal's line is rewritten each second; a log gets a line often
// enough that nobody takes the build for hung.
const (
	firstShown       = 3 * time.Second
	terminalInterval = time.Second
	logInterval      = 30 * time.Second
)

// Progress shows how far something is, from its beginning to its end.
type Progress struct {
	log      io.Writer
	label    string
	tell     func(now time.Time) string
	terminal bool
	start    time.Time
	shown    bool
	end      chan struct{}
	ended    chan struct{}
}

// StartProgress begins to show on log, behind a label, what tell says.
func StartProgress(log io.Writer, label string, tell func(now time.Time) string) *Progress {
	p := &Progress{
		log: log, label: label, tell: tell, terminal: IsTerminal(log), start: time.Now(),
		end: make(chan struct{}), ended: make(chan struct{}),
	}
	go p.run()
	return p
}

func (p *Progress) run() {
	defer close(p.ended)
	interval := logInterval
	if p.terminal {
		interval = terminalInterval
	}
	timer := time.NewTimer(firstShown)
	defer timer.Stop()
	for {
		select {
		case <-p.end:
			return
		case now := <-timer.C:
			p.print(p.tell(now))
			timer.Reset(interval)
		}
	}
}

// Stop ends the display with an outcome, if there was anything to see.
func (p *Progress) Stop(outcome string) (shown bool) {
	close(p.end)
	<-p.ended
	if p.shown {
		p.print(fmt.Sprintf("%s after %s", outcome, time.Since(p.start).Round(time.Second)))
	}
	if p.shown && p.terminal {
		fmt.Fprintln(p.log)
	}
	return p.shown
}

func (p *Progress) print(state string) {
	p.shown = true
	line := p.label + ": " + state
	if p.terminal {
		fmt.Fprint(p.log, "\r\x1b[K"+line)
		return
	}
	fmt.Fprintln(p.log, line)
}

// IsTerminal reports whether lines that are written there can be rewritten.
func IsTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// lines calls hear with each line that is written, and keeps for the error what hear doesn't take. It is safe for
// concurrent use.
type lines struct {
	hear func(line string) bool

	mu      sync.Mutex
	partial []byte
	rest    tail
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.partial = append(l.partial, p...)
	for {
		line, rest, found := bytes.Cut(l.partial, []byte("\n"))
		if !found {
			return len(p), nil
		}
		if !l.hear(string(line)) {
			_, _ = l.rest.Write(append(line, '\n'))
		}
		l.partial = rest
	}
}

// String is what hear didn't take.
func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.rest.String() + string(l.partial)
}

// tail keeps the last limit bytes that were written to it.
type tail struct {
	limit   int
	content []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.content = append(t.content, p...)
	if excess := len(t.content) - t.limit; excess > 0 {
		t.content = append(t.content[:0], t.content[excess:]...)
	}
	return len(p), nil
}

func (t *tail) String() string { return string(t.content) }
