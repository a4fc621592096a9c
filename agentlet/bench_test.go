package agentlet

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// BenchmarkIdle is what the registrar itself does in a quiet hour, each time that it wakes: a plan with nothing to do.
func BenchmarkIdle(b *testing.B) {
	for name, pod := range map[string]*corev1.Pod{
		"one service":       ready(testPod(), true),
		"a service's proxy": ready(meshPod("9191"), true),
		"three services":    ready(testPod("service-names", "web,admin,metrics"), true),
	} {
		b.Run(name, func(b *testing.B) {
			now := time.Now()
			l := quiet(b, pod, now)
			b.ReportAllocs()
			for b.Loop() {
				l.round(now)
			}
		})
	}
}

// BenchmarkProbed is what the registrar itself does for one of a quiet pod's five probes a second: a plan that starts it, and
// one with its result.
func BenchmarkProbed(b *testing.B) {
	now := time.Now()
	l := quiet(b, ready(probed(nil), true), now)
	probe := probeContainer{container: "app", instance: l.state.workers["app"].instance, probe: l.state.workers["app"].current()}
	b.ReportAllocs()
	for b.Loop() {
		l.round(now)
		finish(l.state, probe, answers{}, now)
		l.round(now)
	}
}

// quiet is the loop of a pod whose services the agent and the catalog have as they should be.
func quiet(b *testing.B, pod *corev1.Pod, now time.Time) *loop {
	b.Helper()
	s := newState(testIdentity)
	s.observePod(pod, nil, now)
	s.gate.current = &corev1.PodCondition{Status: gateOpen, Reason: string(contract.Registered), Message: s.openMessage(time.Time{}, "")}
	s.restoreLast(s.gate.current)
	s.conn = connection()
	s.catalog.view = &CatalogView{Index: 3, Instances: map[string]CatalogInstance{}}
	for id, i := range s.instances {
		i.agent, i.registered, i.confirmed, i.readiness = present, true, true, contract.Passing
		i.heartbeatDue, i.refreshAt = now.Add(time.Hour), now.Add(time.Hour)
		d := i.definition()
		i.actual = &Observed{Definition: d, Fingerprint: d.Fingerprint(), Readiness: contract.Passing, Checks: d.checkIDs()}
		s.catalog.view.Instances[id] = CatalogInstance{
			Health: contract.Passing, Heartbeat: contract.Passing, Readiness: contract.Passing, Fingerprint: d.Fingerprint(),
		}
	}
	l := &loop{Registrar: New(Config{Identity: testIdentity}), state: s}
	l.round(now)
	for k, c := range plan(s, now).work {
		if !isBlocking(c) {
			b.Fatalf("%s %s is planned for a pod that needs nothing", c.operation(), k.id)
		}
	}
	return l
}

// round is one of the loop, but for the commands.
func (l *loop) round(now time.Time) {
	l.state.tick(now)
	l.state.commit(decide(l.state, now), now)
	p := plan(l.state, now)
	l.state.dropRetries(&p, now)
	l.state.notifyConverged()
	l.publish(l.state, p)
	l.metrics.see(l.state, now)
}
