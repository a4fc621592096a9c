package agentlet

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// FuzzPod: no pod of the API server, after any other pod, makes the registrar panic, touch instances of others, or
// write a message that a condition can't hold.
func FuzzPod(f *testing.F) {
	begun := probed(nil)
	for _, pair := range [][2]*corev1.Pod{
		{testPod(), ready(testPod(), true)},
		{ready(testPod(), true), deleted(ready(testPod(), true))},
		{opened(), testPod("heartbeat-ttl", "soon")},
		{begun, ready(begun, true)},
		{otherGated(testPod("gate", "registered"), gateOpen), testPod("service-names", "web,admin")},
	} {
		first, _ := json.Marshal(pair[0])
		second, _ := json.Marshal(pair[1])
		f.Add(first, second)
	}
	f.Fuzz(func(t *testing.T, first, second []byte) {
		now := time.Now()
		s := newState(testIdentity)
		s.otherGates = []string{"example.com/other"}
		s.conn = connection()
		for _, text := range [][]byte{first, second} {
			pod := &corev1.Pod{}
			if json.Unmarshal(text, pod) != nil {
				return
			}
			s.observePod(pod, nil, now)
			for range 3 { // each with the answers to the commands before
				s.tick(now)
				s.commit(decide(s, now), now.Add(-conditionDebounce))
				p := plan(s, now)
				for _, c := range p.work {
					checkCommand(t, c)
					finish(s, c, answers{view: CatalogView{Instances: map[string]CatalogInstance{}}}, now)
				}
				now = now.Add(time.Minute)
			}
		}
	})
}

func checkCommand(t *testing.T, c command) {
	t.Helper()
	if k := c.key(); (k.name == registrationKey || k.name == checksKey || k.name == "watch") && !strings.HasPrefix(k.id, testIdentity.Prefix()) {
		t.Errorf("%s of %q", c.operation(), k.id)
	}
	switch c := c.(type) {
	case patchStatus:
		if c.condition.Type != contract.Condition {
			t.Errorf("condition %+v", c.condition)
		}
		mustBePrintable(c.condition.Message, contract.MaxConditionMessage)
	case createEvent:
		mustBePrintable(c.event.Message, contract.MaxEventMessage)
	}
}
