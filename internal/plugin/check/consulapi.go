package check

import (
	"context"
	"errors"
	"fmt"

	"github.com/hashicorp/consul/api"
)

// API is Consul's API by its client.
type API struct {
	Client *api.Client
}

var _ Consul = API{}

// Version of the agent that the client speaks to.
func (a API) Version(ctx context.Context) (string, error) {
	type config struct {
		Config struct{ Version string }
	}
	var is config
	if _, err := a.Client.Raw().Query("/v1/agent/self", &is, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
		return "", fmt.Errorf("read agent: %w", err)
	}
	if is.Config.Version == "" {
		return "", errors.New("read agent: it says no version")
	}
	return is.Config.Version, nil
}

// Nodes of the catalog.
func (a API) Nodes(ctx context.Context) (map[string]bool, error) {
	query := (&api.QueryOptions{}).WithContext(ctx)
	nodes, _, err := a.Client.Catalog().Nodes(query)
	if err != nil {
		return nil, fmt.Errorf("read nodes: %w", err)
	}
	critical, _, err := a.Client.Health().State(api.HealthCritical, query)
	if err != nil {
		return nil, fmt.Errorf("read health: %w", err)
	}
	failed := map[string]bool{}
	for _, c := range critical {
		if c.CheckID == "serfHealth" {
			failed[c.Node] = true
		}
	}
	alive := make(map[string]bool, len(nodes))
	for _, node := range nodes {
		alive[node.Address] = !failed[node.Node]
	}
	return alive, nil
}
