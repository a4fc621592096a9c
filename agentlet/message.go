package agentlet

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// printable is a text as a condition or an event may hold it: without control characters but line breaks and tabs,
// since somebody's terminal shows it, and with at most this many bytes. The chart's policies refuse anything else.
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

// openMessage is an open gate's message: "the catalog shows web, admin at 10.1.0.5; failing checks: …". A later
// agentlet of the pod reads the address: after a reboot of the node the pod has another, which the catalog doesn't show
// yet.
type openMessage struct {
	services []string
	address  string
	// until is when the catalog lost an instance; zero while it shows all.
	until time.Time
	// more there is to say; empty for nothing.
	more string
}

// Parts of the message. No service name holds a blank.
const (
	showsBegin  = "the catalog shows "
	showedBegin = "the catalog showed "
	shownComma  = ", "
	shownAt     = " at "
	shownUntil  = " until "
	shownMore   = "; "
)

func (m openMessage) String() string {
	text := showsBegin + strings.Join(m.services, shownComma) + shownAt + m.address
	if !m.until.IsZero() {
		text = showedBegin + strings.TrimPrefix(text, showsBegin) + shownUntil + m.until.Format(time.RFC3339)
	}
	if m.more != "" {
		text += shownMore + m.more
	}
	return text
}

// parseOpenMessage reads such a message; ok is false for any other.
func parseOpenMessage(text string) (m openMessage, ok bool) {
	text, m.more, _ = strings.Cut(text, shownMore)
	rest, past := strings.CutPrefix(text, showedBegin)
	if past {
		var until string
		rest, until, _ = strings.Cut(rest, shownUntil)
		m.until, _ = time.Parse(time.RFC3339, until)
	} else if rest, ok = strings.CutPrefix(text, showsBegin); !ok {
		return openMessage{}, false
	}
	services, address, ok := strings.Cut(rest, shownAt)
	if !ok {
		return openMessage{}, false
	}
	m.services, m.address = strings.Split(services, shownComma), address
	return m, true
}
