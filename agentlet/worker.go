package agentlet

import (
	"time"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// result is the known readiness of a container.
type result int

const (
	resultUnknown result = iota
	resultNotReady
	resultReady
)

func (r result) String() string { return [...]string{"unknown", "not ready", "ready"}[r] }

// Times of the agentlet's own probes.
const (
	// probeEvery is the pause after a probe, whatever the kubelet's period is. probeAgain is the pause after a probe that
	// contradicts the current result, until the threshold is reached. So three failures in a row, the default threshold, take 0.2
	// to 0.4 s.
	probeEvery = 200 * time.Millisecond
	probeAgain = 100 * time.Millisecond
	// eagerFor is how long after its start a container is probed every probeAgain, if the kubelet's first report is awaited. If
	// the gate opens just after the kubelet's probe instead of before it, the pod waits a second for the kubelet's next sync.
	eagerFor = 30 * time.Second
	// kubeletLag is how long the kubelet's result may take from its probe to the pod's status.
	kubeletLag = 5 * time.Second
	// startsWithin is how long after its start a container is probed until the kubelet's first report. If it takes longer to
	// become ready, the kubelet's delay of a second or two doesn't matter.
	startsWithin = 5 * time.Minute
)

// worker is the state of the agentlet's own probes of one container.
type worker struct {
	probes registration.ContainerProbes
	// startOnly: the probes count only until the kubelet's first report. From then on they stop, and only the kubelet's readiness
	// counts.
	startOnly bool
	// instance is the ID of the probed container. A restarted container has another ID.
	instance string
	begun    time.Time
	// due is the time of the next probe.
	due time.Time
	// started: the startup probe has succeeded, the kubelet reports it, or there is none.
	started bool
	// lastResult is the result of the last probes, resultRun the number of equal results in a row. result is the result after
	// applying the thresholds.
	lastResult result
	resultRun  int
	result     result
	// since is when result last changed, failedAt when it last became not ready. flapping: it had become not ready shortly before
	// that, too.
	since, failedAt time.Time
	flapping        bool
	// kubeletReported: the kubelet has reported this container as ready, or has had the time to do so. From then on its "not
	// ready" counts.
	kubeletReported bool
}

// observe records the kubelet's report about the container.
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

// ready reports whether the container is ready, given the kubelet's current report. Until the kubelet has had the time to report,
// the probe decides. After that both must be ready, or only the kubelet's report counts if the probes have ended.
func (w *worker) ready(kubelet bool) bool {
	switch {
	case kubelet:
		return w.startOnly || w.result != resultNotReady
	case w.kubeletReported:
		return false
	}
	return w.result == resultReady
}

// current returns the probe to run now, or nil while the kubelet has to report first, or if only the kubelet counts.
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

// begin starts a stage (startup or readiness): it resets the counts, and waits for the probe's initial delay.
func (w *worker) begin(now time.Time) {
	w.lastResult, w.resultRun, w.result = resultUnknown, 0, resultUnknown
	w.due = now
	if probe := w.current(); probe != nil {
		w.due = w.begun.Add(probe.InitialDelay)
		if latest := now.Add(probe.InitialDelay); w.due.After(latest) { // the clock was set back
			w.due = latest
		}
	}
}

// record records a probe's result, and applies the thresholds.
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

// setResult sets the result, usually at once. If a container fails again within two of the kubelet's periods, only the failure is
// set at once, and readiness after one period. So a flapping container causes at most two writes to Consul per period, as with
// the kubelet's results. The probes continue, and the next success calls setResult again.
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

// kubeletDetectionTime is how long the kubelet may take to detect what the agentlet's own probe has detected.
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
