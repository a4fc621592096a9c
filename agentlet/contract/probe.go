package contract

// AgentProbe is what `agentlet probe-consul` finds out about the node's Consul agent before anything is installed. It prints it
// as JSON, and `kubectl agentlet check --pre --probe-nodes` reads it.
type AgentProbe struct {
	// Error is why no Consul agent was found; the other fields are empty then.
	Error string `json:"error,omitempty"`
	// Leader is the cluster leader's address, empty if the agent knows none.
	Leader string `json:"leader,omitempty"`
	// NeedsToken is set if the agent's ACL system keeps its configuration from whoever has no token.
	NeedsToken bool `json:"needsToken,omitempty"`
	// Version, Name and LeavesOnTerminate are of the agent's configuration; Version is empty if it needs a token.
	Version           string `json:"version,omitempty"`
	Name              string `json:"name,omitempty"`
	LeavesOnTerminate bool   `json:"leavesOnTerminate,omitempty"`
	// InCatalog says whether the catalog has a node with the asked address; nil if it could not be read.
	InCatalog *bool `json:"inCatalog,omitempty"`
}
