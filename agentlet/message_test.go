package agentlet

import (
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestPrintable(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
	}{
		"a short text":           {"the catalog shows web", "the catalog shows web"},
		"lines and tabs":         {"a\n\tb", "a\n\tb"},
		"an escape sequence":     {"\x1b[2Jok", "\ufffd[2Jok"},
		"a carriage return":      {"bad\rok", "bad\ufffdok"},
		"a C1 control":           {"\u009b2J", "\ufffd2J"},
		"invalid UTF-8":          {"a\xffb", "a\ufffdb"},
		"as long as allowed":     {strings.Repeat("a", 24), strings.Repeat("a", 24)},
		"too long":               {strings.Repeat("a", 25), strings.Repeat("a", 21) + "..."},
		"too long, in runes":     {strings.Repeat("ü", 13), strings.Repeat("ü", 10) + "..."},
		"too long when replaced": {strings.Repeat("\x00", 10), strings.Repeat("\ufffd", 7) + "..."},
	} {
		t.Run(name, func(t *testing.T) {
			if got := printable(c.text, 24); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

// TestMessagesOfOthersFitIntoTheCondition: messages contain texts of Consul and of annotations. The API server's
// policies reject a message that is too long or not printable, and the gate would never say its reason.
func TestMessagesOfOthersFitIntoTheCondition(t *testing.T) {
	refusal := errors.Join(ErrRejected, errors.New("\x1b[2J"+strings.Repeat("no ", contract.MaxConditionMessage)))
	for name, c := range map[string]struct {
		fail        func(string) error
		acl         bool
		annotations []string
		reason      contract.Reason
		cut         bool
	}{
		"no error":         {nil, false, nil, contract.Registered, false},
		"32 long names":    {nil, false, []string{"service-names", longNames()}, contract.Registered, false},
		"many errors":      {nil, false, manyErrors(), contract.InvalidConfiguration, true},
		"a rejection":      {failing(refusal, "register"), false, nil, contract.RegistrationRejected, true},
		"a rejected login": {failing(refusal, "login"), true, nil, contract.LoginFailed, true},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.fail, w.acl = c.fail, c.acl
			w.start(t, ready(testPod(c.annotations...), true))
			after(2 * time.Minute)
			if got := w.last(); got.Reason != string(c.reason) || strings.HasSuffix(got.Message, "...") != c.cut {
				t.Errorf("the gate says %s %q, want %s, cut: %v", got.Reason, got.Message, c.reason, c.cut)
			}
		})
	}
}

// manyErrors are annotations with as many errors as are reported, each as long as possible.
func manyErrors() (annotations []string) {
	for _, key := range []string{
		contract.HeartbeatTTL, contract.DeregisterAfter, contract.Gate, contract.GateTimeout, contract.GatePolicy, contract.Readiness, contract.DrainDelay,
		contract.DrainTimeout, contract.DrainHook, contract.AgentletPort, contract.LocalAPI, contract.LogLevel, contract.ServicePort, contract.ServiceHealth,
	} {
		annotations = append(annotations, contract.Short(key), strings.Repeat("\u2028", 1000))
	}
	return annotations
}

func longNames() string {
	var names []string
	for i := range 32 {
		names = append(names, fmt.Sprintf("%s%02d", strings.Repeat("n", contract.MaxServiceName-2), i))
	}
	return strings.Join(names, ",")
}

// TestShownMessageIsReadAgain holds the format of an open gate's message: what is written is what a later agentlet reads.
func TestShownMessageIsReadAgain(t *testing.T) {
	for name, want := range map[string]openMessage{
		"one service":         {[]string{"web"}, "10.1.0.5", time.Time{}, ""},
		"two":                 {[]string{"web", "admin"}, "10.1.0.5", time.Time{}, ""},
		"IPv6":                {[]string{"web"}, "fd00::5", time.Time{}, ""},
		"with failing checks": {[]string{"web"}, "10.1.0.5", time.Time{}, "failing checks: web: own (at 10.1.0.9 nothing); web: other"},
		"of a loss":           {[]string{"web"}, "10.1.0.5", time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC), ""},
	} {
		t.Run(name, func(t *testing.T) {
			if got, ok := parseOpenMessage(want.String()); !ok || !reflect.DeepEqual(got, want) {
				t.Errorf("%q is read as %+v, %v", want, got, ok)
			}
		})
	}
	for _, other := range []string{"gate is off", "opened at noon", "", "the catalog shows"} {
		if got, ok := parseOpenMessage(other); ok {
			t.Errorf("%q is read as %+v", other, got)
		}
	}
}
