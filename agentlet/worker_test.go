package agentlet

import (
	"fmt"
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestCombine(t *testing.T) {
	for _, c := range []struct {
		kubelet, probe result
		want           bool
	}{
		{resultUnknown, resultUnknown, false},
		{resultUnknown, resultNotReady, false},
		{resultUnknown, resultReady, true},
		{resultNotReady, resultUnknown, false},
		{resultNotReady, resultNotReady, false},
		{resultNotReady, resultReady, false},
		{resultReady, resultUnknown, true},
		{resultReady, resultNotReady, false},
		{resultReady, resultReady, true},
	} {
		t.Run(fmt.Sprintf("kubelet %s, probe %s", c.kubelet, c.probe), func(t *testing.T) {
			if got := combine(c.kubelet, c.probe); got != c.want {
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
