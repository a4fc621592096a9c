package agentlet

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
)

// scrape takes the metrics. The result holds each value by its name and labels, a summary's count by its name.
func scrape(t *testing.T, r *Registrar) map[string]float64 {
	t.Helper()
	declared := map[string]contract.Metric{}
	for _, m := range Metrics() {
		declared[m.Name] = m
	}
	values := map[string]float64{}
	for _, s := range r.Samples() {
		switch m, known := declared[s.Name]; {
		case !known || len(m.Labels) != len(s.Labels):
			t.Errorf("%+v is not as declared: %+v", s, m)
		case s.Suffix == "_sum":
		case len(s.Labels) == 0 || s.Name == metricBuild:
			values[s.Name] = s.Value
		default:
			values[s.Name+"{"+strings.Join(s.Labels, ",")+"}"] = s.Value
		}
	}
	return values
}

// expect that these series have these values.
func expect(t *testing.T, when string, got, want map[string]float64) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		if value, there := got[name]; !there || value != want[name] {
			t.Errorf("%s: %s = %v, %v; want %v", when, name, value, there, want[name])
		}
	}
}

func TestMetricsOfALife(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := w.start(t, testPod())
		after(2 * time.Second)
		before := scrape(t, r)
		expect(t, "before", before, map[string]float64{
			"agentlet_gate_open": 0, "agentlet_gate_reason{ContainersNotReady}": 1, "agentlet_gate_reason{Registered}": 0,
			"agentlet_consul_reachable": 1, "agentlet_registrations_total{first}": 1, "agentlet_build_info": 1,
			"agentlet_service_info{web}": 1,
		})
		for _, name := range []string{metricTimeToGate, metricTimeToDrain} {
			if _, there := before[name]; there {
				t.Errorf("%s is there before the time", name)
			}
		}

		r.OnUpdate(ready(testPod(), true))
		after(time.Second)
		opened := scrape(t, r)
		expect(t, "open", opened, map[string]float64{
			"agentlet_gate_open": 1, "agentlet_gate_reason{Registered}": 1, "agentlet_gate_reason{ContainersNotReady}": 0,
			"agentlet_registrations_total{first}": 1, "agentlet_registrations_total{lost}": 0,
			"agentlet_requests_total{register,ok}": 1, "agentlet_request_duration_seconds{register}": 1,
			"agentlet_requests_total{create_event,ok}": 1, "agentlet_heartbeats_missed_total": 0,
		})
		// The catalog's index may be newer for another reason, and is then read again after a pause.
		if took := opened[metricTimeToGate]; took < w.syncDelay.Seconds() || took > (w.syncDelay+readBackoffFirst).Seconds() {
			t.Errorf("%s = %v, want %s", metricTimeToGate, took, w.syncDelay)
		}
		after(time.Minute)
		w.set(func() { delete(w.agent, webID) })
		after(time.Minute)
		changed := testPod("service-tags", "new")
		r.OnUpdate(ready(changed, true))
		after(time.Minute)
		expect(t, "put back and changed", scrape(t, r), map[string]float64{
			"agentlet_registrations_total{first}": 1, "agentlet_registrations_total{lost}": 1, "agentlet_registrations_total{changed}": 1,
			"agentlet_requests_total{register,ok}": 3, "agentlet_heartbeats_missed_total": 0,
		})

		w.locked(func() { w.syncDelay = 500 * time.Millisecond })
		r.OnUpdate(deleted(ready(changed, true)))
		after(250 * time.Millisecond)
		expect(t, "draining", scrape(t, r), map[string]float64{"agentlet_time_to_drain_seconds{waiting}": .25, "agentlet_gate_reason{Draining}": 1})
		after(time.Minute)
		drained := scrape(t, r)
		expect(t, "drained", drained, map[string]float64{
			"agentlet_time_to_drain_seconds{dropped}": .5, "agentlet_requests_total{deregister,ok}": 1, "agentlet_gate_open": 0,
		})
		if n := len(drained); n > 50 {
			t.Errorf("%d series, which each pod costs", n)
		}
	})
}

func TestMetricsOfAnOutage(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := started(t, w, testPod())
		after(time.Minute)
		w.fails(ErrRefused)
		after(time.Minute)
		out := scrape(t, r)
		expect(t, "out", out, map[string]float64{"agentlet_consul_reachable": 0, "agentlet_gate_open": 1, "agentlet_gate_reason{Registered}": 1})
		if n := out["agentlet_heartbeats_missed_total"]; n < 4 || n > 6 {
			t.Errorf("%v heartbeats missed in a minute, want one in 10 seconds", n)
		}
		if n := out["agentlet_requests_total{get_leader,refused}"]; n < 10 || n > 60 {
			t.Errorf("the leader was asked for %v times and refused, want at most one a second", n)
		}
		w.setFail(nil)
		after(time.Minute)
		over := scrape(t, r)
		expect(t, "over", over, map[string]float64{"agentlet_consul_reachable": 1, "agentlet_registrations_total{lost}": 0})
		if n := over["agentlet_heartbeats_missed_total"] - out["agentlet_heartbeats_missed_total"]; n > 1 {
			t.Errorf("%v heartbeats missed after the outage", n)
		}
		deletes(r)
		w.fails(ErrRefused)
		after(time.Minute)
		if end := scrape(t, r); end["agentlet_heartbeats_missed_total"] != over["agentlet_heartbeats_missed_total"] {
			t.Error("a drained pod misses heartbeats")
		}
	})
}

func TestMetricsOfADrain(t *testing.T) {
	for outcome, c := range map[string]struct {
		pod  *corev1.Pod
		fail error
		took float64
	}{
		drainRefused:  {ready(testPod(), true), ErrRefused, 0},
		drainTimedOut: {ready(testPod(), true), ErrUnreachable, 15}, // drain-timeout and drain-delay
		drainNothing:  {testPod("service-port", "no-such"), nil, 0},
	} {
		runInWorld(t, outcome, func(t *testing.T, w *world) {
			r, _ := w.start(t, c.pod)
			after(time.Second)
			w.fails(c.fail)
			r.OnUpdate(deleted(c.pod))
			after(time.Minute)
			expect(t, "drained", scrape(t, r), map[string]float64{"agentlet_time_to_drain_seconds{" + outcome + "}": c.took})
		})
	}
}

func TestResyncsAreCounted(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.sync = false
		r, _ := w.start(t, ready(testPod(), true))
		after(10 * time.Second)
		if n := scrape(t, r)["agentlet_registrations_total{resync}"]; n < 1 || n > 4 {
			t.Errorf("%v resyncs", n)
		}
	})
}

// TestMetricsSaySinceWhenTheGateIsAsItIs is about what tells a stuck pod from one that has just started.
func TestMetricsSaySinceWhenTheGateIsAsItIs(t *testing.T) {
	hour := func(pod *corev1.Pod) *corev1.Pod {
		pod = pod.DeepCopy()
		pod.Status.StartTime = &metav1.Time{Time: time.Now().Add(-time.Hour)}
		return pod
	}
	moved := func() *corev1.Pod {
		pod := transitioned(opened(), time.Hour)
		condition(pod, contract.Condition).Message = "the catalog shows web at 10.9.9.9"
		return pod
	}
	unwritten := func(w *world) { w.setFail(failing(ErrUnreachable, "gate")) }
	for name, c := range map[string]struct {
		pod  func() *corev1.Pod
		fail func(w *world)
		open float64
		ago  time.Duration // -1: there is no such series
	}{
		"closed by this agentlet":    {func() *corev1.Pod { return hour(testPod()) }, nil, 0, 9 * time.Second},
		"opened by this agentlet":    {func() *corev1.Pod { return hour(ready(testPod(), true)) }, nil, 1, 10 * time.Second},
		"never written":              {func() *corev1.Pod { return hour(testPod()) }, unwritten, 0, time.Hour + 10*time.Second},
		"never written, of no start": {func() *corev1.Pod { return testPod() }, unwritten, 0, 10 * time.Second},
		"closed by an earlier one": {func() *corev1.Pod {
			return transitioned(gated(testPod(), corev1.ConditionFalse, contract.ContainersNotReady), 10*time.Minute)
		}, nil, 0, 10*time.Minute + 10*time.Second},
		"open of another address":                {moved, func(w *world) { w.sync = false }, 0, 10 * time.Second},
		"open of another address, never written": {moved, func(w *world) { w.sync = false; unwritten(w) }, 0, 10 * time.Second},
		"no gate":                                {ungated, nil, 1, -1},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			if c.fail != nil {
				c.fail(w)
			}
			r, _ := w.start(t, c.pod())
			after(10 * time.Second)
			got := scrape(t, r)
			expect(t, "after ten seconds", got, map[string]float64{metricGateOpen: c.open})
			since, there := got[metricGateSince]
			if there != (c.ago >= 0) {
				t.Fatalf("%s is there: %v", metricGateSince, there)
			}
			if ago := time.Since(time.Unix(int64(since), 0)); there && (ago < c.ago || ago > c.ago+2*time.Second) {
				t.Errorf("as it is since %s ago, want %s", ago, c.ago)
			}
		})
	}
}

// transitioned has its gate be as it is since some time ago.
func transitioned(pod *corev1.Pod, ago time.Duration) *corev1.Pod {
	condition(pod, contract.Condition).LastTransitionTime = metav1.NewTime(time.Now().Add(-ago))
	return pod
}
