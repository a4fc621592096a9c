package agentlet

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestAgree(t *testing.T) {
	for words, want := range map[[2]result]bool{ // the kubelet's, the own probe's
		{resultUnknown, resultUnknown}: false, {resultUnknown, resultNotReady}: false, {resultUnknown, resultReady}: true,
		{resultNotReady, resultUnknown}: false, {resultNotReady, resultNotReady}: false, {resultNotReady, resultReady}: false,
		{resultReady, resultUnknown}: true, {resultReady, resultNotReady}: false, {resultReady, resultReady}: true,
	} {
		if got := combine(words[0], words[1]); got != want {
			t.Errorf("the kubelet is %s, the probe %s: ready %v, want %v", words[0], words[1], got, want)
		}
	}
}

func TestThresholds(t *testing.T) {
	cases := map[string]struct {
		success, failure int
		results          string // + and -
		want             result
		pause            time.Duration // until the next probe
	}{
		"nothing is known":              {1, 3, "", resultUnknown, 0},
		"one success is enough":         {1, 3, "+", resultReady, probeEvery},
		"failures below the threshold":  {1, 3, "--", resultUnknown, probeEvery},
		"at it":                         {1, 3, "---", resultNotReady, probeEvery},
		"ready bears failures below it": {1, 3, "+--", resultReady, probeAgain},
		"a success between them":        {1, 3, "+--+--", resultReady, probeAgain},
		"and ends them":                 {1, 3, "+--+", resultReady, probeEvery},
		"and no more":                   {1, 3, "+---", resultNotReady, probeEvery},
		"back at the first success":     {1, 3, "+---+", resultReady, probeEvery},
		"several successes":             {3, 1, "++-++", resultNotReady, probeAgain},
		"in a row":                      {3, 1, "++-+++", resultReady, probeEvery},
	}
	for name, c := range cases {
		probe := &registration.Probe{SuccessThreshold: c.success, FailureThreshold: c.failure}
		now := time.Now()
		p := worker{probes: registration.ContainerProbes{Readiness: probe}, started: true, due: now}
		for _, result := range c.results {
			p.record(result == '+', now)
		}
		if pause := p.due.Sub(now); p.result != c.want || pause != c.pause {
			t.Errorf("%s: %q comes to %q, want %q; the next probe after %s, want %s", name, c.results, p.result, c.want, pause, c.pause)
		}
	}
}

const probePeriod = 10 * time.Second

// probed is a pod whose container began now and has a TCP readiness probe on port 80, of 10s.
func probed(change func(*corev1.Container)) *corev1.Pod {
	pod := testPod("readiness", "probe")
	c := &pod.Spec.Containers[0]
	c.ReadinessProbe = tcpProbe(80)
	if change != nil {
		change(c)
	}
	begin(pod, "first")
	return pod
}

func tcpProbe(port int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:  corev1.ProbeHandler{TCPSocket: &corev1.TCPSocketAction{Port: intstr.FromInt32(port)}},
		PeriodSeconds: int32(probePeriod / time.Second), TimeoutSeconds: 1, SuccessThreshold: 1, FailureThreshold: 3,
	}
}

// begin has the pod's container run since now, as this instance.
func begin(pod *corev1.Pod, instance string) {
	status := &pod.Status.ContainerStatuses[0]
	status.ContainerID, status.Ready = instance, false
	status.State = corev1.ContainerState{Running: &corev1.ContainerStateRunning{StartedAt: metav1.Now()}}
}

func (w *world) listen(port int, yes bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.listens[port] = yes
}

func TestProbeOpensTheGateBeforeTheKubeletLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := w.start(t)
		r.OnUpdate(probed(nil))
		after(2 * time.Second)
		if got := w.inCatalog(webID); got != "" {
			t.Errorf("in the catalog as %s before the application listens", got)
		}
		w.listen(80, true)
		after(probeEvery + 10*time.Millisecond)
		if w.last().Status != corev1.ConditionTrue || w.inCatalog(webID) != contract.Passing {
			t.Errorf("a moment after the application listens the gate is %v, the catalog %q", w.last().Status, w.inCatalog(webID))
		}
	})
}

func TestProbeFailsSoonerThanTheKubelet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.listen(80, true)
		r, _ := w.start(t)
		r.OnUpdate(probed(nil))
		after(time.Second)
		r.OnUpdate(ready(probed(nil), true))
		after(time.Second)
		w.listen(80, false)
		after(2*probeAgain - 10*time.Millisecond)
		if got := w.inCatalog(webID); got != contract.Passing {
			t.Errorf("%s below the failure threshold", got)
		}
		after(probeEvery + 20*time.Millisecond)
		if got := w.inCatalog(webID); got != contract.Critical {
			t.Errorf("%s beyond the failure threshold, though the kubelet still says ready", got)
		}
		if w.last().Status != corev1.ConditionTrue {
			t.Error("an open gate closed")
		}
	})
}

// TestFlappingProbeIsBounded has an application flap about as fast as it is probed, with a failure threshold of one.
func TestFlappingProbeIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.listen(80, true)
		r, _ := w.start(t)
		pod := probed(func(c *corev1.Container) { c.ReadinessProbe.FailureThreshold = 1 })
		r.OnUpdate(pod)
		after(time.Second)
		r.OnUpdate(ready(pod, true))
		flap := func() {
			w.listen(80, false)
			after(2 * probeEvery)
			if got := w.inCatalog(webID); got != contract.Critical {
				t.Errorf("%s at a failure, want critical at once", got)
			}
			w.listen(80, true)
			after(2 * probeEvery)
		}
		flap()
		if got := w.inCatalog(webID); got != contract.Passing {
			t.Errorf("%s after a single failure, want passing at once", got)
		}
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
		if got := w.inCatalog(webID); got != contract.Passing {
			t.Errorf("%s when the flapping is over", got)
		}
		after(2 * probePeriod)
		flap()
		if got := w.inCatalog(webID); got != contract.Passing {
			t.Errorf("%s after a single failure long after it, want passing at once", got)
		}
	})
}

// TestProbeAndKubelet goes through what the two may say one after the other.
func TestProbeAndKubelet(t *testing.T) {
	const soon = time.Second
	beyond := probePeriod + time.Second + kubeletLag
	kubelet := func(yes bool) func(*world, *Registrar, *corev1.Pod) *corev1.Pod {
		return func(_ *world, r *Registrar, pod *corev1.Pod) *corev1.Pod {
			pod = ready(pod, yes)
			r.OnUpdate(pod)
			return pod
		}
	}
	listens := func(yes bool) func(*world, *Registrar, *corev1.Pod) *corev1.Pod {
		return func(w *world, _ *Registrar, pod *corev1.Pod) *corev1.Pod { w.listen(80, yes); return pod }
	}
	restarts := func(_ *world, r *Registrar, pod *corev1.Pod) *corev1.Pod {
		pod = pod.DeepCopy()
		begin(pod, "second")
		r.OnUpdate(pod)
		return pod
	}
	type step struct {
		do   func(*world, *Registrar, *corev1.Pod) *corev1.Pod
		wait time.Duration
		want contract.Health
	}
	exec := &corev1.Probe{ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{}}}
	startup := func(c *corev1.Container) { c.StartupProbe = tcpProbe(81) }
	cases := map[string]struct {
		change func(*corev1.Container)
		steps  []step
	}{
		"a kubelet that disagrees after its first word": {nil, []step{
			{listens(true), soon, contract.Passing}, {kubelet(true), soon, contract.Passing}, {kubelet(false), soon, contract.Critical},
		}},
		"a kubelet that never agrees": {nil, []step{
			{listens(true), beyond - time.Second, contract.Passing},
			{listens(true), 2 * time.Second, contract.Critical},
			{listens(false), soon, contract.Critical},
			{listens(true), soon, contract.Critical},
			{kubelet(true), soon, contract.Passing},
		}},
		"a probe that disagrees": {nil, []step{
			{kubelet(true), 0, contract.Passing}, {listens(false), soon, contract.Critical}, {listens(true), soon, contract.Passing},
		}},
		"a container that begins anew owes the kubelet nothing": {nil, []step{
			{listens(true), soon, contract.Passing},
			{kubelet(true), soon, contract.Passing},
			{listens(false), soon, contract.Critical},
			{restarts, soon, contract.Critical},
			{listens(true), soon, contract.Passing},
		}},
		"an exec probe is the kubelet's": {func(c *corev1.Container) { c.ReadinessProbe = exec }, []step{
			{listens(true), time.Minute, ""}, {kubelet(true), soon, contract.Passing}, {listens(false), soon, contract.Passing},
		}},
		"a container without a probe is the kubelet's": {func(c *corev1.Container) { c.ReadinessProbe = nil }, []step{
			{listens(true), time.Minute, ""}, {kubelet(true), soon, contract.Passing},
		}},
		"a probe elsewhere is the kubelet's": {func(c *corev1.Container) { c.ReadinessProbe.TCPSocket.Host = "10.9.9.9" }, []step{
			{listens(true), time.Minute, ""}, {kubelet(true), soon, contract.Passing},
		}},
		"an initial delay is kept": {func(c *corev1.Container) { c.ReadinessProbe.InitialDelaySeconds = 30 }, []step{
			{listens(true), 29 * time.Second, ""}, {listens(true), 2 * time.Second, contract.Passing},
		}},
		"the startup probe comes first": {startup, []step{
			{listens(true), time.Minute, ""},
			{func(w *world, _ *Registrar, pod *corev1.Pod) *corev1.Pod { w.listen(81, true); return pod }, soon, contract.Passing},
		}},
		"the kubelet may say that it has started": {startup, []step{
			{func(_ *world, r *Registrar, pod *corev1.Pod) *corev1.Pod {
				pod.Status.ContainerStatuses[0].Started = new(true)
				r.OnUpdate(pod.DeepCopy())
				return pod
			}, soon, ""},
			{listens(true), soon, contract.Passing},
		}},
		"an exec startup probe waits for the kubelet": {func(c *corev1.Container) { c.StartupProbe = exec }, []step{
			{listens(true), time.Minute, ""},
			{func(_ *world, r *Registrar, pod *corev1.Pod) *corev1.Pod {
				pod.Status.ContainerStatuses[0].Started = new(true)
				r.OnUpdate(pod.DeepCopy())
				return pod
			}, soon, contract.Passing},
		}},
		"an excluded container has none": {nil, []step{
			{func(_ *world, r *Registrar, pod *corev1.Pod) *corev1.Pod {
				pod = pod.DeepCopy()
				pod.Annotations[contract.ContainerExclude] = "app"
				r.OnUpdate(pod)
				return pod
			}, soon, contract.Passing},
		}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld()
				r, _ := w.start(t)
				pod := probed(c.change)
				r.OnUpdate(pod.DeepCopy())
				after(0)
				for i, step := range c.steps {
					pod = step.do(w, r, pod)
					after(max(step.wait, 10*time.Millisecond))
					if got := w.inCatalog(webID); got != step.want {
						t.Fatalf("after step %d the catalog says %q, want %q", i+1, got, step.want)
					}
				}
			})
		})
	}
}

func TestProbeOfAnAdoptedPodLeavesNoGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.slow = map[string]time.Duration{"probe": 300 * time.Millisecond}
		w.listen(80, true)
		w.agent[webID] = w.held(w.defined(probed(nil)))
		w.syncNow()
		r, _ := w.start(t)
		r.OnUpdate(gated(ready(probed(nil), true), corev1.ConditionTrue, contract.Registered))
		after(5 * time.Second)
		if n := w.count("readiness"); n != 0 {
			t.Errorf("%d changes of the readiness check by a restart of the agentlet", n)
		}
	})
}

func TestProbingEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		r, _ := w.start(t)
		r.OnUpdate(probed(nil))
		after(time.Minute)
		if n := w.count("probe"); n < 290 || n > 310 {
			t.Errorf("%d probes in a minute, want 300", n)
		}
		r.PreStop()
		after(0)
		n := w.count("probe")
		after(time.Minute)
		if more := w.count("probe") - n; more > 0 {
			t.Errorf("%d probes after the end began", more)
		}
	})
}

func TestHangingProbeIsGivenUpAtTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.setFail(failing(context.DeadlineExceeded, "probe"))
		r, ended := w.start(t)
		r.OnUpdate(probed(nil))
		after(time.Second)
		began := time.Now()
		r.Terminate()
		if err := <-ended; err != nil || time.Since(began) > time.Second {
			t.Errorf("Run = %v after %s", err, time.Since(began))
		}
	})
}
