package check

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/internal/cli/apiproxy"
)

// consulTimeout bounds one call of Consul's API.
const consulTimeout = 10 * time.Second

// API is Consul's HTTP API through its client library.
type API struct {
	client *api.Client
}

var _ Consul = API{}

// NewAPI returns the API at an address. All other settings come from Consul's own environment variables.
func NewAPI(address string) (API, error) {
	settings := api.DefaultConfig()
	settings.Address = address
	if socket, found := strings.CutPrefix(address, "unix://"); found { // or else the library would create its own client for it
		settings.Transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
		settings.Address = "localhost"
	}
	client, err := api.NewHttpClient(settings.Transport, settings.TLSConfig)
	if err != nil {
		return API{}, fmt.Errorf("create consul client: %w", err)
	}
	client.Transport, client.Timeout = apiproxy.Bound(client.Transport), consulTimeout
	settings.HttpClient = client
	consul, err := api.NewClient(settings)
	if err != nil {
		return API{}, fmt.Errorf("create consul client: %w", err)
	}
	return API{consul}, nil
}

// Version returns the version of the agent at the client's address.
func (a API) Version(ctx context.Context) (string, error) {
	type config struct {
		Config struct{ Version string }
	}
	var is config
	if _, err := a.client.Raw().Query("/v1/agent/self", &is, (&api.QueryOptions{}).WithContext(ctx)); err != nil {
		return "", fmt.Errorf("read agent: %w", err)
	}
	if is.Config.Version == "" {
		return "", errors.New("read agent: it says no version")
	}
	return is.Config.Version, nil
}

// addressesAtOnce is how many nodes one query selects: the answer for a catalog of thousands would exceed the size limit.
const addressesAtOnce = 50

// Nodes returns the catalog's nodes with these addresses.
func (a API) Nodes(ctx context.Context, addresses []string) (map[string]bool, error) {
	filtered := func(filter string) *api.QueryOptions { return (&api.QueryOptions{Filter: filter}).WithContext(ctx) }
	critical, _, err := a.client.Health().State(api.HealthCritical, filtered(`CheckID == "serfHealth"`))
	if err != nil {
		return nil, fmt.Errorf("read health: %w", err)
	}
	failed := map[string]bool{}
	for _, c := range critical {
		failed[c.Node] = true
	}
	// Consul's filters have no escape sequences. An address that needs one is invalid.
	addresses = slices.DeleteFunc(slices.Clone(addresses), func(address string) bool {
		return strconv.Quote(address) != `"`+address+`"`
	})
	alive := map[string]bool{}
	for some := range slices.Chunk(addresses, addressesAtOnce) {
		terms := make([]string, len(some))
		for i, address := range some {
			terms[i] = `Address == "` + address + `"`
		}
		nodes, _, err := a.client.Catalog().Nodes(filtered(strings.Join(terms, " or ")))
		if err != nil {
			return nil, fmt.Errorf("read nodes: %w", err)
		}
		for _, node := range nodes {
			alive[node.Address] = alive[node.Address] || !failed[node.Node]
		}
	}
	return alive, nil
}
