package agentlet

import (
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestWorkerReady(t *testing.T) {
	const start, always, silent, reported = true, false, false, true
	for name, c := range map[string]struct {
		startOnly, kubeletReported, kubelet bool
		probe                               result
		want                                bool
	}{
		"nobody has said anything":                         {always, silent, false, resultUnknown, false},
		"the probe fails before the kubelet's first word":  {always, silent, false, resultNotReady, false},
		"the probe succeeds before it":                     {always, silent, false, resultReady, true},
		"the kubelet says not ready, no probe yet":         {always, reported, false, resultUnknown, false},
		"both say not ready":                               {always, reported, false, resultNotReady, false},
		"the kubelet says not ready, the probe succeeds":   {always, reported, false, resultReady, false},
		"the kubelet says ready, no probe yet":             {always, reported, true, resultUnknown, true},
		"the kubelet says ready, the probe fails":          {always, reported, true, resultNotReady, false},
		"both say ready":                                   {always, reported, true, resultReady, true},
		"start: nobody has said anything":                  {start, silent, false, resultUnknown, false},
		"start: the probe fails before the kubelet's word": {start, silent, false, resultNotReady, false},
		"start: the probe succeeds before it":              {start, silent, false, resultReady, true},
		"start: the kubelet says ready":                    {start, reported, true, resultUnknown, true},
		"start: the kubelet says ready, the probe failed":  {start, reported, true, resultNotReady, true},
		"start: the kubelet says not ready":                {start, reported, false, resultReady, false},
	} {
		t.Run(name, func(t *testing.T) {
			w := worker{startOnly: c.startOnly, kubeletReported: c.kubeletReported, result: c.probe}
			if got := w.ready(c.kubelet); got != c.want {
				t.Errorf("ready %v, want %v", got, c.want)
			}
		})
	}
}

func TestThresholds(t *testing.T) {
	for name, c := range map[string]struct {
		success, failure int
		results          string // + and -
		want             result
		pause            time.Duration // until the next probe
	}{
		"no result":                                {1, 3, "", resultUnknown, 0},
		"one success":                              {1, 3, "+", resultReady, probeEvery},
		"failures below the threshold":             {1, 3, "--", resultUnknown, probeEvery},
		"failures at the threshold":                {1, 3, "---", resultNotReady, probeEvery},
		"ready, with failures below the threshold": {1, 3, "+--", resultReady, probeAgain},
		"ready, with a success between failures":   {1, 3, "+--+--", resultReady, probeAgain},
		"ready, with a success after failures":     {1, 3, "+--+", resultReady, probeEvery},
		"ready, with failures at the threshold":    {1, 3, "+---", resultNotReady, probeEvery},
		"ready again at the first success":         {1, 3, "+---+", resultReady, probeEvery},
		"successes below the threshold":            {3, 1, "++-++", resultNotReady, probeAgain},
		"successes at the threshold":               {3, 1, "++-+++", resultReady, probeEvery},
	} {
		t.Run(name, func(t *testing.T) {
			probe := &registration.Probe{SuccessThreshold: c.success, FailureThreshold: c.failure}
			now := time.Now()
			w := worker{probes: registration.ContainerProbes{Readiness: probe}, started: true, due: now}
			for _, result := range c.results {
				w.record(result == '+', now)
			}
			if pause := w.due.Sub(now); w.result != c.want || pause != c.pause {
				t.Errorf("%q comes to %q, want %q; the next probe after %s, want %s", c.results, w.result, c.want, pause, c.pause)
			}
		})
	}
}
