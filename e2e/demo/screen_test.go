package demo

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// testScreen returns a screen on a terminal of this size, or without a terminal for 0, 0.
func testScreen(columns, rows int) (*screen, *strings.Builder) {
	var out strings.Builder
	return &screen{live: columns > 0, size: func() (int, int) { return columns, rows }, out: &out}, &out
}

func TestDrawReplacesTheBlock(t *testing.T) {
	s, out := testScreen(80, 24)
	s.draw([]string{"one", "two"})
	s.draw([]string{"one", "two"}) // nothing has changed, so nothing is written
	s.draw([]string{"three"})
	s.settle()
	s.draw([]string{"four"})
	want := "\r\x1b[2Kone\n\x1b[2Ktwo\n\x1b[J" + "\x1b[2A\r\x1b[2Kthree\n\x1b[J" + "\r\x1b[2Kfour\n\x1b[J"
	if out.String() != want {
		t.Errorf("got  %q\nwant %q", out, want)
	}
}

func TestFitCutsWhatIsHigherThanTheTerminal(t *testing.T) {
	s, _ := testScreen(80, 3)
	lines := s.fit(func(width int) []string {
		if width != 80 {
			t.Errorf("width %d, want 80", width)
		}
		return []string{"1", "2", "3", "4"}
	})
	if len(lines) != 2 {
		t.Errorf("%d lines on 3 rows, want 2: the last one is the cursor's", len(lines))
	}
}

func TestFollowWithoutTerminal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, out := testScreen(0, 0)
		end := time.Now().Add(5 * time.Second)
		err := s.follow(t.Context(), func(int) []string { return []string{"table"} }, func() string { return "pulse" },
			func(context.Context) (bool, error) { return !time.Now().Before(end), nil })
		if err != nil {
			t.Fatal(err)
		}
		if want := "pulse\npulse\n\ntable\n"; out.String() != want {
			t.Errorf("got %q, want %q", out, want)
		}
	})
}

func TestFollowEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := testScreen(80, 24)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := s.follow(ctx, func(int) []string { return nil }, nil, func(context.Context) (bool, error) { return false, nil })
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
	})
}

func TestFollowReturnsTheConditionsError(t *testing.T) {
	s, out := testScreen(80, 24)
	broken := errors.New("broken")
	err := s.follow(t.Context(), func(int) []string { return []string{"table"} }, nil,
		func(context.Context) (bool, error) { return false, broken })
	if !errors.Is(err, broken) || !strings.Contains(out.String(), "table") {
		t.Errorf("got %v after %q", err, out)
	}
}

func TestStyle(t *testing.T) {
	if got := style(false).done("x"); got != "x" {
		t.Errorf("got %q", got)
	}
	if got := style(true).done("x"); got != "\x1b[32mx\x1b[0m" {
		t.Errorf("got %q", got)
	}
}
