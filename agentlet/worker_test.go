package agentlet

import (
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/registration"
)

func TestCombine(t *testing.T) {
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
