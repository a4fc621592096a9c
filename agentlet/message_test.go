package agentlet

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

func TestPrintable(t *testing.T) {
	for name, c := range map[string]struct {
		text, want string
	}{
		"short":                {"the catalog shows web", "the catalog shows web"},
		"lines and tabs":       {"a\n\tb", "a\n\tb"},
		"an escape sequence":   {"\x1b[2Jok", "\ufffd[2Jok"},
		"a carriage return":    {"bad\rok", "bad\ufffdok"},
		"a C1 control":         {"\u009b2J", "\ufffd2J"},
		"no UTF-8":             {"a\xffb", "a\ufffdb"},
		"as long as it may be": {strings.Repeat("a", 24), strings.Repeat("a", 24)},
		"longer":               {strings.Repeat("a", 25), strings.Repeat("a", 21) + "..."},
		"cut within a rune":    {strings.Repeat("ü", 13), strings.Repeat("ü", 10) + "..."},
		"longer by the mark":   {strings.Repeat("\x00", 10), strings.Repeat("\ufffd", 7) + "..."},
	} {
		if got := printable(c.text, 24); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// What others say goes into messages: Consul, and who wrote the annotations. The API server's policies would refuse a message that is
// too long, or not printable, and the gate would never say what is wrong.
func TestMessagesOfOthersFitIntoTheCondition(t *testing.T) {
	refusal := errors.Join(ErrRejected, errors.New("\x1b[2J"+strings.Repeat("no ", contract.MaxConditionMessage)))
	for name, c := range map[string]struct {
		fail        func(string) error
		acl         bool
		annotations []string
		reason      contract.Reason
		cut         bool
	}{
		"nothing is wrong":  {nil, false, nil, contract.Registered, false},
		"32 long names":     {nil, false, []string{"service-names", longNames()}, contract.Registered, false},
		"many errors":       {nil, false, manyErrors(), contract.InvalidConfiguration, true},
		"Consul mustReject": {failing(refusal, "register"), false, nil, contract.RegistrationRejected, true},
		"a login's refusal": {failing(refusal, "login"), true, nil, contract.LoginFailed, true},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			w.fail, w.acl = c.fail, c.acl
			w.start(t, ready(testPod(c.annotations...), true))
			after(2 * time.Minute)
			if got := w.last(); got.Reason != string(c.reason) || strings.HasSuffix(got.Message, "...") != c.cut {
				t.Errorf("%s: %s", got.Reason, got.Message)
			}
		})
	}
}

// manyErrors are annotations with as many errors as are told, each as long as can be.
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
