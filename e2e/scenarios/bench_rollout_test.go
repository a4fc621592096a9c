package scenarios_test

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// rolloutStart is how long the application takes to become ready, in all rollouts.
const rolloutStart = "2s"

// rollout defines the number of replicas, the number of repetitions, and the variants: annotations by the figure's name.
type rollout struct {
	replicas, repeats int
	variants          map[string][]string
}

// With many replicas at once, the machine's processors limit the rollout as well.
var (
	manyReplicas = rollout{20, 3, map[string][]string{
		"plain":      notInjected,
		"passing":    {"gate", "passing"},
		"registered": {"gate", "registered"},
		"probe":      {"readiness", "probe"},
	}}
	fewReplicas = rollout{3, 7, map[string][]string{"plain": notInjected, "default": nil}}
)

func TestBenchRollout(t *testing.T) { manyReplicas.run(t, "rollout_s_plain") }

func TestBenchRolloutOfThree(t *testing.T) { fewReplicas.run(t, "rollout_s_plain_3") }

// run records the time of the variant "plain" under that name, and the ratio of each other variant to it.
func (r rollout) run(t *testing.T, plain string) {
	s := scenario.New(t, scenario.Bench())
	took := map[string][]float64{}
	s.When("each variant is rolled out again and again", func() {
		// Interleave the variants, so that other work of the machine affects all alike.
		for range r.repeats {
			for _, name := range slices.Sorted(maps.Keys(r.variants)) {
				seconds := rolloutOf(s, r.replicas, r.variants[name])
				took[name] = append(took[name], seconds)
				s.Logf("%-10s %.1f s", name, seconds)
			}
		}
	})
	s.Then("their ratios are known", func() {
		record(s, plain, observe.Quantile(took["plain"], 0.5), len(took["plain"]))
		for name, seconds := range took {
			if name != "plain" {
				ratio, err := observe.Ratio(seconds, took["plain"], 0.5)
				s.Must(err)
				record(s, "rollout_ratio_"+name, ratio, len(seconds))
			}
		}
	})
}

// rolloutOf creates a Deployment of the variant, and returns the time in seconds of its restart.
func rolloutOf(s *scenario.S, replicas int, annotations []string) float64 {
	s.Helper()
	template := s.Sample(s.Annotations(annotations...))
	scenario.SetEnv(&template, "READY_AFTER", rolloutStart)
	s.Deployment(int32(replicas), template)
	s.Rollout()
	began := time.Now()
	s.Restart()
	s.Rollout()
	took := time.Since(began).Seconds()
	_, err := s.Kubectl(s.Ctx, "-n", s.Namespace, "delete", "deployment", "sample", "--cascade=foreground", "--timeout=2m")
	s.Must(err)
	return took
}
