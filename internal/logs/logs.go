// Package logs makes the loggers of this project's programs, so that their lines read alike.
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

// New returns a logger of this format, JSON by default, that leaves out what is below the level. It writes a duration as
// "1m30s" in either: as a number, which is slog's way in JSON, it would be one of nanoseconds that doesn't say so.
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
