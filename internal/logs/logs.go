// Package logs creates the loggers of all programs of this project, so that their lines have the same form.
package logs

import (
	"io"
	"log/slog"
)

// Formats of a log.
const (
	JSON = "json"
	Text = "text"
)

// New returns a logger of this format, JSON by default, that drops records below the level. In both formats it writes a duration
// as "1m30s": slog's JSON would write a number without the unit, nanoseconds.
func New(to io.Writer, format string, level slog.Leveler) *slog.Logger {
	options := &slog.HandlerOptions{Level: level, ReplaceAttr: readable}
	if format == Text {
		return slog.New(slog.NewTextHandler(to, options))
	}
	return slog.New(slog.NewJSONHandler(to, options))
}

func readable(_ []string, attribute slog.Attr) slog.Attr {
	if attribute.Value.Kind() == slog.KindDuration {
		attribute.Value = slog.StringValue(attribute.Value.Duration().String())
	}
	return attribute
}
