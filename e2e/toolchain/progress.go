package toolchain

import (
	"fmt"
	"io"
	"os"
	"time"
)

// Update intervals: a terminal's line is rewritten each second; a log gets a line often enough to show that the build is not
// stuck.
const (
	terminalInterval = time.Second
	logInterval      = 30 * time.Second
)

// progress shows how long an operation has been running.
type progress struct {
	log      io.Writer
	what     string
	terminal bool
	start    time.Time
	end      chan struct{}
	ended    chan struct{}
}

func startProgress(log io.Writer, what string) *progress {
	p := &progress{
		log: log, what: what, terminal: isTerminal(log), start: time.Now(),
		end: make(chan struct{}), ended: make(chan struct{}),
	}
	go p.run()
	return p
}

func (p *progress) run() {
	defer close(p.ended)
	interval := logInterval
	if p.terminal {
		interval = terminalInterval
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	p.print("")
	for {
		select {
		case <-p.end:
			return
		case <-ticker.C:
			p.print("")
		}
	}
}

// stop ends the display with the outcome.
func (p *progress) stop(outcome string) {
	close(p.end)
	<-p.ended
	p.print(" " + outcome + "\n")
}

func (p *progress) print(suffix string) {
	line := fmt.Sprintf("%s … %s%s", p.what, time.Since(p.start).Round(time.Second), suffix)
	if p.terminal {
		fmt.Fprint(p.log, "\r\x1b[K"+line)
		return
	}
	if suffix == "" {
		line += "\n"
	}
	fmt.Fprint(p.log, line)
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// tail keeps the last limit bytes written to it.
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
