package consul

import (
	"testing"

	"github.com/hashicorp/consul/api"

	"github.com/agentlet/agentlet/agentlet"
	"github.com/agentlet/agentlet/agentlet/contract"
)

// TestNotesAreFoundAgain holds the format of the notes: what a registration writes is what a later agentlet reads.
func TestNotesAreFoundAgain(t *testing.T) {
	const maintenance = contract.MaintenanceOutput + "compaction; sync 3; maintenance: twice"
	for name, c := range map[string]struct{ generation, maintenance string }{
		"as a rule": {"", ""}, "synced again": {"12", ""}, "in maintenance": {"", maintenance}, "both": {"12", maintenance},
	} {
		t.Run(name, func(t *testing.T) {
			d := agentlet.Definition{ID: "web", Maintenance: c.maintenance}
			if c.generation != "" {
				d.Meta = map[string]string{contract.MetaSyncGeneration: c.generation}
			}
			if got := fingerprintIn(heartbeatNotesOf(d)); got != d.Fingerprint() || got == "" {
				t.Errorf("%q has the fingerprint %q, want %q", heartbeatNotesOf(d), got, d.Fingerprint())
			}
			if got := maintenanceIn(&api.AgentCheck{Status: api.HealthCritical, Notes: readinessNotesOf(d)}); got != c.maintenance {
				t.Errorf("%q tells of the maintenance %q, want %q", readinessNotesOf(d), got, c.maintenance)
			}
			if readinessNotesOf(d) == "" || (readinessNotesOf(d) == readinessNotes) != (c.generation+c.maintenance == "") {
				t.Errorf("the readiness check's notes are %q", readinessNotesOf(d))
			}
		})
	}
}

func TestMaintenanceOfACheck(t *testing.T) {
	const mark = contract.MaintenanceOutput
	for name, c := range map[string]struct {
		check api.AgentCheck
		want  string
	}{
		"told by its output":              {api.AgentCheck{Status: "critical", Output: mark + "a", Notes: mark + "b"}, mark + "a"},
		"told by its notes alone":         {api.AgentCheck{Status: "critical", Notes: "sync 3; " + mark + "b"}, mark + "b"},
		"over":                            {api.AgentCheck{Status: "passing", Output: mark + "a", Notes: mark + "b"}, ""},
		"critical for another reason now": {api.AgentCheck{Status: "critical", Output: "not ready", Notes: mark + "b"}, ""},
		"none":                            {api.AgentCheck{Status: "critical", Notes: readinessNotes}, ""},
		"an older agentlet's":             {api.AgentCheck{Status: "critical", Output: mark + "a", Notes: "nudge 2; " + readinessNotes}, mark + "a"},
	} {
		t.Run(name, func(t *testing.T) {
			if got := maintenanceIn(&c.check); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
		})
	}
}

func TestFingerprintOfAnOlderAgentlet(t *testing.T) {
	if got := fingerprintIn("nudge 7; passes while the pod's agentlet lives; definition 12ab34cd"); got != "12ab34cd" {
		t.Errorf("%q", got)
	}
}
