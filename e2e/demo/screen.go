package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// screen shows a run. On a terminal it redraws a block of lines in place; elsewhere it writes line by line. It is safe for
// concurrent use.
type screen struct {
	// live is set if lines can be redrawn.
	live  bool
	style style
	// size returns the terminal's columns and rows; 0, 0 without a terminal.
	size func() (columns, rows int)

	mu    sync.Mutex
	out   io.Writer
	drawn []string // the block that stands on the terminal's last lines
}

func newScreen(out *os.File) *screen {
	s := &screen{out: out, size: func() (int, int) { return terminalSize(out) }}
	columns, _ := s.size()
	s.live = columns > 0 && os.Getenv("TERM") != "dumb"
	s.style = style(s.live && os.Getenv("NO_COLOR") == "")
	return s
}

// terminalSize returns 0, 0 if the file is no terminal.
func terminalSize(file *os.File) (columns, rows int) {
	size, err := unix.IoctlGetWinsize(int(file.Fd()), unix.TIOCGWINSZ)
	if err != nil {
		return 0, 0
	}
	return int(size.Col), int(size.Row)
}

// style colours lines, or leaves them as they are.
type style bool

func (s style) paint(code, text string) string {
	if !s {
		return text
	}
	return "\x1b[" + code + "m" + text + "\x1b[0m"
}

func (s style) title(text string) string { return s.paint("1;36", text) }
func (s style) head(text string) string  { return s.paint("2", text) }
func (s style) done(text string) string  { return s.paint("32", text) }
func (s style) good(text string) string  { return s.paint("1;32", text) }
func (s style) bad(text string) string   { return s.paint("1;31", text) }

// title prints the title of a stage.
func (s *screen) title(text string) { s.say("", s.style.title("── "+text)) }

// verdict prints the last line.
func (s *screen) verdict(text string, good bool) {
	paint := s.style.bad
	if good {
		paint = s.style.good
	}
	s.say("", paint(text))
}

// say prints permanent lines.
func (s *screen) say(lines ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, line := range lines {
		fmt.Fprintln(s.out, line)
	}
}

// draw replaces the previously drawn block. If nothing has changed, it writes nothing.
func (s *screen) draw(lines []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if slices.Equal(lines, s.drawn) {
		return
	}
	var text strings.Builder
	if n := len(s.drawn); n > 0 {
		fmt.Fprintf(&text, "\x1b[%dA", n)
	}
	text.WriteString("\r")
	for _, line := range lines {
		text.WriteString("\x1b[2K" + line + "\n")
	}
	text.WriteString("\x1b[J")
	fmt.Fprint(s.out, text.String())
	s.drawn = lines
}

// settle makes the drawn block permanent.
func (s *screen) settle() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drawn = nil
}

// Intervals of follow: of redrawing, and of the lines in a log.
const (
	frame    = 100 * time.Millisecond
	logEvery = 2 * time.Second
	patience = 4 * time.Minute
)

// follow shows block, redrawn in place, until done returns true. If it can't be redrawn, pulse, if not nil, returns a line now
// and then, and block is printed once at the end. follow returns done's error, or that of ctx or of its own time limit.
func (s *screen) follow(ctx context.Context, block func(width int) []string, pulse func() string,
	done func(context.Context) (bool, error),
) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	ticker := time.NewTicker(frame)
	defer ticker.Stop()
	next := time.Now().Add(logEvery)
	for {
		over, err := done(ctx)
		if s.live {
			s.draw(s.fit(block))
		} else if pulse != nil && !over && time.Now().After(next) {
			s.say(pulse())
			next = time.Now().Add(logEvery)
		}
		if over || err != nil {
			s.settle()
			if !s.live {
				s.say("")
				s.say(block(0)...)
			}
			return err
		}
		select {
		case <-ctx.Done():
			s.settle()
			return ctx.Err()
		case <-ticker.C:
		}
	}
}

// fit shortens the block to the terminal's current size, because wrapped lines and a block that is higher than the terminal can't
// be redrawn. The last line is for the cursor.
func (s *screen) fit(block func(width int) []string) []string {
	columns, rows := s.size()
	lines := block(columns)
	if rows > 1 && len(lines) >= rows {
		lines = lines[:rows-1]
	}
	return lines
}
