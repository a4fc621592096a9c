package scenarios_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	"github.com/agentlet/agentlet/e2e/load"
	"github.com/agentlet/agentlet/e2e/programs/clients"
	"github.com/agentlet/agentlet/e2e/scenario"
	"github.com/agentlet/agentlet/hack/figures"
)

const nginxReplicas = 6

func TestClientsNginxRollingRestart(t *testing.T) {
	s := scenario.New(t)
	var f followed
	var nginx *clients.Nginx
	s.Given("replicas behind an nginx whose upstreams consul-template renders", func() {
		f = follow(s, nginxReplicas)
		var err error
		nginx, err = clients.Rendered(s.Ctx, s.TempDir(), s.Cluster.Nodes[0].ConsulAddr(), s.Service())
		s.Must(err)
		s.Cleanup(func() {
			if err := nginx.Stop(); err != nil {
				s.Error(err)
			}
		})
		f.client = load.Fixed(nginx.Address)
		s.Eventually("an answer", func(ctx context.Context) (bool, error) {
			response, err := get(ctx, "http://"+nginx.Address+"/")
			if err != nil {
				return false, err
			}
			return response.StatusCode == http.StatusOK, fmt.Errorf("%s, %w", response.Status, response.Body.Close())
		})
	})
	before := uids(f.timeline.Lives())
	reloads, err := nginx.Reloads()
	s.Must(err)
	s.When("they are restarted under load", func() { f.restart(restartRate) })
	s.Then("no request failed, and each pod started and ended in the right order", func() {
		requests, failed := f.client.Counts()
		after, err := nginx.Reloads()
		s.Must(err)
		s.Logf("%d requests, %d failed, %d reloads", requests, failed, after-reloads)
		s.Must(figures.Merge(s.FiguresFile(), map[string]float64{
			"clients_nginx_requests": float64(requests), "clients_nginx_failed": float64(failed), "clients_nginx_reloads": float64(after - reloads),
		}))
		if requests == 0 || after == reloads {
			s.Error("nothing was tried")
		}
		f.judge(livesAfter(f.timeline, before))
	})
}
