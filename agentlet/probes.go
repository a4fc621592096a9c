package agentlet

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/agentlet/agentlet/agentlet/registration"
)

// word is what somebody says of a container's readiness.
type word int

const (
	silent word = iota
	no
	yes
)

func (w word) String() string { return [...]string{"silent", "not ready", "ready"}[w] }

// agree puts the kubelet's word and the agentlet's own probe's together: as long as one is silent the other decides, and
// then a container is ready only while both say so.
func agree(kubelet, probe word) bool {
	switch {
	case kubelet == silent:
		return probe == yes
	case probe == silent:
		return kubelet == yes
	}
	return kubelet == yes && probe == yes
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

// probing is what the agentlet's own probes have said of one container.
type probing struct {
	probes registration.ContainerProbes
	// instance is the ID of the container that they went to; a restarted one is another.
	instance string
	begun    time.Time
	// due is when the next probe goes out.
	due time.Time
	// started: the startup probe has succeeded, or the kubelet says so, or there is none.
	started bool
	// said is what the last run of equal results was about, run its length, word what it came to under the thresholds.
	said word
	run  int
	word word
	// since is when the word became what it is, failedAt when it last became no. flapping: and it had not long before.
	since, failedAt time.Time
	flapping        bool
	// heard: the kubelet has said that this container is ready, or has had the time to, so that its no is one.
	heard bool
}

// current is the probe to run now; nil while the kubelet has to speak first.
func (p *probing) current() *registration.Probe {
	switch {
	case p.started:
		return p.probes.Readiness
	case p.probes.AwaitsKubelet:
		return nil
	}
	return p.probes.Startup
}

// begin a stage: count from nothing, and keep the initial delay of its probe.
func (p *probing) begin(now time.Time) {
	p.said, p.run, p.word = silent, 0, silent
	p.due = now
	if probe := p.current(); probe != nil {
		p.due = p.begun.Add(probe.InitialDelay)
		if latest := now.Add(probe.InitialDelay); p.due.After(latest) { // the clock was put back
			p.due = latest
		}
	}
}

// take in one result, under the probe's thresholds.
func (p *probing) take(passed bool, now time.Time) {
	p.due = now.Add(probeEvery)
	said, threshold := no, p.current().FailureThreshold
	if passed {
		said, threshold = yes, p.current().SuccessThreshold
	}
	if said != p.said {
		p.said, p.run = said, 0
	}
	p.run++
	switch {
	case p.run < threshold:
		if p.started && p.word != silent && said != p.word {
			p.due = now.Add(probeAgain)
		}
	case p.started:
		p.speak(said, now)
	case passed:
		p.started = true
		p.begin(now)
	}
}

// speak says a word, at once as a rule. Of a container that fails again within two of the kubelet's periods only the failure
// is told at once, and that it is ready when one period is over: so one that flaps costs Consul no more than two writes a
// period, which is what the kubelet's word could cost. Its probes go on, and the next success asks again.
func (p *probing) speak(w word, now time.Time) {
	period := p.probes.Readiness.Period
	switch {
	case p.word == w, w == yes && p.flapping && now.Before(p.failedAt.Add(period)):
		return
	case w == no:
		p.flapping = !p.failedAt.IsZero() && now.Before(p.failedAt.Add(2*period))
		p.failedAt = now
	}
	p.word, p.since = w, now
}

// patience is how long the kubelet may take to find out by itself what the own probe has found out.
func (p *probing) patience() time.Duration {
	took := func(probe *registration.Probe) time.Duration {
		return time.Duration(probe.SuccessThreshold)*probe.Period + probe.Timeout
	}
	d := took(p.probes.Readiness) + kubeletLag
	if p.probes.Startup != nil {
		d += took(p.probes.Startup)
	}
	return d
}

// seeContainers follows the containers whose probes the agentlet runs: a new instance of one begins anew, one that does
// not run has none.
func (s *state) seeContainers(now time.Time) {
	var probes map[string]registration.ContainerProbes
	if s.reg != nil && !s.stale() && !s.terminating() {
		probes = s.reg.Probes
	}
	for name := range s.probings {
		if _, still := probes[name]; !still {
			delete(s.probings, name)
		}
	}
	for name, own := range probes {
		status := containerStatus(s.pod, name)
		if status == nil || status.State.Running == nil {
			delete(s.probings, name)
			continue
		}
		p := s.probings[name]
		if p == nil || p.instance != status.ContainerID {
			p = &probing{probes: own, instance: status.ContainerID, begun: status.State.Running.StartedAt.Time}
			p.started = own.Startup == nil && !own.AwaitsKubelet
			p.begin(now)
			s.probings[name] = p
		}
		if !p.started && status.Started != nil && *status.Started {
			p.started = true
			p.begin(now)
		}
		p.heard = p.heard || status.Ready || p.word == yes && !now.Before(p.since.Add(p.patience()))
	}
}

// containerReady reports whether a container is ready, by the kubelet's word, and the own probe's where there is one.
func (s *state) containerReady(name string) bool {
	status := containerStatus(s.pod, name)
	p := s.probings[name]
	if status == nil || p == nil {
		return status != nil && status.Ready
	}
	kubelet := silent
	switch {
	case status.Ready:
		kubelet = yes
	case p.heard:
		kubelet = no
	}
	return agree(kubelet, p.word)
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
	for name, probing := range s.probings {
		if probe := probing.current(); probe != nil && p.reached(now, probing.due) {
			p.add(s, now, action{kind: probeContainer, id: name, hash: probing.instance, probe: probe})
		}
		if !probing.heard && probing.word == yes {
			p.reached(now, probing.since.Add(probing.patience()))
		}
	}
}

// applyProbe takes in a probe's result, unless the container is another by now.
func (s *state) applyProbe(r result, now time.Time) {
	p := s.probings[r.action.id]
	if p == nil || p.instance != r.action.hash || p.current() != r.action.probe {
		return
	}
	p.take(r.failure == nil, now)
	s.seeReadiness(now)
}
