package consul

import (
	"strings"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
)

// The notes of the registrar's own two checks carry what has to be found again: they are part of the registration, so that the
// agent keeps them, and the catalog shows them.
const (
	// heartbeatNotes are followed by the definition's fingerprint.
	heartbeatNotes = "passes while the pod's agentlet lives; definition "
	readinessNotes = "the readiness of the pod's containers"
)

// withSync begins notes where the agent is to sync again: it syncs a check that has changed, and takes one that is put as it was
// for synced, though it may have failed to.
func withSync(d agentlet.Definition, notes string) string {
	n := d.Meta[contract.MetaSyncGeneration]
	switch {
	case n == "":
		return notes
	case notes == "":
		return "sync " + n
	}
	return "sync " + n + "; " + notes
}

// heartbeatNotesOf are the heartbeat check's.
func heartbeatNotesOf(d agentlet.Definition) string {
	return withSync(d, heartbeatNotes+d.Fingerprint())
}

// fingerprintIn is the one in a heartbeat check's notes; empty where they are somebody else's.
func fingerprintIn(notes string) string {
	_, fingerprint, _ := strings.Cut(notes, heartbeatNotes)
	return fingerprint
}

// readinessNotesOf are the readiness check's. They tell of a maintenance, since an agent with discard_check_output
// keeps no output that could.
func readinessNotesOf(d agentlet.Definition) string {
	if d.Maintenance != "" {
		return withSync(d, d.Maintenance)
	}
	return withSync(d, readinessNotes)
}

// maintenanceIn is the maintenance that a readiness check tells of: by its output, and by its notes where the agent has
// discarded that.
func maintenanceIn(check *api.AgentCheck) string {
	if check.Status != api.HealthCritical {
		return ""
	}
	if check.Output != "" {
		return fromMark(check.Output, 0)
	}
	return maintenanceInNotes(check.Notes)
}

// maintenanceInNotes is the one that a readiness check's notes tell of, whatever its status is.
func maintenanceInNotes(notes string) string {
	return fromMark(notes, strings.Index(notes, contract.MaintenanceOutput))
}

func fromMark(text string, at int) string {
	if at >= 0 && strings.HasPrefix(text[at:], contract.MaintenanceOutput) {
		return text[at:]
	}
	return ""
}
