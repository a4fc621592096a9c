package contract

import "time"

// Status is what /status shows: the own registration, nothing else and nothing secret.
type Status struct {
	Namespace string          `json:"namespace"`
	Pod       string          `json:"pod"`
	UID       string          `json:"uid"`
	Node      string          `json:"node"`
	Consul    string          `json:"consul"`
	Gate      GateStatus      `json:"gate"`
	Services  []ServiceStatus `json:"services"`
	// CatalogReadAt is when the catalog was last read; nil before it was.
	CatalogReadAt *time.Time `json:"catalogReadAt,omitempty"`
	Errors        string     `json:"errors,omitempty"`
	Phase         string     `json:"phase"` // starting, running, draining, drained
	ReadySince    *time.Time `json:"readySince,omitempty"`
	// Maintenance and Tags are what the application has said of itself by the local API.
	Maintenance string            `json:"maintenance,omitempty"`
	Tags        []string          `json:"tags,omitempty"`
	Failing     map[string]string `json:"failing,omitempty"` // what is being tried again, and why
}

// GateStatus is the gate as the agentlet wants it.
type GateStatus struct {
	Open    bool   `json:"open"`
	Reason  Reason `json:"reason"`
	Message string `json:"message,omitempty"`
}

// ServiceStatus is one service.
type ServiceStatus struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Address string `json:"address"`
	// Port is 0 for a service without one. With named ports it is the default one's.
	Port int `json:"port"`
	// Agent is "present", "absent" or "unknown".
	Agent string `json:"agent"`
	// Readiness is the readiness check's health at the agent, Catalog the instance's in the catalog when last read.
	Readiness Health `json:"readiness,omitempty"`
	Catalog   Health `json:"catalog,omitempty"`
	// Failing are the checks in the catalog that are not passing, beside the registrar's own two.
	Failing string `json:"failing,omitempty"`
}
