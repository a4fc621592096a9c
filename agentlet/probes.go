package agentlet

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// readyResult is what somebody says of a container's readiness.
type readyResult int

const (
	unknownResult readyResult = iota
	notReady
	isReady
)

func (w readyResult) String() string { return [...]string{"silent", "not ready", "ready"}[w] }

// combine puts the kubelet's word and the agentlet's own probe's together: as long as one is silent the other decides, and
// then a container is ready only while both say so.
func combine(kubelet, probe readyResult) bool {
	switch {
	case kubelet == unknownResult:
		return probe == isReady
	case probe == unknownResult:
		return kubelet == isReady
	}
	return kubelet == isReady && probe == isReady
}

// Times of the agentlet's own probes.
const (
	// probeEvery is the pause after a probe, whatever the kubelet's period is, and probeAgain after one that speaks against the
	// word so far, while its threshold is not reached: three failures in a row, the usual threshold, are there after 0.2 to 0.4 s.
	probeEvery = 200 * time.Millisecond
	probeAgain = 100 * time.Millisecond
	// kubeletLag is how long after its probe the kubelet's word may take to reach the pod's status.
	kubeletLag = 5 * time.Second
)

// worker is what the agentlet's own probes have said of one container.
type worker struct {
	probes registration.ContainerProbes
	// instance is the ID of the container that they went to; a restarted one is another.
	instance string
	begun    time.Time
	// due is when the next probe goes out.
	due time.Time
	// started: the startup probe has succeeded, or the kubelet says so, or there is none.
	started bool
	// lastResult is what the last run of equal results was about, run its length, word what it came to under the thresholds.
	lastResult readyResult
	resultRun  int
	result     readyResult
	// since is when the word became what it is, failedAt when it last became no. flapping: and it had not long before.
	since, failedAt time.Time
	flapping        bool
	// kubeletReported: the kubelet has said that this container is ready, or has had the time to, so that its no is one.
	kubeletReported bool
}

// current is the probe to run now; nil while the kubelet has to speak first.
func (p *worker) current() *registration.Probe {
	switch {
	case p.started:
		return p.probes.Readiness
	case p.probes.AwaitsKubelet:
		return nil
	}
	return p.probes.Startup
}

// begin a stage: count from nothing, and keep the initial delay of its probe.
func (p *worker) begin(now time.Time) {
	p.lastResult, p.resultRun, p.result = unknownResult, 0, unknownResult
	p.due = now
	if probe := p.current(); probe != nil {
		p.due = p.begun.Add(probe.InitialDelay)
		if latest := now.Add(probe.InitialDelay); p.due.After(latest) { // the clock was put back
			p.due = latest
		}
	}
}

// record in one result, under the probe's thresholds.
func (p *worker) record(passed bool, now time.Time) {
	p.due = now.Add(probeEvery)
	said, threshold := notReady, p.current().FailureThreshold
	if passed {
		said, threshold = isReady, p.current().SuccessThreshold
	}
	if said != p.lastResult {
		p.lastResult, p.resultRun = said, 0
	}
	p.resultRun++
	switch {
	case p.resultRun < threshold:
		if p.started && p.result != unknownResult && said != p.result {
			p.due = now.Add(probeAgain)
		}
	case p.started:
		p.setResult(said, now)
	case passed:
		p.started = true
		p.begin(now)
	}
}

// setResult says a word, at once as a rule. Of a container that fails again within two of the kubelet's periods only the failure
// is told at once, and that it is ready when one period is over: so one that flaps costs Consul no more than two writes a
// period, which is what the kubelet's word could cost. Its probes go on, and the next success asks again.
func (p *worker) setResult(w readyResult, now time.Time) {
	period := p.probes.Readiness.Period
	switch {
	case p.result == w, w == isReady && p.flapping && now.Before(p.failedAt.Add(period)):
		return
	case w == notReady:
		p.flapping = !p.failedAt.IsZero() && now.Before(p.failedAt.Add(2*period))
		p.failedAt = now
	}
	p.result, p.since = w, now
}

// kubeletDeadline is how long the kubelet may take to find out by itself what the own probe has found out.
func (p *worker) kubeletDeadline() time.Duration {
	took := func(probe *registration.Probe) time.Duration {
		return time.Duration(probe.SuccessThreshold)*probe.Period + probe.Timeout
	}
	d := took(p.probes.Readiness) + kubeletLag
	if p.probes.Startup != nil {
		d += took(p.probes.Startup)
	}
	return d
}

// observeContainers follows the containers whose probes the agentlet runs: a new instance of one begins anew, one that does
// not run has none.
func (s *state) observeContainers(now time.Time) {
	var probes map[string]registration.ContainerProbes
	if s.reg != nil && !s.stale() && !s.terminating() {
		probes = s.reg.Probes
	}
	for name := range s.workers {
		if _, still := probes[name]; !still {
			delete(s.workers, name)
		}
	}
	for name, own := range probes {
		status := containerStatus(s.pod, name)
		if status == nil || status.State.Running == nil {
			delete(s.workers, name)
			continue
		}
		p := s.workers[name]
		if p == nil || p.instance != status.ContainerID {
			p = &worker{probes: own, instance: status.ContainerID, begun: status.State.Running.StartedAt.Time}
			p.started = own.Startup == nil && !own.AwaitsKubelet
			p.begin(now)
			s.workers[name] = p
		}
		if !p.started && status.Started != nil && *status.Started {
			p.started = true
			p.begin(now)
		}
		p.kubeletReported = p.kubeletReported || status.Ready || p.result == isReady && !now.Before(p.since.Add(p.kubeletDeadline()))
	}
}

// containerReady reports whether a container is ready, by the kubelet's word, and the own probe's where there is one.
func (s *state) containerReady(name string) bool {
	status := containerStatus(s.pod, name)
	p := s.workers[name]
	if status == nil || p == nil {
		return status != nil && status.Ready
	}
	kubelet := unknownResult
	switch {
	case status.Ready:
		kubelet = isReady
	case p.kubeletReported:
		kubelet = notReady
	}
	return combine(kubelet, p.result)
}

func containerStatus(pod *corev1.Pod, name string) *corev1.ContainerStatus {
	for _, statuses := range [][]corev1.ContainerStatus{pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses} {
		if i := slices.IndexFunc(statuses, func(c corev1.ContainerStatus) bool { return c.Name == name }); i >= 0 {
			return &statuses[i]
		}
	}
	return nil
}

// planProbes has the containers probed, and wakes where the kubelet's silence becomes a no.
func planProbes(s *state, now time.Time, p *schedule) {
	for name, probing := range s.workers {
		if probe := probing.current(); probe != nil && p.reached(now, probing.due) {
			p.add(s, now, action{kind: probeContainer, id: name, hash: probing.instance, probe: probe})
		}
		if !probing.kubeletReported && probing.result == isReady {
			p.reached(now, probing.since.Add(probing.kubeletDeadline()))
		}
	}
}

// handleProbe takes in a probe's result, unless the container is another by now.
func (s *state) handleProbe(r outcome, now time.Time) {
	p := s.workers[r.action.id]
	if p == nil || p.instance != r.action.hash || p.current() != r.action.probe {
		return
	}
	p.record(r.failure == nil, now)
	s.observeReadiness(now)
}
