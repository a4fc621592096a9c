package agentlet

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestFreezeIsLogged(t *testing.T) {
	now := time.Now()
	for name, c := range map[string]struct {
		wake time.Time
		says string
	}{
		"on time":              {now.Add(-time.Second), ""},
		"with no time to wake": {time.Time{}, ""},
		"after 55 seconds":     {now.Add(-55 * time.Second), `msg="the process did not run" seconds=55`},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			l := &loop{Registrar: New(Config{Identity: testIdentity, Logger: slog.New(slog.NewTextHandler(&log, nil))})}
			l.noticeFreeze(c.wake, now)
			if got := log.String(); (c.says == "") != (got == "") || !strings.Contains(got, c.says) {
				t.Errorf("logged %q, want %q", got, c.says)
			}
		})
	}
}
