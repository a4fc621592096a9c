// Package prometheus runs Debian's Prometheus: promtool for the alerts, the server for scenarios.
package prometheus

import (
	"context"
	"os/exec"
	"path/filepath"

	"github.com/agentlet/agentlet/e2e/toolchain"
)

// Programs are the paths of Prometheus' two programs.
type Programs struct{ Server, Promtool string }

// Find returns the installed programs, or else those of Debian's package, a download of 20 MB. The error is
// toolchain.ErrNotDebian if there is no such package either.
func Find(ctx context.Context) (Programs, error) {
	if server, err := exec.LookPath("prometheus"); err == nil {
		if promtool, err := exec.LookPath("promtool"); err == nil {
			return Programs{server, promtool}, nil
		}
	}
	dir, err := toolchain.Debian(ctx, "prometheus")
	return Programs{filepath.Join(dir, "usr/bin/prometheus"), filepath.Join(dir, "usr/bin/promtool")}, err
}
