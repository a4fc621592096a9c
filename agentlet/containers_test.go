package agentlet

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestProbeOpensTheGateBeforeTheKubelet(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.start(t, probed(nil))
		after(2 * time.Second)
		w.expectHealth(t, "before the application listens", contract.Critical)
		w.listen(80, true)
		after(probeEvery + 10*time.Millisecond)
		w.expectGate(t, "a moment after the application listens", gateOpen, contract.Registered)
	})
}

func TestProbeFailsBeforeTheKubelet(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.listen(80, true)
		r, _ := w.start(t, probed(nil))
		after(time.Second)
		r.OnUpdate(ready(probed(nil), true))
		after(time.Second)
		w.listen(80, false)
		after(2*probeAgain - 10*time.Millisecond)
		w.expectHealth(t, "below the failure threshold", contract.Passing)
		after(probeEvery + 20*time.Millisecond)
		w.expectHealth(t, "at the failure threshold, with a kubelet that still reports ready", contract.Critical)
		w.expectGate(t, "unready", gateOpen, contract.Registered)
	})
}

// TestFlappingProbeIsBounded has an application flap about as fast as it is probed, with a failure threshold of one.
func TestFlappingProbeIsBounded(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.listen(80, true)
		r, _ := w.start(t)
		pod := probed(func(c *corev1.Container) { c.ReadinessProbe.FailureThreshold = 1 })
		r.OnUpdate(pod)
		after(time.Second)
		r.OnUpdate(ready(pod, true))
		flap := func() {
			w.listen(80, false)
			after(2 * probeEvery)
			w.expectHealth(t, "at a failure", contract.Critical)
			w.listen(80, true)
			after(2 * probeEvery)
		}
		flap()
		w.expectHealth(t, "after a single failure", contract.Passing)
		writes := w.count("readiness")
		const long = 5 * time.Minute
		for began := time.Now(); time.Since(began) < long; {
			flap()
		}
		// The first cycle is free, and the check is refreshed each minute.
		if n, most := w.count("readiness")-writes, 2*int(long/probePeriod)+2+2*int(long/refreshEvery); n > most {
			t.Errorf("%d writes in %s of flapping, want at most %d", n, long, most)
		}
		after(probePeriod)
		w.expectHealth(t, "after the flapping", contract.Passing)
		after(2 * probePeriod)
		flap()
		w.expectHealth(t, "after a single failure long after the flapping", contract.Passing)
	})
}

// probeStep of a container's life: what happens, how long until then, and the health that the catalog shows.
type probeStep struct {
	do   func(*world, *Registrar, *corev1.Pod) *corev1.Pod
	wait time.Duration
	want contract.Health
}

// kubelet has the kubelet report the container as ready, or as not.
func kubelet(yes bool) func(*world, *Registrar, *corev1.Pod) *corev1.Pod {
	return func(_ *world, r *Registrar, pod *corev1.Pod) *corev1.Pod {
		pod = ready(pod, yes)
		r.OnUpdate(pod)
		return pod
	}
}

// listens has the container's probe succeed from now on, or fail.
func listens(yes bool) func(*world, *Registrar, *corev1.Pod) *corev1.Pod {
	return func(w *world, _ *Registrar, pod *corev1.Pod) *corev1.Pod { w.listen(80, yes); return pod }
}

// restarts the container.
func restarts(_ *world, r *Registrar, pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	begin(pod, "second")
	r.OnUpdate(pod)
	return pod
}

// starts has the kubelet report the container as started.
func starts(_ *world, r *Registrar, pod *corev1.Pod) *corev1.Pod {
	pod = pod.DeepCopy()
	pod.Status.ContainerStatuses[0].Started = new(true)
	r.OnUpdate(pod)
	return pod
}

func execProbe() *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}}
}

// kubeletTime is what the kubelet may take to find out what a probe of the agentlet's has.
const kubeletTime = probePeriod + time.Second + kubeletLag

// TestProbeAndKubelet is about the sequences of what the agentlet's probe and the kubelet report.
func TestProbeAndKubelet(t *testing.T) {
	const soon, beyond = time.Second, kubeletTime
	exec := execProbe()
	startup := func(c *corev1.Container) { c.StartupProbe = tcpProbe(81) }
	for name, c := range map[string]struct {
		change func(*corev1.Container)
		steps  []probeStep
	}{
		"a kubelet that disagrees after its first report": {nil, []probeStep{
			{listens(true), soon, contract.Passing}, {kubelet(true), soon, contract.Passing}, {kubelet(false), soon, contract.Critical},
		}},
		"a kubelet that never agrees": {nil, []probeStep{
			{listens(true), beyond - time.Second, contract.Passing},
			{listens(true), 2 * time.Second, contract.Critical},
			{listens(false), soon, contract.Critical},
			{listens(true), soon, contract.Critical},
			{kubelet(true), soon, contract.Passing},
		}},
		"a probe that disagrees": {nil, []probeStep{
			{kubelet(true), 0, contract.Passing}, {listens(false), soon, contract.Critical}, {listens(true), soon, contract.Passing},
		}},
		"a restarted container is ready before the kubelet reports": {nil, []probeStep{
			{listens(true), soon, contract.Passing},
			{kubelet(true), soon, contract.Passing},
			{listens(false), soon, contract.Critical},
			{restarts, soon, contract.Critical},
			{listens(true), soon, contract.Passing},
		}},
		"an exec probe is left to the kubelet": {func(c *corev1.Container) { c.ReadinessProbe = exec }, []probeStep{
			{listens(true), time.Minute, contract.Critical}, {kubelet(true), soon, contract.Passing}, {listens(false), soon, contract.Passing},
		}},
		"a container without a probe is left to the kubelet": {func(c *corev1.Container) { c.ReadinessProbe = nil }, []probeStep{
			{listens(true), time.Minute, contract.Critical}, {kubelet(true), soon, contract.Passing},
		}},
		"a probe of another host is left to the kubelet": {func(c *corev1.Container) { c.ReadinessProbe.TCPSocket.Host = "10.9.9.9" }, []probeStep{
			{listens(true), time.Minute, contract.Critical}, {kubelet(true), soon, contract.Passing},
		}},
		"an initial delay is kept": {func(c *corev1.Container) { c.ReadinessProbe.InitialDelaySeconds = 30 }, []probeStep{
			{listens(true), 29 * time.Second, contract.Critical}, {listens(true), 2 * time.Second, contract.Passing},
		}},
		"the startup probe comes first": {startup, []probeStep{
			{listens(true), time.Minute, contract.Critical},
			{func(w *world, _ *Registrar, pod *corev1.Pod) *corev1.Pod { w.listen(81, true); return pod }, soon, contract.Passing},
		}},
		"the kubelet may report the start": {startup, []probeStep{
			{starts, soon, contract.Critical},
			{listens(true), soon, contract.Passing},
		}},
		"an exec startup probe waits for the kubelet": {func(c *corev1.Container) { c.StartupProbe = exec }, []probeStep{
			{listens(true), time.Minute, contract.Critical},
			{starts, soon, contract.Passing},
		}},
		"an excluded container has no probe": {nil, []probeStep{
			{func(_ *world, r *Registrar, pod *corev1.Pod) *corev1.Pod {
				pod = pod.DeepCopy()
				pod.Annotations[contract.ContainerExclude] = "app"
				r.OnUpdate(pod)
				return pod
			}, soon, contract.Passing},
		}},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			pod := probed(c.change)
			r, _ := w.start(t, pod)
			after(10 * time.Millisecond) // until it is registered, as critical
			for i, step := range c.steps {
				pod = step.do(w, r, pod)
				after(max(step.wait, 10*time.Millisecond))
				w.expectHealth(t, fmt.Sprintf("after step %d", i+1), step.want)
			}
		})
	}
}

// TestStartAndKubelet is about the same under readiness: start: the probe counts until the kubelet's first word.
func TestStartAndKubelet(t *testing.T) {
	const soon = time.Second
	for name, c := range map[string]struct {
		change func(*corev1.Container)
		steps  []probeStep
		probes bool // at the end
	}{
		"the probe succeeds before the kubelet's": {nil, []probeStep{{listens(true), soon, contract.Passing}}, true},
		"the kubelet is first":                    {nil, []probeStep{{kubelet(true), soon, contract.Passing}}, false},
		"the kubelet agrees, and the probe would fail from then on": {nil, []probeStep{
			{listens(true), soon, contract.Passing},
			{kubelet(true), soon, contract.Passing},
			{listens(false), time.Minute, contract.Passing},
			{kubelet(false), 0, contract.Critical},
			{listens(true), time.Minute, contract.Critical},
			{kubelet(true), 0, contract.Passing},
		}, false},
		"a probe that never succeeds keeps nobody out": {nil, []probeStep{
			{listens(false), time.Minute, contract.Critical}, {kubelet(true), 0, contract.Passing},
		}, false},
		"the probe fails again before the kubelet's": {nil, []probeStep{
			{listens(true), soon, contract.Passing}, {listens(false), soon, contract.Critical}, {kubelet(true), 0, contract.Passing},
		}, false},
		"a kubelet that never agrees": {nil, []probeStep{
			{listens(true), kubeletTime - time.Second, contract.Passing},
			{listens(true), 2 * time.Second, contract.Critical},
			{kubelet(true), soon, contract.Passing},
		}, false},
		"a container that takes long is left to the kubelet": {nil, []probeStep{
			{listens(false), startsWithin + time.Second, contract.Critical},
			{listens(true), time.Minute, contract.Critical},
			{kubelet(true), soon, contract.Passing},
		}, false},
		"a restarted container is probed again": {nil, []probeStep{
			{listens(true), soon, contract.Passing},
			{kubelet(true), soon, contract.Passing},
			{listens(false), soon, contract.Passing},
			{restarts, soon, contract.Critical},
			{listens(true), soon, contract.Passing},
		}, true},
		"an exec probe is left to the kubelet": {func(c *corev1.Container) { c.ReadinessProbe = execProbe() }, []probeStep{
			{listens(true), time.Minute, contract.Critical}, {kubelet(true), soon, contract.Passing},
		}, false},
		"the startup probe comes first": {func(c *corev1.Container) { c.StartupProbe = tcpProbe(81) }, []probeStep{
			{listens(true), time.Minute, contract.Critical},
			{func(w *world, _ *Registrar, pod *corev1.Pod) *corev1.Pod { w.listen(81, true); return pod }, soon, contract.Passing},
		}, true},
	} {
		runInWorld(t, name, func(t *testing.T, w *world) {
			pod := probed(c.change)
			delete(pod.Annotations, contract.Readiness) // it is the default
			r, _ := w.start(t, pod)
			after(10 * time.Millisecond)
			for i, step := range c.steps {
				pod = step.do(w, r, pod)
				after(max(step.wait, 10*time.Millisecond))
				w.expectHealth(t, fmt.Sprintf("after step %d", i+1), step.want)
			}
			before := w.count("probe")
			after(time.Minute)
			if probes := w.count("probe") > before; probes != c.probes {
				t.Errorf("probes in the minute after: %v, want %v", probes, c.probes)
			}
		})
	}
}

// TestStartProbesEagerly: ten times a second at first, then five times.
func TestStartProbesEagerly(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		pod := probed(nil)
		delete(pod.Annotations, contract.Readiness)
		w.start(t, pod)
		after(eagerFor)
		eager := w.count("probe")
		after(eagerFor)
		if later := w.count("probe") - eager; eager < 290 || eager > 310 || later < 145 || later > 155 {
			t.Errorf("%d probes in the first %s and %d in the next, want 300 and 150", eager, eagerFor, later)
		}
	})
}

// TestStartLeavesOldContainersToTheKubelet: an agentlet that starts beside a container that has run for long, and is unready,
// knows nothing better than the kubelet does.
func TestStartLeavesOldContainersToTheKubelet(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.listen(80, true)
		pod := probed(nil)
		delete(pod.Annotations, contract.Readiness)
		pod.Status.ContainerStatuses[0].State.Running.StartedAt = metav1.NewTime(time.Now().Add(-startsWithin))
		w.start(t, pod)
		after(time.Minute)
		w.expectHealth(t, "not ready for the kubelet", contract.Critical)
		if n := w.count("probe"); n > 0 {
			t.Errorf("%d probes", n)
		}
	})
}

func TestProbeOfAnAdoptedPodLeavesNoGap(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.slow = map[string]time.Duration{"probe": 300 * time.Millisecond}
		w.listen(80, true)
		w.adopt(w.defined(probed(nil)))
		w.start(t, gated(ready(probed(nil), true), gateOpen, contract.Registered))
		after(5 * time.Second)
		if n := w.count("readiness"); n != 0 {
			t.Errorf("a restart of the agentlet changed the readiness check %d times", n)
		}
	})
}

func TestProbingEndsWithTermination(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		r, _ := w.start(t, probed(nil))
		after(time.Minute)
		if n := w.count("probe"); n < 290 || n > 310 {
			t.Errorf("%d probes in a minute, want 300", n)
		}
		r.PreStop()
		after(0)
		n := w.count("probe")
		after(time.Minute)
		if more := w.count("probe") - n; more > 0 {
			t.Errorf("%d probes after the first sign of the end", more)
		}
	})
}

func TestCancelledProbeIsNoFailure(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	o := probeContainer{probe: &registration.Probe{}}.run(ctx, answers{err: errors.New("connection reset")}.config())
	if !errors.Is(o.err, context.Canceled) || o.failure != nil {
		t.Errorf("outcome %+v, want cancelled", o)
	}
}

func TestHangingProbeIsCancelledAtTheEnd(t *testing.T) {
	inWorld(t, func(t *testing.T, w *world) {
		w.setFail(failing(context.DeadlineExceeded, "probe"))
		pod := probed(nil)
		pod.Annotations[contract.DrainDelay] = "0s"
		r, ended := w.start(t, pod)
		after(time.Second)
		began := time.Now()
		r.Terminate()
		if err := <-ended; err != nil || time.Since(began) > time.Second {
			t.Errorf("Run = %v after %s", err, time.Since(began))
		}
	})
}
