package agentlet

import (
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// BenchmarkProbed is what the registrar itself does for one of a quiet pod's five probes a second: a plan that starts it, and
// one with its result.
func BenchmarkProbed(b *testing.B) {
	now := time.Now()
	s := newState(testIdentity)
	s.observePod(gated(ready(probed(nil), true), gateOpen, contract.Registered), nil, now)
	s.conn = connection()
	i := s.instances[webID]
	i.agent, i.heartbeatDue, i.refreshAt, i.confirmed, i.readiness = present, now.Add(time.Hour), now.Add(time.Hour), true, contract.Passing
	d := i.definition()
	i.actual = &Observed{Definition: d, Fingerprint: d.Fingerprint(), Readiness: contract.Passing, Checks: d.checkIDs()}
	l := &loop{Registrar: New(Config{Identity: testIdentity}), state: s}
	probe := probeContainer{container: "app", instance: s.workers["app"].instance, probe: s.workers["app"].current()}
	round := func() {
		s.tick(now)
		s.commit(decide(s, now), now)
		p := plan(s, now)
		l.publish(s, p)
		l.metrics.see(s, now)
	}
	b.ReportAllocs()
	for b.Loop() {
		round()
		finish(s, probe, answers{}, now)
		round()
	}
}
