package scenarios_test

import (
	"context"
	"testing"

	"github.com/agentlet/agentlet/e2e/cluster/current"
	"github.com/agentlet/agentlet/e2e/load/driver"
	"github.com/agentlet/agentlet/e2e/observe"
	"github.com/agentlet/agentlet/e2e/scenario"
)

// The load of the rolling restart on any cluster.
const (
	anywhereReplicas = 3
	anywhereRate     = 50
)

// TestBasicRollingRestartSeenFromWithin checks a rolling restart with a client that runs in a pod, so that it runs on any cluster.
func TestBasicRollingRestartSeenFromWithin(t *testing.T) {
	inBothPlaces(t, func(t *testing.T, placed scenario.Option) {
		s := scenario.New(t, scenario.Anywhere(), placed)
		timeline := observe.NewTimeline(nil)
		var client driver.Client
		var old []observe.Life
		s.Given("replicas that a client in a pod follows through its node's Consul agent", func() {
			var state driver.State
			client, state = s.Driver()
			_, err := timeline.Pods(s.Ctx, s.Kube, s.Namespace, "app=sample")
			s.Must(err)
			template := s.Sample(s.Annotations())
			scenario.SetEnv(&template, "COLLECTOR", state.Reports)
			s.Deployment(anywhereReplicas, template)
			s.Rollout()
			s.AwaitCatalog(s.Service(), anywhereReplicas)
			old = timeline.Lives()
			s.Eventually("the client to know the replicas", func(ctx context.Context) (bool, error) {
				state, err := client.State(ctx)
				return state.Passing == anywhereReplicas, err
			})
		})
		s.When("they are restarted under load", func() {
			s.Must(client.Load(s.Ctx, anywhereRate))
			s.Restart()
			s.Rollout()
			s.Eventually("the old pods to be gone", func(context.Context) (bool, error) {
				return len(observe.Spans(timeline.Lives(), observe.Deleted, observe.Gone)) == anywhereReplicas, nil
			})
			s.Must(client.Load(s.Ctx, 0))
		})
		s.Then("no request failed, and SIGTERM came after the catalog had removed each pod", func() {
			state, err := client.State(s.Ctx)
			s.Must(err)
			s.Logf("%d requests, %d failed", state.Requests, state.Failed)
			if len(old) != anywhereReplicas {
				s.Errorf("%d pods were there before, want %d", len(old), anywhereReplicas)
			}
			s.Must(current.Orderly(state, old))
			s.AwaitCatalog(s.Service(), anywhereReplicas)
		})
	})
}
