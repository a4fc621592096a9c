package agentlet

import (
	"time"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// result is what is known of a container's readiness.
type result int

const (
	resultUnknown result = iota
	resultNotReady
	resultReady
)

func (r result) String() string { return [...]string{"unknown", "not ready", "ready"}[r] }

// Times of the agentlet's own probes.
const (
	// probeEvery is the pause after a probe, whatever the kubelet's period is, and probeAgain after one that contradicts the
	// result so far, while its threshold is not reached: three failures in a row, the usual threshold, are there after 0.2 to 0.4 s.
	probeEvery = 200 * time.Millisecond
	probeAgain = 100 * time.Millisecond
	// eagerFor is how long after its start a container is probed each probeAgain, where the kubelet's first word is awaited: a
	// gate that opens a moment after the kubelet's probe, and not before it, costs the pod one of the kubelet's looks, a second.
	eagerFor = 30 * time.Second
	// kubeletLag is how long after its probe the kubelet's result may take to reach the pod's status.
	kubeletLag = 5 * time.Second
	// startsWithin is how long after its start a container is probed until the kubelet's first word: of one that takes longer to
	// become ready nobody notices the second or two that the kubelet needs to say so.
	startsWithin = 5 * time.Minute
)

// worker is what the agentlet's own probes have said of one container.
type worker struct {
	probes registration.ContainerProbes
	// startOnly: the probes count, and go on, until the kubelet has reported, and then the kubelet alone counts.
	startOnly bool
	// instance is the ID of the container that they went to; a restarted one is another.
	instance string
	begun    time.Time
	// due is when the next probe goes out.
	due time.Time
	// started: the startup probe has succeeded, or the kubelet says so, or there is none.
	started bool
	// lastResult is what the last run of equal results was about, resultRun its length, result what it came to under the thresholds.
	lastResult result
	resultRun  int
	result     result
	// since is when the result became what it is, failedAt when it last became not ready. flapping: and it had not long before.
	since, failedAt time.Time
	flapping        bool
	// kubeletReported: the kubelet has said that this container is ready, or has had the time to, so that its silence
	// means not ready.
	kubeletReported bool
}

// observe takes in what the kubelet says of the container.
func (w *worker) observe(ready bool, started *bool, now time.Time) {
	if !w.started && started != nil && *started {
		w.started = true
		w.begin(now)
	}
	inTime := func() bool {
		if w.result == resultReady {
			return now.Before(w.since.Add(w.kubeletDetectionTime()))
		}
		return !w.startOnly || now.Before(w.begun.Add(startsWithin))
	}
	w.kubeletReported = w.kubeletReported || ready || !inTime()
}

// ready reports whether the container is, with what the kubelet says of it now: as long as the kubelet has not had the time
// to report, the probe decides; then the kubelet alone, or, where the probes go on, both.
func (w *worker) ready(kubelet bool) bool {
	switch {
	case kubelet:
		return w.startOnly || w.result != resultNotReady
	case w.kubeletReported:
		return false
	}
	return w.result == resultReady
}

// current is the probe to run now; nil while the kubelet has to report first, and when it alone counts.
func (w *worker) current() *registration.Probe {
	switch {
	case w.startOnly && w.kubeletReported:
		return nil
	case w.started:
		return w.probes.Readiness
	case w.probes.AwaitsKubelet:
		return nil
	}
	return w.probes.Startup
}

// begin a stage: count from nothing, and keep the initial delay of its probe.
func (w *worker) begin(now time.Time) {
	w.lastResult, w.resultRun, w.result = resultUnknown, 0, resultUnknown
	w.due = now
	if probe := w.current(); probe != nil {
		w.due = w.begun.Add(probe.InitialDelay)
		if latest := now.Add(probe.InitialDelay); w.due.After(latest) { // the clock was put back
			w.due = latest
		}
	}
}

// record one probe, under its thresholds.
func (w *worker) record(passed bool, now time.Time) {
	w.due = now.Add(probeEvery)
	if w.startOnly && now.Before(w.begun.Add(eagerFor)) {
		w.due = now.Add(probeAgain)
	}
	said, threshold := resultNotReady, w.current().FailureThreshold
	if passed {
		said, threshold = resultReady, w.current().SuccessThreshold
	}
	if said != w.lastResult {
		w.lastResult, w.resultRun = said, 0
	}
	w.resultRun++
	switch {
	case w.resultRun < threshold:
		if w.started && w.result != resultUnknown && said != w.result {
			w.due = now.Add(probeAgain)
		}
	case w.started:
		w.setResult(said, now)
	case passed:
		w.started = true
		w.begin(now)
	}
}

// setResult sets the result, at once as a rule. Of a container that fails again within two of the kubelet's periods
// only the failure counts at once, and that it is ready when one period is over: so one that flaps costs Consul no more
// than two writes a period, which is what the kubelet's result could cost. Its probes go on, and the next success asks
// again.
func (w *worker) setResult(r result, now time.Time) {
	period := w.probes.Readiness.Period
	switch {
	case w.result == r, r == resultReady && w.flapping && now.Before(w.failedAt.Add(period)):
		return
	case r == resultNotReady:
		w.flapping = !w.failedAt.IsZero() && now.Before(w.failedAt.Add(2*period))
		w.failedAt = now
	}
	w.result, w.since = r, now
}

// kubeletDetectionTime is how long the kubelet may take to find out by itself what the own probe has found out.
func (w *worker) kubeletDetectionTime() time.Duration {
	took := func(probe *registration.Probe) time.Duration {
		return time.Duration(probe.SuccessThreshold)*probe.Period + probe.Timeout
	}
	d := took(w.probes.Readiness) + kubeletLag
	if w.probes.Startup != nil {
		d += took(w.probes.Startup)
	}
	return d
}
