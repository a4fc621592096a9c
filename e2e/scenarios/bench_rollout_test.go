package scenarios_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// A rollout of that many replicas, so often for each variant. The application is ready 2 s after its start.
const (
	rolloutReplicas = 20
	rolloutRepeats  = 3
	rolloutStart    = "2s"
)

// rolloutVariants are annotations by the figure's name; without any, nothing is injected.
var rolloutVariants = map[string][]string{
	"plain":      {contract.InjectLabel[len(contract.Prefix):], contract.InjectDisabled},
	"passing":    {"gate", "passing"},
	"registered": {"gate", "registered"},
	"probe":      {"readiness", "probe"},
}

func TestBenchRollout(t *testing.T) {
	s := scenario.New(t, scenario.Bench())
	took := map[string][]float64{}
	s.When("each variant is rolled out again and again", func() {
		// Interleaved, so that what else the machine does hits all alike.
		for range rolloutRepeats {
			for _, name := range slices.Sorted(maps.Keys(rolloutVariants)) {
				seconds := rolloutOf(s, rolloutVariants[name])
				took[name] = append(took[name], seconds)
				s.Logf("%-10s %.1f s", name, seconds)
			}
		}
	})
	s.Then("their ratios are known", func() {
		plain := observe.Quantile(took["plain"], 0.5)
		record(s, "rollout_s_plain", plain, len(took["plain"]))
		for name, seconds := range took {
			if name != "plain" {
				record(s, "rollout_ratio_"+name, observe.Quantile(seconds, 0.5)/plain, len(seconds))
			}
		}
	})
}

// rolloutOf creates a Deployment of the variant, and is the time in seconds that its restart takes.
func rolloutOf(s *scenario.S, annotations []string) float64 {
	s.Helper()
	template := s.Sample(s.Annotations(annotations...))
	scenario.SetEnv(&template, "READY_AFTER", rolloutStart)
	s.Deployment(rolloutReplicas, template)
	s.Rollout()
	began := time.Now()
	s.Restart()
	s.Rollout()
	took := time.Since(began).Seconds()
	_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "delete", "deployment", "sample", "--cascade=foreground", "--timeout=2m")
	s.Must(err)
	return took
}
