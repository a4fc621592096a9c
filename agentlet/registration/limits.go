package registration

import (
	"fmt"
	"strings"
	"unicode"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// Limits on what one pod may ask for. Annotations are written by people with less power than the webhook that reads them
// and the Consul agent that carries out what they say: neither may be kept busy by a pod. They are read before the API
// server's own bounds apply.
const (
	// maxText is on the agentlet.dev/ annotations together, keys and values, in bytes.
	maxText = 64 << 10
	// maxKey is the API server's limit on a key: a prefix of 253 characters, a slash, and a name of 63.
	maxKey = 253 + 1 + 63
	// MaxServices of a pod, maxChecks, maxPorts and maxUpstreams of a service, and maxItems in every other list or mapping.
	MaxServices  = 32
	maxChecks    = 16
	maxPorts     = 32
	maxUpstreams = 32
	maxItems     = 64
	// maxMarks is on what separates or nests values in the text of services: line ends, commas, brackets, dashes. To parse one takes
	// up to 600 bytes of memory. A service with two checks has some forty.
	maxMarks = 4096
	// maxErrors and maxWarnings are as many as are told; nobody reads more at once.
	maxErrors   = 20
	maxWarnings = 20
)

// tooLong is the error of a pod whose annotations are more than maxText, or nil.
func tooLong(pod *corev1.Pod) *field.Error {
	size := 0
	for key, text := range pod.Annotations {
		if strings.HasPrefix(key, contract.Prefix) {
			size += len(key) + len(text)
		}
	}
	if size <= maxText {
		return nil
	}
	return field.Invalid(field.NewPath("metadata", "annotations"), contract.Prefix+"…",
		fmt.Sprintf("these annotations hold %d bytes, and must not hold more than %d", size, maxText))
}

// checkCount says that a list is too long.
func checkCount(n, most int, what string) error {
	if n > most {
		return fmt.Errorf("it has %d %s, and must not have more than %d", n, what, most)
	}
	return nil
}

// checkMarks says that a text in YAML holds too many values.
func checkMarks(text string) error {
	marks := 0
	for i := range len(text) {
		switch text[i] {
		case '\n', '\r', ',', '[', '{':
			marks++
		case '-', '?':
			if i+1 == len(text) || text[i+1] == ' ' || text[i+1] == '\t' {
				marks++
			}
		}
	}
	return checkCount(marks, maxMarks, "line ends, commas, dashes and brackets")
}

// checkText refuses what no name, tag, meta value or check holds on purpose, and what a terminal or a page that shows it obeys.
// Consul takes and shows anything.
func checkText(text string) error {
	if HasControl(text) {
		return fmt.Errorf("%q holds a control character", Excerpt(text))
	}
	return nil
}

// HasControl reports whether a text holds an IsControl.
func HasControl(text string) bool { return strings.ContainsFunc(text, IsControl) }

// IsControl reports whether a rune is a control character, a line's or a paragraph's end, or not seen itself but changes how
// others are, such as the direction of text. This is the rule for all that is registered.
func IsControl(r rune) bool { return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp) }

// Excerpt is as much of a value as a message quotes.
func Excerpt(text string) string {
	const most = 200 // bytes
	return Truncate(text, most)
}

// Truncate cuts a text to at most so many bytes, between two characters, and ends it with "…" where it was longer.
func Truncate(text string, most int) string {
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "") + "…"
}
