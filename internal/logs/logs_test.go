package logs

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"
)

func TestNew(t *testing.T) {
	for format, want := range map[string]string{
		Text: `level=WARN msg=hello retry=1m30s certs.delay=200ms`,
		JSON: `"level":"WARN","msg":"hello","retry":"1m30s","certs":{"delay":"200ms"}}`,
		"":   `{"time":`,
	} {
		var out bytes.Buffer
		log := New(&out, format, slog.LevelWarn)
		log.Info("quiet")
		log.Warn("hello", "retry", 90*time.Second, slog.Group("certs", "delay", 200*time.Millisecond))
		if !strings.Contains(out.String(), want) || strings.Contains(out.String(), "quiet") {
			t.Errorf("%q: %s, want %s and nothing below the level", format, &out, want)
		}
	}
}
