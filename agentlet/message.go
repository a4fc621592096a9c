package agentlet

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// printable is a text as a condition or an event may hold it: without control characters but line breaks and tabs, since somebody's
// terminal shows it, and with at most this many bytes. The chart's policies refuse anything else.
func printable(text string, most int) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\n' && r != '\t' {
			return utf8.RuneError
		}
		return r
	}, text)
	if len(text) <= most {
		return text
	}
	const cut = "..."
	return strings.ToValidUTF8(text[:most-len(cut)], "") + cut
}
