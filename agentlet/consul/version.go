package consul

import (
	"bytes"
	"context"
	"net/http"
	"strings"

	"github.com/agentlet/agentlet/agentlet/contract"
	"github.com/agentlet/agentlet/agentlet/registration"
)

// knowsNoPorts reports whether an agent refused a registration because it is older than named ports. An agent takes no definition
// with a field that it doesn't know, and so nothing of this one.
func knowsNoPorts(status int, answer []byte) bool {
	return status == http.StatusBadRequest && bytes.Contains(answer, []byte(`unknown field "Ports"`))
}

// noNamedPorts says of such an agent what it is and what would help.
func (c *Client) noNamedPorts(ctx context.Context) string {
	return "Consul" + c.version(ctx) + " knows no named ports: ports needs Consul " + contract.NamedPortsSince +
		" or newer, of the agents and the servers; until then give the service one port"
}

// version of the agent, after a space, as far as it tells: it is asked only for a message. Any token may ask, but agents older
// than 1.16 have no answer.
func (c *Client) version(ctx context.Context) string {
	var build struct{ HumanVersion string }
	_, err := c.api.Raw().Query("/v1/agent/version", &build, c.query(ctx))
	version := strings.TrimSpace(build.HumanVersion)
	if err != nil || version == "" || registration.HasControl(version) {
		return ""
	}
	return " " + truncate(registration.Truncate(version, maxVersion))
}

// maxVersion is as much of a version as a message quotes, in bytes.
const maxVersion = 32
